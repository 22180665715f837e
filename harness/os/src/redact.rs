//! Keeps secrets out of everything that is written for people: reports, failure blocks, copied logs.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What stands in place of a secret.
pub const MASK: &str = "***";

/// Shorter secrets are not looked for: masking every `a` of a report hides nothing and ruins the report.
const SHORTEST: usize = 4;

/// Words of a configuration after which a password stands: of redis.conf, at a line's beginning.
const REDIS_SECRETS: [&str; 6] =
    ["requirepass", "masterauth", "primaryauth", "tls-key-file-pass", "tls-client-key-file-pass", "tls-key-file-password"];

/// Options of pg_hba.conf and of connection strings that are secret, with `=` behind them.
const OPTION_SECRETS: [&str; 4] = ["ldapbindpasswd", "radiussecrets", "sslpassword", "password"];

const KEY_BEGIN: &str = "-----BEGIN ";
const KEY_LABEL: &str = "PRIVATE KEY-----";
const KEY_END: &str = "-----END ";

/// A list of secrets, and the means to replace them. PEM private keys are replaced without being listed.
#[derive(Clone, Default)]
pub struct Redactor {
    /// Longest first, so that a secret that holds another one is replaced whole.
    secrets: Vec<String>,
    /// The same, as they stand inside a JSON string.
    escaped: Vec<String>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} secrets)", self.secrets.len())
    }
}

impl Redactor {
    /// A redactor of these secrets; those shorter than four bytes are left out.
    pub fn new(secrets: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut secrets: Vec<String> = secrets.into_iter().map(Into::into).filter(|secret: &String| secret.len() >= SHORTEST).collect();
        secrets.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        secrets.dedup();
        let escaped = secrets
            .iter()
            .map(|secret| {
                let quoted = Value::from(secret.as_str()).to_string();
                quoted[1..quoted.len() - 1].to_owned()
            })
            .collect();
        Self { secrets, escaped }
    }

    /// The text without secrets.
    #[must_use]
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for secret in &self.secrets {
            if text.contains(secret) {
                text = Cow::Owned(text.replace(secret, MASK));
            }
        }
        if text.contains(KEY_LABEL) {
            text = Cow::Owned(without_private_keys(&text));
        }
        text
    }

    /// Replaces secrets in every string of a JSON value; keys stay.
    pub fn value(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Cow::Owned(redacted) = self.text(text) {
                    *text = redacted;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.value(field)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// A record as one line of JSON, without secrets.
    ///
    /// # Errors
    ///
    /// Where the record can't be written as JSON.
    pub fn json_line<T: Serialize>(&self, record: &T) -> Result<String, serde_json::Error> {
        let line = serde_json::to_string(record)?;
        if !self.hits(&line) {
            return Ok(line);
        }
        // Replaced string by string, not in the line: a secret such as `true` or `1234` also occurs outside of strings.
        let mut value: Value = serde_json::from_str(&line)?;
        self.value(&mut value);
        serde_json::to_string(&value)
    }

    /// The same record without secrets in its strings.
    ///
    /// # Errors
    ///
    /// Where the record can't be written as JSON and read again.
    pub fn record<T: Serialize + DeserializeOwned>(&self, record: &T) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.json_line(record)?)
    }

    fn hits(&self, json: &str) -> bool {
        json.contains(KEY_LABEL) || self.escaped.iter().any(|secret| json.contains(secret.as_str()))
    }
}

/// The text of a configuration file, or of what a server tells of its settings, without the passwords that somebody wrote into it.
#[must_use]
pub fn without_passwords(text: &str) -> String {
    text.split_inclusive('\n').map(without_passwords_in_line).collect()
}

fn without_passwords_in_line(line: &str) -> String {
    let end = if line.ends_with('\n') { "\n" } else { "" };
    let mut words = line.split_whitespace();
    match words.next().map(str::to_ascii_lowercase) {
        Some(word) if REDIS_SECRETS.contains(&word.as_str()) && words.clone().next().is_some() => format!("{word} {MASK}{end}"),
        // An ACL user's passwords begin with `>`, their hashes with `#`, those to be removed with `<` and `!` (Redis, "ACL").
        Some(word) if word == "user" => {
            let rest = words.map(|word| if word.starts_with(['>', '#', '<', '!']) { MASK } else { word });
            format!("{}{end}", std::iter::once("user").chain(rest).collect::<Vec<_>>().join(" "))
        }
        _ => without_secret_options(line),
    }
}

