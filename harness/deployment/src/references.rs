//! References between objects: every name must lead somewhere, in the same namespace, and issuers must not go in circles.

use super::certificate::{Certificate, Issuer, IssuerKind, IssuerRefKind};
use super::objects::Objects;
use super::redis::Redis;
use super::redis_workload;
use super::secret;
use super::source::Source;
use load::{LoadError, Place};
use model::credential::SecretFile;

/// Checks all of them.
pub(super) fn check(objects: &Objects, redis: Option<&Redis>) -> Result<(), LoadError> {
    check_secret_names(objects)?;
    check_secrets(objects)?;
    for (issuer, source) in &objects.issuers {
        check_issuer(objects, issuer, source)?;
    }
    for (certificate, source) in &objects.certificates {
        check_issuer_ref(objects, certificate, source)?;
    }
    for (certificate, source) in &objects.certificates {
        check_no_circle(objects, certificate, source)?;
    }
    if let Some((cluster, source)) = &objects.cluster {
        let certificates = &cluster.certificates;
        for (field, secret) in [
            ("serverTLSSecret", &certificates.server_tls),
            ("serverCASecret", &certificates.server_ca),
            ("clientCASecret", &certificates.client_ca),
            ("replicationTLSSecret", &certificates.replication_tls),
        ] {
            find_secret(objects, secret, source.namespace().as_deref(), source.at(&["spec", "certificates", field]))?;
        }
    }
    if let Some(redis) = redis {
        for secret in [&redis.server_tls, &redis.client_ca] {
            let place = redis_workload::place_of_secret(objects, &redis.name, secret).unwrap_or_else(|| redis.place.clone());
            find_secret(objects, secret, redis.namespace.as_deref(), place)?;
        }
    }
    if let Some((external_secret, source)) = &objects.site {
        for (index, credential) in external_secret.sources.iter().enumerate() {
            // The Secrets are those of the global cluster, whatever the site's namespace.
            find_secret(objects, &credential.key, None, source.at(&["spec", "dataFrom", &index.to_string(), "extract", "key"]))?;
        }
        if !external_secret.template.contains_key(SecretFile::Ca.file_name()) {
            let message = "the template makes no `ca.crt`, which the site's workers verify the servers with";
            return Err(source.error(&["spec", "target", "template", "data"], message));
        }
    }
    Ok(())
}

fn check_secret_names(objects: &Objects) -> Result<(), LoadError> {
    for (index, (certificate, source)) in objects.certificates.iter().enumerate() {
        let secret = &certificate.spec.secret_name;
        let earlier = objects.certificates[..index].iter().find(|(other, _)| {
            other.spec.secret_name == *secret && same_namespace(other.namespace.as_deref(), certificate.namespace.as_deref())
        });
        if let Some((other, place)) = earlier {
            let path = ["spec", "secretName"];
            let message = format!(
                "`{secret}` is already written by the Certificate `{}` at {}: every Certificate needs a Secret of its own",
                other.name,
                place.at(&path)
            );
            return Err(source.error(&path, message));
        }
    }
    Ok(())
}

fn check_secrets(objects: &Objects) -> Result<(), LoadError> {
    for (index, (secret, source)) in objects.secrets.iter().enumerate() {
        let earlier = objects.secrets[..index]
            .iter()
            .find(|(other, _)| other.name == secret.name && same_namespace(other.namespace.as_deref(), secret.namespace.as_deref()));
        if let Some((_, first)) = earlier {
            let path = ["metadata", "name"];
            return Err(source.error(&path, format!("a second Secret `{}`: the first is at {}", secret.name, first.at(&path))));
        }
        for (certificate, _) in objects.certificates.iter().filter(|(certificate, _)| secret.is_of(certificate)) {
            secret::check_written_by(certificate, source)?;
        }
    }
    Ok(())
}

