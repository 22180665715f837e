//! Texts of a scenario to typed values: `${axis}` replaced, names parsed, every error at the text's place.

use std::collections::BTreeMap;
use std::path::Path;

use indexmap::IndexMap;

use super::env::first_clash;
use load::{LoadError, Place, yaml};
use model::case::{ConnectPlan, DEFAULT_IDENTITY, DEFAULT_TRUST, Expectation, Expected, PasswordChoice, SessionExpectation};
use model::connect::{RedisTls, SslMode, SslNegotiation, TlsVersion};
use model::network::{REFERENCES, Source, SourceError, check_reference};
use model::refusal::Refusal;
use model::scenario::{Connect, Expect, SessionExpect};
use model::server::Service;
use model::text::{Scalar, Text, Texts};

/// What is wrong with an expectation of a failure without a class that says no more.
pub(crate) const UNCLASSIFIED_ALONE: &str = "`unclassified` alone can't be expected: any failure would do; name the class that is meant, or \
     give the client's own words as `text`";

/// What is said of a row with none of these, or with several.
const ONE_EXPECTATION: &str = "an expectation has exactly one of `session`, `refused`, `objection` and `output`";

/// Axis name to (value's short name, what `${axis}` stands for).
pub(crate) type Cell = IndexMap<String, (String, String)>;

/// What a connection uses that names no identity or trust.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Defaults {
    pub(crate) identity: &'static str,
    pub(crate) trust: &'static str,
}

impl Default for Defaults {
    /// The deployment's own client.
    fn default() -> Self {
        Self { identity: DEFAULT_IDENTITY, trust: DEFAULT_TRUST }
    }
}

/// Resolves the texts of one file for one cell of its matrix.
pub(crate) struct Resolver<'a> {
    pub(crate) file: &'a Path,
    pub(crate) cell: &'a Cell,
    pub(crate) service: Service,
    /// What `${mount}` stands for.
    pub(crate) mount: &'a str,
}

