//! Container images: what one is for, and how it is named.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// What an image is for. As text `postgres-17`, `redis`, `haproxy`, `clients`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ImageUse {
    /// A PostgreSQL server of this major version.
    Postgres(u16),
    /// A Redis server with TLS compiled in.
    Redis,
    /// HAProxy, as the TLS-passthrough gateway.
    Haproxy,
    /// Clients, as a pod of the application has them: Python with psycopg2 and redis-py, and openssl.
    Clients,
}

/// The start of the environment variables that name images; an [`ImageUse::variable`] follows.
pub const IMAGE_VARIABLE: &str = "MTLS_CONFORMANCE_IMAGE_";

impl ImageUse {
    /// The environment variable that names its image, such as `MTLS_CONFORMANCE_IMAGE_POSTGRES_17`.
    #[must_use]
    pub fn variable(self) -> String {
        format!("{IMAGE_VARIABLE}{}", self.to_string().replace('-', "_").to_uppercase())
    }

    /// The use whose environment variable this is.
    #[must_use]
    pub fn of_variable(variable: &str) -> Option<Self> {
        let image_use: Self = variable.strip_prefix(IMAGE_VARIABLE)?.replace('_', "-").to_lowercase().parse().ok()?;
        (image_use.variable() == variable).then_some(image_use)
    }
}

impl fmt::Display for ImageUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres(major) => write!(f, "postgres-{major}"),
            Self::Redis => f.write_str("redis"),
            Self::Haproxy => f.write_str("haproxy"),
            Self::Clients => f.write_str("clients"),
        }
    }
}

/// A text that names no [`ImageUse`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is nothing that an image is for: expected postgres-MAJOR such as postgres-17, redis, haproxy or clients")]
pub struct UnknownUse(String);

impl FromStr for ImageUse {
    type Err = UnknownUse;

    fn from_str(text: &str) -> Result<Self, UnknownUse> {
        match text {
            "redis" => Ok(Self::Redis),
            "haproxy" => Ok(Self::Haproxy),
            "clients" => Ok(Self::Clients),
            _ => {
                let image_use = text.strip_prefix("postgres-").and_then(|major| major.parse().ok()).map(Self::Postgres);
                // Writing it again refuses `postgres-017` and `postgres-+17`.
                image_use.filter(|image_use| image_use.to_string() == text).ok_or_else(|| UnknownUse(text.to_owned()))
            }
        }
    }
}

/// A name that a container engine knows an image by: `[HOST[:PORT]/]NAME[:TAG][@sha256:DIGEST]`, by the grammar of the
/// [distribution reference](https://github.com/distribution/reference/blob/main/reference.go).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageReference {
    name: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl ImageReference {
    /// Host and name, such as `postgres` or `registry.example/mirror/postgres`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tag, such as `17.6`. Engines take `latest` where neither tag nor digest stands.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest with its algorithm, such as `sha256:00bc...`. Where one stands, engines pay no heed to the tag.
    #[must_use]
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl Serialize for ImageReference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A text that names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no image's name: {fault}; expected [HOST[:PORT]/]NAME[:TAG][@sha256:DIGEST], such as postgres:17")]
pub struct ReferenceError {
    /// The text as it was given.
    text: String,
    /// What is wrong with it. Part of the message, so it is no source.
    fault: ReferenceFault,
}

/// What keeps a text from being an [`ImageReference`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum ReferenceFault {
    #[error("it is empty")]
    Empty,
    #[error("it holds {0:?}")]
    Character(char),
    #[error("a name has no scheme: leave `{0}://` out")]
    Scheme(String),
    #[error("`{0}` is no tag")]
    Tag(String),
    #[error("`{0}` is no digest: it is `sha256:` and {DIGEST_DIGITS} hexadecimal digits in lower case")]
    Digest(String),
    #[error("the name is longer than {LONGEST_NAME} characters")]
    TooLong,
    #[error("`{0}` is no host")]
    Host(String),
    #[error("a part of the name is empty")]
    EmptyPart,
    #[error("`{0}` has capital letters")]
    Capitals(String),
    #[error("`{0}` is no part of a name: letters and digits, with single `.`, `_`, `__` or any number of `-` between them")]
    Part(String),
}

/// The longest name that the reference grammar allows, in characters.
const LONGEST_NAME: usize = 255;
/// The longest tag that the reference grammar allows, in characters.
const LONGEST_TAG: usize = 128;
/// Hexadecimal digits of a SHA-256 digest.
const DIGEST_DIGITS: usize = 64;

impl FromStr for ImageReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        parse(text).map_err(|fault| ReferenceError { text: text.to_owned(), fault })
    }
}

fn parse(text: &str) -> Result<ImageReference, ReferenceFault> {
    if text.is_empty() {
        return Err(ReferenceFault::Empty);
    }
    if let Some(odd) = text.chars().find(|it| !it.is_ascii_graphic()) {
        return Err(ReferenceFault::Character(odd));
    }
    if let Some((scheme, _)) = text.split_once("://") {
        return Err(ReferenceFault::Scheme(scheme.to_owned()));
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    // A colon before the last slash is a port's.
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    check_name(name)?;
    if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
        return Err(ReferenceFault::Tag(tag.to_owned()));
    }
    if let Some(digest) = digest.filter(|digest| !is_digest(digest)) {
        return Err(ReferenceFault::Digest(digest.to_owned()));
    }
    Ok(ImageReference { name: name.to_owned(), tag: tag.map(str::to_owned), digest: digest.map(str::to_owned) })
}