fn check_issuer(objects: &Objects, issuer: &Issuer, source: &Source) -> Result<(), LoadError> {
    let IssuerKind::Ca { secret } = &issuer.kind else { return Ok(()) };
    let path = ["spec", "ca", "secretName"];
    // A ClusterIssuer's Secret lives in cert-manager's own namespace, whichever that is.
    let namespace = if issuer.cluster { None } else { issuer.namespace.as_deref() };
    let certificate = find_secret(objects, secret, namespace, source.at(&path))?;
    if certificate.spec.is_ca {
        Ok(())
    } else {
        Err(source.error(&path, format!("the Certificate `{}` that writes `{secret}` is no CA: it needs `isCA: true`", certificate.name)))
    }
}

fn check_issuer_ref(objects: &Objects, certificate: &Certificate, source: &Source) -> Result<(), LoadError> {
    let reference = &certificate.spec.issuer_ref;
    let path = ["spec", "issuerRef", "name"];
    let kind = if reference.kind == IssuerRefKind::Issuer { "Issuer" } else { "ClusterIssuer" };
    let Some(issuer) = objects.issuer_for(reference) else {
        let known = objects
            .issuers
            .iter()
            .map(|(issuer, _)| format!("{} ({})", issuer.name, if issuer.cluster { "ClusterIssuer" } else { "Issuer" }));
        return Err(source.error(&path, format!("there is no {kind} `{}`: {}", reference.name, known_names(known))));
    };
    if !issuer.cluster && !same_namespace(issuer.namespace.as_deref(), certificate.namespace.as_deref()) {
        let message = format!(
            "the Issuer `{}` is in the namespace {}, the Certificate in {}",
            issuer.name,
            shown(issuer.namespace.as_deref()),
            shown(certificate.namespace.as_deref())
        );
        return Err(source.error(&path, message));
    }
    Ok(())
}

fn check_no_circle(objects: &Objects, certificate: &Certificate, source: &Source) -> Result<(), LoadError> {
    let mut current = certificate;
    for _ in 0..=objects.certificates.len() {
        let Some(Issuer { kind: IssuerKind::Ca { secret }, .. }) = objects.issuer_for(&current.spec.issuer_ref) else { return Ok(()) };
        let Some((next, _)) = objects.certificates.iter().find(|(other, _)| other.spec.secret_name == *secret) else { return Ok(()) };
        current = next;
    }
    let message = format!("the issuers of `{}` go in a circle: one of them must be `selfSigned: {{}}`", certificate.name);
    Err(source.error(&["spec", "issuerRef", "name"], message))
}

fn find_secret<'a>(objects: &'a Objects, secret: &str, namespace: Option<&str>, place: Place) -> Result<&'a Certificate, LoadError> {
    let named =
        || objects.certificates.iter().map(|(certificate, _)| certificate).filter(|certificate| certificate.spec.secret_name == secret);
    if let Some(certificate) = named().find(|certificate| same_namespace(certificate.namespace.as_deref(), namespace)) {
        return Ok(certificate);
    }
    if let Some(other) = named().next() {
        let message =
            format!("the Secret `{secret}` is in the namespace {}, this object in {}", shown(other.namespace.as_deref()), shown(namespace));
        return Err(LoadError::new(place, message));
    }
    let known = objects.certificates.iter().map(|(certificate, _)| certificate.spec.secret_name.clone());
    let written = format!("no Certificate writes the Secret `{secret}`: {}", known_names(known));
    // What it holds would be a private key in a file, and nothing could renew it.
    let by_hand = objects.secrets.iter().find(|(by_hand, _)| by_hand.name == secret);
    let message = by_hand.map_or(written.clone(), |(by_hand, _)| {
        format!("{written}. The Secret at {} is not enough: certificates are issued for the run", by_hand.place)
    });
    Err(LoadError::new(place, message))
}

fn known_names(names: impl Iterator<Item = String>) -> String {
    let names: Vec<_> = names.collect();
    if names.is_empty() { "there is none at all".to_owned() } else { format!("there are {}", names.join(", ")) }
}

/// Whether two namespaces are one; an absent one is whatever the objects are applied to.
pub(super) fn same_namespace(one: Option<&str>, other: Option<&str>) -> bool {
    one.is_none() || other.is_none() || one == other
}

fn shown(namespace: Option<&str>) -> String {
    namespace.map_or_else(|| "that it is applied to".to_owned(), |name| format!("`{name}`"))
}