/// Replaces the values of [`OPTION_SECRETS`]: up to the quote that the option or its value began with, else up to a space or a quote.
fn without_secret_options(line: &str) -> String {
    let mut kept = String::with_capacity(line.len());
    let mut rest = line;
    // ASCII lower case, so that places are the same in both.
    while let Some((place, option)) = OPTION_SECRETS
        .iter()
        .filter_map(|option| Some((rest.to_ascii_lowercase().find(&format!("{option}="))?, option.len() + 1)))
        .min_by_key(|(place, _)| *place)
    {
        let (before, value) = (&rest[..place], &rest[place + option..]);
        let is_quote = |c: &char| matches!(c, '"' | '\'');
        let around = before.chars().next_back().filter(is_quote);
        let (open, value) = match value.chars().next().filter(is_quote) {
            Some(_) if around.is_none() => value.split_at(1),
            _ => ("", value),
        };
        let end = match around.or(open.chars().next()) {
            Some(quote) => value.find(quote),
            None => value.find(|c: char| c.is_whitespace() || is_quote(&c)),
        };
        kept.push_str(&rest[..place + option]);
        kept.push_str(open);
        kept.push_str(MASK);
        rest = &value[end.unwrap_or(value.trim_end_matches('\n').len())..];
    }
    kept.push_str(rest);
    kept
}

/// Replaces everything from a private key's first line to its last line, or to the end of the text if there is none.
fn without_private_keys(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(label) = rest.find(KEY_LABEL) {
        let body = label + KEY_LABEL.len();
        // The END line of a key carries the same label: one without its beginning is left as it is.
        let Some(begin) = rest[..label].rfind(KEY_BEGIN) else {
            kept.push_str(&rest[..body]);
            rest = &rest[body..];
            continue;
        };
        kept.push_str(&rest[..begin]);
        kept.push_str(MASK);
        rest = &rest[body..];
        match rest.find(KEY_END).and_then(|end| rest[end..].find(KEY_LABEL).map(|label| end + label + KEY_LABEL.len())) {
            Some(end) => rest = &rest[end..],
            None => return kept,
        }
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_replaced_and_the_longest_first() {
        let redactor = Redactor::new(["hunter2", "hunter2-and-more", "", "abc"]);
        assert_eq!(redactor.text("user=app password=hunter2-and-more"), "user=app password=***");
        assert_eq!(redactor.text("hunter2 hunter2"), "*** ***");
        assert_eq!(redactor.text("abc is too short to be looked for"), "abc is too short to be looked for");
    }

    #[test]
    fn strings_of_a_record_are_replaced_also_where_json_escapes_them() {
        let redactor = Redactor::new(["pass\"word\n", "1234"]);
        let record = serde_json::json!({"text": "it was pass\"word\n!", "count": 1234, "list": ["x1234y"]});
        let line = redactor.json_line(&record).expect("is JSON");
        assert_eq!(line, r#"{"text":"it was ***!","count":1234,"list":["x***y"]}"#);
        let same: Value = redactor.record(&record).expect("is JSON");
        assert_eq!(same["text"], "it was ***!");
    }

    #[test]
    fn private_keys_are_replaced_without_being_listed() {
        let key = |label: &str| format!("-----BEGIN {label}PRIVATE KEY-----\nMIGH\n-----END {label}PRIVATE KEY-----");
        let certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----";
        let text = format!("{certificate}\n{}\nbetween\n{}\nafter", key("EC "), key(""));
        assert_eq!(Redactor::default().text(&text), format!("{certificate}\n***\nbetween\n***\nafter"));
        assert_eq!(Redactor::default().text("x -----BEGIN RSA PRIVATE KEY-----\nMIIE cut off"), "x ***");
        assert_eq!(Redactor::default().text("no beginning PRIVATE KEY----- here"), "no beginning PRIVATE KEY----- here");
    }

    #[test]
    fn passwords_of_a_configuration_are_replaced_and_nothing_else() {
        for (line, shown) in [
            ("requirepass hunter2\n", "requirepass ***\n"),
            ("tls-key-file-pass hunter2", "tls-key-file-pass ***"),
            ("requirepass\n", "requirepass\n"),
            ("user app on >hunter2 #0a1b ~* +@all\n", "user app on *** *** ~* +@all\n"),
            (
                "host all all 10.0.0.0/8 ldap ldapserver=x ldapbindpasswd=hunter2 ldaptls=1\n",
                "host all all 10.0.0.0/8 ldap ldapserver=x ldapbindpasswd=*** ldaptls=1\n",
            ),
            (
                "host all all all radius \"radiussecrets=hunter2,more words\" radiusports=1\n",
                "host all all all radius \"radiussecrets=***\" radiusports=1\n",
            ),
            ("primary_conninfo = 'host=x password=hunter2'\n", "primary_conninfo = 'host=x password=***'\n"),
            (r#"{"options":["ldapbindpasswd=hunter2","ldaptls=1"]}"#, r#"{"options":["ldapbindpasswd=***","ldaptls=1"]}"#),
            (r#"{"setting":"host=x PASSWORD='two words' user=y"}"#, r#"{"setting":"host=x PASSWORD='***' user=y"}"#),
            ("password=one password=two", "password=*** password=***"),
            ("password_encryption = scram-sha-256\nport 0\n", "password_encryption = scram-sha-256\nport 0\n"),
        ] {
            assert_eq!(without_passwords(line), shown);
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", Redactor::new(["hunter2"])), "Redactor(1 secrets)");
    }
}
