//! Secrets that stand in the manifests themselves: what a Secret holds before cert-manager writes into it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::certificate::Certificate;
use super::labels;
use super::references::same_namespace;
use super::source::Source;
use load::{LoadError, Place};
use model::credential::SecretFile;

/// A Secret as somebody applied it. CloudNativePG's own sample for cert-manager labels the Secret of its server this way, before the
/// Certificate that writes it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`; what it is applied to if absent.
    pub namespace: Option<String>,
    /// `metadata.labels`. They are of another hand than cert-manager's, so no issue removes them.
    pub labels: BTreeMap<String, String>,
    /// Where its name stands.
    pub place: Place,
}

impl Secret {
    /// Whether this Certificate writes it.
    pub(super) fn is_of(&self, certificate: &Certificate) -> bool {
        self.name == certificate.spec.secret_name && same_namespace(self.namespace.as_deref(), certificate.namespace.as_deref())
    }
}

/// Reads one; what it may hold depends on who else writes it: see [`check_written_by`].
pub(super) fn read(source: &Source) -> Result<Secret, LoadError> {
    #[derive(Deserialize)]
    struct Object {
        #[serde(default)]
        metadata: Metadata,
    }
    #[derive(Default, Deserialize)]
    struct Metadata {
        #[serde(default, deserialize_with = "labels::labels")]
        labels: BTreeMap<String, String>,
        #[serde(default, rename = "annotations", deserialize_with = "labels::labels")]
        _annotations: BTreeMap<String, String>,
    }
    let name = source.name()?;
    let labels = source.parse::<Object>()?.metadata.labels;
    Ok(Secret { name, namespace: source.namespace(), labels, place: source.at(&["metadata", "name"]) })
}

/// A Secret that a Certificate writes, too, can't hold what cert-manager would replace or could not write.
pub(super) fn check_written_by(certificate: &Certificate, source: &Source) -> Result<(), LoadError> {
    for field in ["data", "stringData"] {
        for file in [SecretFile::Certificate, SecretFile::Key, SecretFile::Ca] {
            let path = [field, file.file_name()];
            // The API server wants both keys in a Secret of type kubernetes.io/tls; empty ones are what stands there until the first issue.
            if source.text(&path).is_some_and(|content| !content.is_empty()) {
                let message = format!(
                    "cert-manager replaces `{}` when it issues the Certificate `{}`, which writes this Secret: leave it out or empty",
                    file.file_name(),
                    certificate.name
                );
                return Err(source.error(&path, message));
            }
        }
    }
    if source.text(&["immutable"]) == Some("true") {
        let message = format!("cert-manager can't write the Certificate `{}` into a Secret that is immutable", certificate.name);
        return Err(source.error(&["immutable"], message));
    }
    Ok(())
}