impl Resolver<'_> {
    pub(crate) fn error(&self, text: &Text, message: impl Into<String>) -> LoadError {
        LoadError::new(Place::at(self.file, text.place()), message)
    }

    /// The text with `${axis}` replaced, where nothing else can be referred to.
    pub(crate) fn text(&self, text: &Text) -> Result<String, LoadError> {
        let resolved = self.replaced(text)?;
        if let Some(reference) = references(&resolved).next() {
            return Err(self.error(text, format!("`${{{reference}}}` can't stand here: only `${{axis}}` can")));
        }
        Ok(resolved)
    }

    /// The text with `${axis}` replaced, where networks can be referred to: the run fills those in.
    pub(crate) fn networked(&self, text: &Text) -> Result<String, LoadError> {
        let resolved = self.replaced(text)?;
        for reference in references(&resolved) {
            let Some(checked) = check_reference(reference) else {
                return Err(self.error(text, format!("`${{{reference}}}` can't stand here: write an axis, {REFERENCES}")));
            };
            checked.map_err(|error| self.error(text, error.to_string()))?;
        }
        Ok(resolved)
    }

    /// The text with `${axis}` and `${mount}` replaced. `${a:b}` is left as it is, for the caller to check.
    pub(crate) fn replaced(&self, text: &Text) -> Result<String, LoadError> {
        if let Scalar::Bool(value) = text.0.value
            && let Some(error) = yaml::unquoted_boolean(&Place::at(self.file, text.place()), value)
        {
            return Err(error);
        }
        let raw = text.raw();
        let mut out = String::with_capacity(raw.len());
        let mut rest = raw.as_str();
        while let Some(start) = rest.find("${") {
            out.push_str(&rest[..start]);
            let after = &rest[start + 2..];
            let Some(end) = after.find('}') else {
                return Err(self.error(text, format!("`${{` without `}}` in {raw:?}")));
            };
            let name = &after[..end];
            if name.contains(':') {
                out.push_str(&rest[start..start + 2 + end + 1]);
            } else if let Some((_, value)) = self.cell.get(name) {
                out.push_str(value);
            } else if name == "mount" {
                out.push_str(self.mount);
            } else {
                let axes: Vec<&str> = self.cell.keys().map(String::as_str).collect();
                return Err(self.error(text, format!("no axis `{name}` for `${{{name}}}`: the axes are {}", axes.join(", "))));
            }
            rest = &after[end + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }

    pub(crate) fn optional(&self, text: Option<&Text>) -> Result<Option<String>, LoadError> {
        text.map(|text| self.text(text)).transpose()
    }

    /// The text, where there is one, as [`Resolver::networked`] gives it.
    pub(crate) fn optional_networked(&self, text: Option<&Text>) -> Result<Option<String>, LoadError> {
        text.map(|text| self.networked(text)).transpose()
    }

    /// Every text, as [`Resolver::networked`] gives it; none where there is no list.
    pub(crate) fn all_networked(&self, texts: Option<&Texts>) -> Result<Vec<String>, LoadError> {
        texts.map_or(Ok(Vec::new()), |texts| texts.0.iter().map(|text| self.networked(text)).collect())
    }

    /// A text that names one of a fixed set of values.
    fn named<T: Copy>(&self, text: Option<&Text>, allowed: &[(&str, T)], default: T) -> Result<T, LoadError> {
        let Some(text) = text else { return Ok(default) };
        let value = self.text(text)?;
        allowed.iter().find(|(name, _)| *name == value).map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<&str> = allowed.iter().map(|(name, _)| *name).collect();
            self.error(text, format!("`{value}` is not one of {}", names.join(", ")))
        })
    }

    fn tls_version(&self, text: Option<&Text>) -> Result<Option<TlsVersion>, LoadError> {
        let versions = [TlsVersion::V1_0, TlsVersion::V1_1, TlsVersion::V1_2, TlsVersion::V1_3];
        let mut allowed: Vec<(&str, Option<TlsVersion>)> = versions.iter().map(|version| (version.name(), Some(*version))).collect();
        allowed.push(("unset", None));
        self.named(text, &allowed, None)
    }

    /// The connection that `connect` asks for; fields of `over` come first where they are set (a control over its step).
    pub(crate) fn connect(&self, connect: &Connect, over: Option<&Connect>, defaults: Defaults) -> Result<ConnectPlan, LoadError> {
        macro_rules! field {
            ($name:ident) => {
                over.and_then(|over| over.$name.as_ref()).or(connect.$name.as_ref())
            };
        }
        let mut modes: Vec<(&str, Option<SslMode>)> = SslMode::ALL.iter().map(|mode| (mode.name(), Some(*mode))).collect();
        modes.push(("unset", None));
        let negotiations = [("postgres", Some(SslNegotiation::Postgres)), ("direct", Some(SslNegotiation::Direct)), ("unset", None)];
        let tls = [
            ("off", Some(RedisTls::Off)),
            ("no-verify", Some(RedisTls::NoVerify)),
            ("verify-ca", Some(RedisTls::VerifyCa)),
            ("verify-full", Some(RedisTls::VerifyFull)),
        ];
        let passwords = [("right", PasswordChoice::Right), ("wrong", PasswordChoice::Wrong), ("none", PasswordChoice::None)];
        let default_password = if self.service == Service::Redis { PasswordChoice::Right } else { PasswordChoice::None };
        self.only_for(
            Service::Postgres,
            &[
                field!(sslmode),
                field!(sslnegotiation),
                field!(user),
                field!(database),
                field!(transport),
                field!(alpn),
                field!(replication),
            ],
        )?;
        self.only_for(Service::Redis, &[field!(tls), field!(port)])?;
        let driver = match field!(driver) {
            Some(text) => self.text(text)?,
            None => self.cell.get("driver").map(|(name, _)| name.clone()).unwrap_or_default(),
        };
        let name_or_none = |text: Option<&Text>, default: &str| -> Result<Option<String>, LoadError> {
            let name = self.optional(text)?.unwrap_or_else(|| default.to_owned());
            Ok((name != "none").then_some(name))
        };
        let source = match field!(source) {
            None => None,
            Some(text) => Some(self.source(text)?),
        };
        let unix = self.named(field!(transport), &[("tcp", false), ("unix", true)], false)?;
        let gateway = self.named(field!(via), &[("server", false), ("gateway", true)], false)?;
        if unix {
            self.none_over_unix(&[("host", field!(host)), ("source", field!(source)), ("via", field!(via).filter(|_| gateway))])?;
        }
        let plaintext_port = self.named(field!(port), &[("tls", false), ("plaintext", true)], false)?;
        if let (true, true, Some(text)) = (plaintext_port, gateway, field!(port)) {
            return Err(self.error(text, "the gateway leads to the TLS port alone: `port: plaintext` goes with `via: server`"));
        }
        let env = over.and_then(|over| over.env.as_ref()).or(connect.env.as_ref());
        let plan = ConnectPlan {
            driver,
            sslmode: self.named(field!(sslmode), &modes, None)?,
            sslnegotiation: self.named(field!(sslnegotiation), &negotiations, None)?,
            tls: self.named(field!(tls), &tls, None)?,
            identity: name_or_none(field!(identity), defaults.identity)?,
            trust: name_or_none(field!(trust), defaults.trust)?,
            host: self.optional(field!(host))?,
            user: self.optional(field!(user))?,
            database: self.optional(field!(database))?,
            password: self.named(field!(password), &passwords, default_password)?,
            source,
            unix,
            min_tls: self.tls_version(field!(min_tls))?,
            max_tls: self.tls_version(field!(max_tls))?,
            alpn: self.alpn(field!(alpn))?,
            replication: self.named(field!(replication), &[("true", true), ("false", false)], false)?,
            plaintext_port,
            gateway,
            env: match env {
                Some(env) => env.iter().map(|(name, text)| Ok((name.clone(), self.replaced(text)?))).collect::<Result<_, LoadError>>()?,
                None => BTreeMap::new(),
            },
        };
        match env.and_then(|env| first_clash(self.service, env, &plan)) {
            Some((text, clash)) => Err(self.error(text, clash.to_string())),
            None => Ok(plan),
        }
    }

    fn only_for(&self, service: Service, fields: &[Option<&Text>]) -> Result<(), LoadError> {
        match fields.iter().flatten().next() {
            Some(text) if self.service != service => {
                let other = if service == Service::Postgres { "a PostgreSQL" } else { "a Redis" };
                Err(self.error(text, format!("this field is only for {other} scenario (`service:`)")))
            }
            _ => Ok(()),
        }
    }

    /// What no driver could follow over a unix socket.
    fn none_over_unix(&self, fields: &[(&str, Option<&Text>)]) -> Result<(), LoadError> {
        match fields.iter().find_map(|(field, text)| Some((field, (*text)?))) {
            Some((field, text)) => Err(self.error(
                text,
                format!(
                    "`{field}` has no meaning with `transport: unix`: a unix socket has no host name, no address and no gateway; leave one \
                     of the two out, or `exclude` the cells of the matrix that have both"
                ),
            )),
            None => Ok(()),
        }
    }

    fn source(&self, text: &Text) -> Result<Source, LoadError> {
        self.text(text)?.parse().map_err(|error: SourceError| self.error(text, error.to_string()))
    }

    fn alpn(&self, text: Option<&Text>) -> Result<Option<Vec<String>>, LoadError> {
        Ok(self.optional(text)?.and_then(|value| match value.as_str() {
            "unset" => None,
            "none" => Some(Vec::new()),
            list => Some(list.split(',').map(|protocol| protocol.trim().to_owned()).collect()),
        }))
    }

    /// One row of `expect`. `place` is the row's own.
    pub(crate) fn expectation(&self, row: &Expect, place: (u64, u64)) -> Result<Expectation, LoadError> {
        let at_row = |message: &str| LoadError::new(Place::at(self.file, place), message);
        let expected = match (&row.session, &row.refused, &row.output) {
            (None, None, None) if row.objection.is_some() => self.objection(row, place)?,
            _ if row.objection.is_some() => return Err(at_row(ONE_EXPECTATION)),
            (Some(session), None, None) => Expected::Session(self.session(session)?),
            (None, Some(refused), None) => {
                let classes = refused.classes();
                if classes.is_empty() {
                    return Err(at_row("`refused` needs at least one class, such as `{alert: unknown-ca}`"));
                }
                if any_unclassified(classes) && !self.says_something(row.text.as_ref())? {
                    return Err(at_row(UNCLASSIFIED_ALONE));
                }
                Expected::Refused(classes.to_vec())
            }
            (None, None, Some(_)) | (None, None, None) if row.output.is_some() || row.status.is_some() => {
                Expected::Output { lines: self.outputs(row.output.as_ref())?, status: row.status.unwrap_or(0) }
            }
            _ => return Err(at_row(ONE_EXPECTATION)),
        };
        if row.status.is_some() && !matches!(expected, Expected::Output { .. }) {
            return Err(at_row("`status` goes with `output`"));
        }
        if !row.settings.is_empty() && matches!(expected, Expected::Output { .. }) {
            return Err(at_row("`settings` goes with `session` and `refused`"));
        }
        if (row.stage.is_some() || row.text.is_some()) && !matches!(expected, Expected::Refused(_)) {
            return Err(at_row("`stage` and `text` go with `refused`"));
        }
        Ok(Expectation {
            expected,
            stage: row.stage,
            text: self.optional_networked(row.text.as_ref())?,
            server_log: self.all_networked(row.server_log.as_ref())?,
            wire: row.wire.clone(),
            settings: self.settings(row)?,
        })
    }

    /// A row of a server that does not start. No client and no wire is there to say more.
    fn objection(&self, row: &Expect, place: (u64, u64)) -> Result<Expected, LoadError> {
        let at_row = |message: String| LoadError::new(Place::at(self.file, place), message);
        let beside = [
            ("stage", row.stage.is_some()),
            ("text", row.text.is_some()),
            ("server_log", row.server_log.is_some()),
            ("wire", row.wire.is_some()),
            ("settings", !row.settings.is_empty()),
            ("status", row.status.is_some()),
        ];
        if let Some((field, _)) = beside.iter().find(|(_, there)| *there) {
            return Err(at_row(format!(
                "`{field}` has no meaning beside `objection`: the server does not start, so that nobody connects; its words stand in \
                 `objection` itself"
            )));
        }
        let texts = self.all_networked(row.objection.as_ref())?;
        if texts.is_empty() || texts.iter().any(|text| text.trim().is_empty()) {
            return Err(at_row("`objection` needs the server's own words: any failure would do without them".to_owned()));
        }
        Ok(Expected::Objection(texts))
    }

    /// Whether there is a text that not every message holds.
    pub(crate) fn says_something(&self, text: Option<&Text>) -> Result<bool, LoadError> {
        Ok(self.optional_networked(text)?.is_some_and(|text| !text.trim().is_empty()))
    }

    /// The lines of a command's output, whose references the step checks.
    fn outputs(&self, texts: Option<&Texts>) -> Result<Vec<String>, LoadError> {
        texts.map_or(Ok(Vec::new()), |texts| texts.0.iter().map(|text| self.replaced(text)).collect())
    }

    fn settings(&self, row: &Expect) -> Result<BTreeMap<String, Option<String>>, LoadError> {
        let resolved = row.settings.iter().map(|(name, text)| {
            let value = self.text(text)?;
            Ok((name.clone(), (value != "none").then_some(value)))
        });
        resolved.collect()
    }

    fn session(&self, session: &SessionExpect) -> Result<SessionExpectation, LoadError> {
        let some_or_none = |text: Option<&Text>| -> Result<Option<Option<String>>, LoadError> {
            Ok(self.optional(text)?.map(|value| (value != "none").then_some(value)))
        };
        Ok(SessionExpectation {
            tls: session.tls,
            user: self.optional(session.user.as_ref())?,
            client_dn: some_or_none(session.client_dn.as_ref())?,
            version: session.version,
            alpn: some_or_none(session.alpn.as_ref())?,
            server_certificate: self.optional(session.server_certificate.as_ref())?,
        })
    }
}

/// Whether one of the classes is of failures that no class covers.
pub(crate) fn any_unclassified(classes: &[Refusal]) -> bool {
    classes.iter().any(|class| matches!(class, Refusal::Unclassified(_)))
}

/// What stands between each `${` of a text and its `}`.
pub(crate) fn references(text: &str) -> impl Iterator<Item = &str> {
    // The parts after the first begin behind a `${`.
    text.split("${").skip(1).filter_map(|part| part.split_once('}')).map(|(reference, _)| reference)
}