fn check_name(name: &str) -> Result<(), ReferenceFault> {
    if name.len() > LONGEST_NAME {
        return Err(ReferenceFault::TooLong);
    }
    let path = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => {
            if !is_host(host) {
                return Err(ReferenceFault::Host(host.to_owned()));
            }
            path
        }
        _ => name,
    };
    match path.split('/').find(|part| !is_name_part(part)) {
        None => Ok(()),
        Some("") => Err(ReferenceFault::EmptyPart),
        Some(part) if part.contains(|it: char| it.is_ascii_uppercase()) => Err(ReferenceFault::Capitals(part.to_owned())),
        Some(part) => Err(ReferenceFault::Part(part.to_owned())),
    }
}

fn is_host(host: &str) -> bool {
    let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    let is_label = |label: &str| {
        !label.is_empty()
            && label.chars().all(|it| it.is_ascii_alphanumeric() || it == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.split('.').all(is_label) && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn is_name_part(part: &str) -> bool {
    let is_word = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit();
    // What stands between the words; the first and the last are outside of them.
    let mut between = part.split(is_word);
    let inside = between.next() == Some("") && between.next_back() == Some("");
    inside && between.all(|text| matches!(text, "" | "." | "_" | "__") || text.chars().all(|it| it == '-'))
}

fn is_tag(tag: &str) -> bool {
    let is_word = |it: char| it.is_ascii_alphanumeric() || it == '_';
    tag.len() <= LONGEST_TAG && tag.starts_with(is_word) && tag.chars().all(|it| is_word(it) || matches!(it, '.' | '-'))
}

fn is_digest(digest: &str) -> bool {
    digest
        .strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == DIGEST_DIGITS && hex.chars().all(|it| matches!(it, '0'..='9' | 'a'..='f')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_and_their_variables_are_read_as_they_are_written() {
        for image_use in [ImageUse::Postgres(9), ImageUse::Postgres(17), ImageUse::Redis, ImageUse::Haproxy, ImageUse::Clients] {
            assert_eq!(image_use.to_string().parse(), Ok(image_use));
            assert_eq!(ImageUse::of_variable(&image_use.variable()), Some(image_use));
        }
        assert_eq!(ImageUse::Postgres(17).variable(), "MTLS_CONFORMANCE_IMAGE_POSTGRES_17");
        for bad in ["postgres", "postgres-", "postgres-017", "postgres-+17", "postgres-17.6", "postgres-99999", "Redis", "redis-7", ""] {
            assert!(bad.parse::<ImageUse>().is_err(), "{bad}");
        }
        for bad in ["MTLS_CONFORMANCE_IMAGE_", "MTLS_CONFORMANCE_IMAGE_postgres_17", "MTLS_CONFORMANCE_IMAGE_POSTGRES17", "IMAGE_REDIS"] {
            assert_eq!(ImageUse::of_variable(bad), None, "{bad}");
        }
        assert_eq!(
            "pg-17".parse::<ImageUse>().expect_err("unknown").to_string(),
            "`pg-17` is nothing that an image is for: expected postgres-MAJOR such as postgres-17, redis, haproxy or clients"
        );
    }

    const DIGEST: &str = "sha256:00bc86618629af00d2937fdc5a5d63db3ff8450acf52f0636ec813c7f4902929";

    /// Name, tag and digest of a reference that is written again as it was read.
    fn parts(text: &str) -> (String, Option<String>, Option<String>) {
        let reference: ImageReference = text.parse().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(reference.to_string(), text);
        (reference.name().to_owned(), reference.tag().map(str::to_owned), reference.digest().map(str::to_owned))
    }

    #[test]
    fn a_reference_is_taken_apart() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(parts("postgres"), ("postgres".to_owned(), None, None));
        assert_eq!(parts(&format!("postgres:17.6@{DIGEST}")), ("postgres".to_owned(), some("17.6"), some(DIGEST)));
        assert_eq!(parts("a__b/c---d"), ("a__b/c---d".to_owned(), None, None));
        assert_eq!(parts("localhost:5000/me/postgres"), ("localhost:5000/me/postgres".to_owned(), None, None));
        assert_eq!(parts("Registry.example:443/postgres:17_x-Y"), ("Registry.example:443/postgres".to_owned(), some("17_x-Y"), None));
    }

    #[test]
    fn what_is_no_reference_is_refused_with_the_part_that_is_wrong() {
        for (bad, reason) in [
            ("", "it is empty"),
            ("postgres 17", "it holds ' '"),
            ("https://registry.example/postgres", "leave `https://` out"),
            ("Postgres:17", "`Postgres` has capital letters"),
            ("me//postgres", "a part of the name is empty"),
            ("postgres/", "a part of the name is empty"),
            (":17", "a part of the name is empty"),
            ("-postgres", "`-postgres` is no part of a name"),
            ("post..gres", "`post..gres` is no part of a name"),
            ("registry.example:port/postgres", "`registry.example:port` is no host"),
            ("registry-.example/postgres", "`registry-.example` is no host"),
            ("postgres:", "`` is no tag"),
            ("postgres:-17", "`-17` is no tag"),
            ("postgres@sha256:00bc", "`sha256:00bc` is no digest"),
            ("postgres@17", "`17` is no digest"),
            (&format!("postgres@{DIGEST}:17"), "is no digest"),
            (&format!("postgres@{}", DIGEST.replace('b', "B")), "is no digest"),
        ] {
            let error = bad.parse::<ImageReference>().expect_err(bad).to_string();
            assert!(error.contains(reason), "{error}");
            assert!(error.ends_with("such as postgres:17"), "{error}");
        }
    }
}
