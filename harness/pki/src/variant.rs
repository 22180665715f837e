//! Certificates and authorities of the manifests with a scenario's changes.

use std::sync::Arc;

use serde_json::Value;

use super::error::{InvalidCause, IssueCause, PkiError};
use deployment::Manifests;
use deployment::certificate::{Certificate, CertificateSpec, Issuer, IssuerRef, IssuerRefKind};
use model::credential::{Authority, Credentials, Identity};

/// Signs with the certificate's own key, where an issuer is named.
pub(super) const ITSELF: &str = "self";

/// A Certificate by name.
pub(super) fn certificate<'a>(manifests: &'a Manifests, name: &str) -> Result<&'a Certificate, PkiError> {
    manifests
        .certificate(name)
        .ok_or_else(|| PkiError::unknown("Certificate", name, manifests.certificates.iter().map(|certificate| certificate.name.as_str())))
}

/// The `spec` of an identity.
pub(super) fn identity_spec(manifests: &Manifests, name: &str, identity: &Identity) -> Result<CertificateSpec, PkiError> {
    let base = certificate(manifests, &identity.certificate)?;
    patched(&format!("identity `{name}`"), &base.name, &base.spec, identity.patch.as_ref())
}

/// The `spec` of an authority.
pub(super) fn authority_spec(manifests: &Manifests, name: &str, authority: &Authority) -> Result<CertificateSpec, PkiError> {
    let what = format!("authority `{name}`");
    let base = certificate(manifests, &authority.like)?;
    let spec = patched(&what, &base.name, &base.spec, authority.patch.as_ref())?;
    if spec.is_ca { Ok(spec) } else { Err(PkiError::invalid(what, InvalidCause::LikeNoCa(authority.like.clone()))) }
}

/// An authority of the credentials, or an Issuer of the manifests.
#[derive(Debug, Clone, Copy)]
pub(super) enum Named<'a> {
    Authority(&'a Authority),
    Issuer(&'a Issuer),
}

/// What an `issuer:` names.
pub(super) fn named<'a>(manifests: &'a Manifests, credentials: &'a Credentials, name: &str) -> Result<Named<'a>, PkiError> {
    if let Some(authority) = credentials.authorities.get(name) {
        return Ok(Named::Authority(authority));
    }
    manifests.issuer(name).map(Named::Issuer).ok_or_else(|| {
        let authorities = credentials.authorities.keys().map(String::as_str);
        PkiError::unknown("authority or Issuer", name, authorities.chain(manifests.issuers.iter().map(|issuer| issuer.name.as_str())))
    })
}

/// Refuses authorities that sign each other in a circle: issuing them would never end.
pub(super) fn no_circle(credentials: &Credentials, name: &str) -> Result<(), PkiError> {
    let mut current = name;
    for _ in 0..=credentials.authorities.len() {
        match credentials.authorities.get(current).and_then(|authority| authority.issuer.as_deref()) {
            Some(next) if next != ITSELF => current = next,
            _ => return Ok(()),
        }
    }
    Err(PkiError::invalid(format!("authority `{name}`"), InvalidCause::IssuersInCircle))
}

/// The Issuer or ClusterIssuer that a Certificate names.
pub(super) fn issuer<'a>(manifests: &'a Manifests, what: &str, reference: &IssuerRef) -> Result<&'a Issuer, PkiError> {
    let cluster = reference.kind == IssuerRefKind::ClusterIssuer;
    let issuers = &manifests.issuers;
    issuers.iter().find(|issuer| issuer.name == reference.name && issuer.cluster == cluster).ok_or_else(|| {
        let error = PkiError::unknown("Issuer", &reference.name, issuers.iter().map(|issuer| issuer.name.as_str()));
        PkiError::invalid(what, InvalidCause::Issuer(Box::new(error)))
    })
}

/// A JSON merge patch (RFC 7396) on the `spec` of the Certificate `name`.
pub(super) fn patched(what: &str, name: &str, spec: &CertificateSpec, patch: Option<&Value>) -> Result<CertificateSpec, PkiError> {
    let Some(patch) = patch else { return Ok(spec.clone()) };
    let mut value = serde_json::to_value(spec).map_err(|error| PkiError::issue(what, IssueCause::Spec(Arc::new(error))))?;
    merge(&mut value, patch);
    serde_json::from_value(value)
        .map_err(|error| PkiError::invalid(what, InvalidCause::Patch { certificate: name.to_owned(), source: Arc::new(error) }))
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    if let Value::Object(target) = target {
        for (key, value) in patch {
            if value.is_null() {
                target.remove(key);
            } else {
                merge(target.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_merge_patch_replaces_adds_and_removes() {
        let mut value = json!({"a": 1, "b": {"c": 2, "d": 3}, "e": [1, 2]});
        merge(&mut value, &json!({"a": null, "b": {"c": 4, "f": {"g": null, "h": 5}}, "e": [9]}));
        assert_eq!(value, json!({"b": {"c": 4, "d": 3, "f": {"h": 5}}, "e": [9]}));
    }
}
