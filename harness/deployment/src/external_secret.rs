//! External Secrets' ExternalSecret (`external-secrets.io/v1`): how the Secret of a site's workers is made from the secrets provider.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use regex::Regex;
use serde::Deserialize;

use super::fields;
use super::source::Source;
use super::template::{Expression, TemplateError};
use load::{LoadError, Place};
use model::credential::SecretFile;
use model::duration;

/// The one field of a credential in the secrets provider, as the documents have it.
pub const FIELD: &str = "password";

/// The type of a Secret with a certificate and its key.
const TLS: &str = "kubernetes.io/tls";

/// Refreshed every hour if the object does not say.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(3600);

/// An ExternalSecret that makes a Secret with a certificate and its key.
#[derive(Debug, Clone)]
pub struct ExternalSecret {
    /// `metadata.name`, and the Secret's name where `spec.target` gives none.
    pub name: String,
    /// `metadata.namespace` in the cluster of the site; `None`: the one that it is applied to.
    pub namespace: Option<String>,
    /// How often the provider is asked.
    pub refresh_interval: Duration,
    /// The Secret that it makes.
    pub secret: String,
    /// Key of that Secret to the template of its text.
    pub template: BTreeMap<String, Expression>,
    /// The credentials that are taken from the provider.
    pub sources: Vec<Extraction>,
    /// The file, line and column of its name.
    pub place: Place,
}

/// One credential of the provider.
#[derive(Debug, Clone)]
pub struct Extraction {
    /// Its id in the provider: with us, the Secret of the global cluster that was copied there.
    pub key: String,
    /// What of that Secret was copied there.
    pub copied: Copied,
    /// What the template calls its field.
    pub field: String,
    /// Where its id stands.
    pub place: Place,
}

/// What of a Secret stands in a credential of the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    /// `tls.crt` and `tls.key`, one behind the other.
    CertificateAndKey,
    /// The text of `ca.crt`, for all sites the same.
    Ca,
}

impl ExternalSecret {
    /// The credential that holds this.
    #[must_use]
    pub fn source(&self, copied: Copied) -> Option<&Extraction> {
        self.sources.iter().find(|source| source.copied == copied)
    }
}

#[derive(Deserialize)]
struct Object {
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    refresh_interval: Option<String>,
    #[serde(default)]
    target: Target,
    #[serde(default)]
    data_from: Vec<DataFrom>,
}

