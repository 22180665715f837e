//! A Secret as it stands at a moment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use model::credential::SecretFile;

/// A `kubernetes.io/tls` Secret: its data and labels. It changes as its Certificate is issued again, and by hand.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret {
    data: BTreeMap<SecretFile, String>,
    labels: BTreeMap<String, String>,
    /// The labels that cert-manager wrote: at the next issue they are its own to change.
    from_template: BTreeSet<String>,
    version: u64,
}

/// Leaves the private key out: it must not reach a log.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: Vec<&str> = self.data.keys().map(|file| file.file_name()).collect();
        f.debug_struct("Secret").field("data", &files).field("labels", &self.labels).field("version", &self.version).finish_non_exhaustive()
    }
}

impl Secret {
    /// What a key of it holds; `None` where it has no such key.
    #[must_use]
    pub fn content(&self, file: SecretFile) -> Option<&str> {
        self.data.get(&file).map(String::as_str)
    }

    /// Everything that it holds.
    #[must_use]
    pub fn data(&self) -> &BTreeMap<SecretFile, String> {
        &self.data
    }

    /// Labels of the manifests' own Secret, of cert-manager's template and of [`CertManager`](super::CertManager)'s changes together.
    #[must_use]
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// Another number after every change of data or labels, as `metadata.resourceVersion`. No two Secrets of a [`CertManager`]
    /// (super::CertManager) ever have the same, so a Secret that was deleted and made anew has another one too.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// One that somebody applied with these labels, before anything was issued into it.
    pub(super) fn by_hand(labels: BTreeMap<String, String>) -> Self {
        Self { labels, ..Self::default() }
    }

    /// What cert-manager writes after an issue: all data, and the labels of the Certificate's `secretTemplate` (server-side apply: labels
    /// of other hands stay, its own that are no longer in the template go; a label on whose value both agree is of both).
    pub(super) fn issue(&mut self, data: BTreeMap<SecretFile, String>, template: &BTreeMap<String, String>, version: u64) {
        self.data = data;
        for label in std::mem::take(&mut self.from_template) {
            self.labels.remove(&label);
        }
        self.from_template =
            template.iter().filter(|(label, value)| self.labels.get(*label) != Some(*value)).map(|(label, _)| label.clone()).collect();
        self.labels.extend(template.clone());
        self.version = version;
    }

    /// Somebody writes one key, or removes it.
    pub(super) fn write(&mut self, file: SecretFile, content: Option<String>, version: u64) {
        match content {
            Some(content) => self.data.insert(file, content),
            None => self.data.remove(&file),
        };
        self.version = version;
    }

    /// Somebody sets or drops a label.
    pub(super) fn label(&mut self, label: &str, value: Option<&str>, version: u64) {
        match value {
            Some(value) => self.labels.insert(label.to_owned(), value.to_owned()),
            None => self.labels.remove(label),
        };
        self.version = version;
    }
}
