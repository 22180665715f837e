//! CloudNativePG's operator as far as certificates go: which Secrets the Cluster names, and when they are looked at again.

use std::collections::BTreeMap;

use crate::error::ChangeError;
use deployment::cluster::ClusterCertificates;
use model::change::ClusterPatch;
use pki::CertManager;

/// The label that makes a Secret's change be noticed: its value doesn't matter (CloudNativePG's `WatchedLabelName`).
const RELOAD_LABEL: &str = "cnpg.io/reload";

/// The Cluster's certificates, and what the operator has seen.
#[derive(Debug)]
pub(super) struct Operator {
    certificates: ClusterCertificates,
    annotations: BTreeMap<String, String>,
    cluster_changed: bool,
    /// Secret to its version at the last look.
    seen: BTreeMap<String, u64>,
}

impl Operator {
    /// An operator that has looked at nothing yet.
    pub(super) fn new(certificates: ClusterCertificates) -> Self {
        Self { certificates, annotations: BTreeMap::new(), cluster_changed: false, seen: BTreeMap::new() }
    }

    /// The Secrets that the Cluster names now.
    pub(super) fn certificates(&self) -> &ClusterCertificates {
        &self.certificates
    }

    /// Somebody changes the Cluster. Nothing has changed after an error.
    pub(super) fn patch(&mut self, patch: &ClusterPatch<String>, cert_manager: &CertManager) -> Result<(), ChangeError> {
        let mut certificates = self.certificates.clone();
        for (field, secret) in &patch.certificates {
            let named = match field.as_str() {
                "serverTLSSecret" => &mut certificates.server_tls,
                "serverCASecret" => &mut certificates.server_ca,
                "clientCASecret" => &mut certificates.client_ca,
                "replicationTLSSecret" => &mut certificates.replication_tls,
                _ => return Err(ChangeError::NoField(field.clone())),
            };
            cert_manager.secret(secret)?;
            named.clone_from(secret);
        }
        let mut annotations = self.annotations.clone();
        annotations.extend(patch.annotations.clone());
        // An update that changes nothing is no event.
        self.cluster_changed |= certificates != self.certificates || annotations != self.annotations;
        (self.certificates, self.annotations) = (certificates, annotations);
        Ok(())
    }

    /// Looks at what changed since the last look: whether the servers' files are to be brought up to date.
    pub(super) fn look(&mut self, cert_manager: &CertManager) -> bool {
        let ClusterCertificates { server_tls, server_ca, client_ca, replication_tls } = &self.certificates;
        let mut due = std::mem::take(&mut self.cluster_changed);
        let mut seen = BTreeMap::new();
        for name in [server_tls, server_ca, client_ca, replication_tls] {
            let Ok(secret) = cert_manager.secret(name) else { continue };
            let changed = self.seen.get(name) != Some(&secret.version());
            due |= changed && secret.labels().contains_key(RELOAD_LABEL);
            seen.insert(name.clone(), secret.version());
        }
        self.seen = seen;
        due
    }
}