#[derive(Default, Deserialize)]
struct Target {
    name: Option<String>,
    #[serde(default)]
    template: TemplateSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TemplateSpec {
    data: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct DataFrom {
    extract: Option<Extract>,
    #[serde(default)]
    rewrite: Vec<Rewrite>,
}

#[derive(Deserialize)]
struct Extract {
    key: String,
}

#[derive(Deserialize)]
struct Rewrite {
    regexp: Option<Regexp>,
}

#[derive(Deserialize)]
struct Regexp {
    source: String,
    target: String,
}

/// Whether it makes a Secret with a certificate: others don't bear on how clients connect. A volume shows the same files whatever the type.
pub(super) fn makes_tls_secret(source: &Source) -> bool {
    let template = ["spec", "target", "template"];
    let has = |file: SecretFile| source.text(&[&template[..], &["data", file.file_name()]].concat()).is_some();
    source.text(&[&template[..], &["type"]].concat()) == Some(TLS) || has(SecretFile::Certificate) || has(SecretFile::Key)
}

/// Reads an object of which [`makes_tls_secret`] holds.
pub(super) fn read(source: &Source, name: String) -> Result<ExternalSecret, LoadError> {
    fields::check_external_secret(&source.file, source.tree())?;
    let spec = source.parse::<Object>()?.spec;
    let refresh_interval = match &spec.refresh_interval {
        Some(text) => duration::duration(text).map_err(|error| source.error(&["spec", "refreshInterval"], error.to_string()))?,
        None => DEFAULT_INTERVAL,
    };
    if refresh_interval.is_zero() {
        let message = "with an interval of 0 the Secret is made once and never refreshed, which the local environment does not interpret";
        return Err(source.error(&["spec", "refreshInterval"], message));
    }
    let template = template(source, &spec.target.template.data)?;
    let mut sources: Vec<Extraction> = Vec::new();
    for (index, item) in spec.data_from.iter().enumerate() {
        let extraction = extraction(source, index, item, &template)?;
        if let Some(other) = sources.iter().find(|other| other.field == extraction.field) {
            let message = format!(
                "`{}` and `{}` both give the field `{}`, and the second would hide the first: give each a `rewrite` of its own",
                other.key, extraction.key, extraction.field
            );
            return Err(source.error(&["spec", "dataFrom", &index.to_string(), "extract", "key"], message));
        }
        sources.push(extraction);
    }
    let known: BTreeSet<&str> = sources.iter().map(|source| source.field.as_str()).collect();
    for (key, expression) in &template {
        if !known.contains(expression.field.as_str()) {
            let known = if known.is_empty() { "none".to_owned() } else { known.iter().copied().collect::<Vec<_>>().join(", ") };
            let message = format!(
                "there is no field `{}`: the fields that `dataFrom` gives are {known} (each credential has one field, `{FIELD}`)",
                expression.field
            );
            return Err(source.error(&["spec", "target", "template", "data", key], message));
        }
    }
    Ok(ExternalSecret {
        secret: spec.target.name.unwrap_or_else(|| name.clone()),
        name,
        namespace: source.namespace(),
        refresh_interval,
        template,
        sources,
        place: source.at(&["metadata", "name"]),
    })
}

fn template(source: &Source, data: &BTreeMap<String, String>) -> Result<BTreeMap<String, Expression>, LoadError> {
    let path = ["spec", "target", "template", "data"];
    let is_tls = source.text(&["spec", "target", "template", "type"]) == Some(TLS);
    for needed in [SecretFile::Certificate, SecretFile::Key] {
        let needed = needed.file_name();
        if !data.contains_key(needed) {
            // The API server refuses a Secret of this type without them; of another type workers just find no file.
            let message = if is_tls {
                format!("a Secret of type {TLS} needs the key `{needed}`")
            } else {
                format!("the Secret has no key `{needed}`, so that workers find only one half of certificate and key")
            };
            return Err(source.error(&path, message));
        }
    }
    data.iter()
        .map(|(key, text)| {
            let expression = text.parse().map_err(|error: TemplateError| source.error(&[&path[..], &[key]].concat(), error.to_string()))?;
            Ok((key.clone(), expression))
        })
        .collect()
}

fn extraction(source: &Source, index: usize, item: &DataFrom, template: &BTreeMap<String, Expression>) -> Result<Extraction, LoadError> {
    let index = index.to_string();
    let path = ["spec", "dataFrom", index.as_str()];
    let Some(extract) = &item.extract else {
        return Err(source.error(&path, "an item of `dataFrom` needs `extract: {key: ...}` here"));
    };
    let mut field = FIELD.to_owned();
    for (step, rewrite) in item.rewrite.iter().enumerate() {
        let step = step.to_string();
        let path = [&path[..], &["rewrite", &step]].concat();
        let Some(regexp) = &rewrite.regexp else {
            return Err(source.error(&path, "a `rewrite` needs `regexp: {source: ..., target: ...}` here"));
        };
        // Go's syntax and this one agree on everything that names of fields need: groups, classes, `$1`, `${1}`.
        let expression = Regex::new(&regexp.source).map_err(|error| {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim().to_owned();
            source.error(&[&path[..], &["regexp", "source"]].concat(), format!("no regular expression: {reason}"))
        })?;
        field = expression.replace_all(&field, regexp.target.as_str()).into_owned();
    }
    let uses = |wanted: &dyn Fn(&str) -> bool| template.iter().any(|(key, expression)| expression.field == field && wanted(key));
    let ca = uses(&|key| key == SecretFile::Ca.file_name());
    let own = uses(&|key| key != SecretFile::Ca.file_name());
    let copied = match (ca, own) {
        (true, true) => {
            let message = format!(
                "the template takes ca.crt and other keys from `{}`: the local environment follows one credential with certificate and key, and another with the CA",
                extract.key
            );
            return Err(source.error(&[&path[..], &["extract", "key"]].concat(), message));
        }
        (true, false) => Copied::Ca,
        _ => Copied::CertificateAndKey,
    };
    let place = source.at(&[&path[..], &["extract", "key"]].concat());
    Ok(Extraction { key: extract.key.clone(), copied, field, place })
}
