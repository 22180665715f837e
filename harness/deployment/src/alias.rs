//! Names of scenarios for objects that have others in a deployment.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::Manifests;
use super::certificate::IssuerKind;
use super::cluster::ClusterCertificates;
use load::UnknownName;

/// `NAME=OWN`: what scenarios and credentials call NAME, the deployment calls OWN. It holds for the Certificate, the Secret and the Issuer of
/// that name, whichever of them there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The name in scenarios and credentials.
    pub name: String,
    /// The name in the manifests.
    pub own: String,
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.own)
    }
}

/// A text that is no [`Alias`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it takes NAME=OWN, the name in scenarios and the name in your manifests, such as nautobot-mtls-client=web-client")]
pub struct NoAlias;

impl FromStr for Alias {
    type Err = NoAlias;

    fn from_str(text: &str) -> Result<Self, NoAlias> {
        match text.split_once('=') {
            Some((name, own)) if !name.is_empty() && !own.is_empty() => Ok(Self { name: name.to_owned(), own: own.to_owned() }),
            _ => Err(NoAlias),
        }
    }
}

/// An object can't be called otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AliasError {
    /// No object has the name.
    #[error("--alias {alias}: {unknown}")]
    Unknown {
        /// What was given.
        alias: Alias,
        /// The name, with those that there are.
        unknown: UnknownName,
    },
    /// One object would have two names.
    #[error(
        "--alias {first} and --alias {second}: an object has one name; where two names of scenarios mean the same object, `--scenarios` with \
         credentials of your own says so"
    )]
    TwoNames {
        /// What was given first.
        first: Alias,
        /// What was given then.
        second: Alias,
    },
    /// Two objects would have one name.
    #[error("--alias {alias}: two {kind}s would be called `{}`; a name is one object's", alias.name)]
    Twice {
        /// What was given.
        alias: Alias,
        /// `Certificate`, `Secret` or `Issuer`.
        kind: &'static str,
    },
}

/// A kind of objects that scenarios name.
struct Kind {
    name: &'static str,
    /// The names of its objects.
    objects: fn(&Manifests) -> BTreeSet<&str>,
    /// Every place in the manifests where such a name stands.
    places: fn(&mut Manifests) -> Vec<&mut String>,
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "Certificate",
        objects: |manifests| manifests.certificates.iter().map(|certificate| certificate.name.as_str()).collect(),
        places: |manifests| manifests.certificates.iter_mut().map(|certificate| &mut certificate.name).collect(),
    },
    Kind {
        name: "Secret",
        objects: |manifests| {
            let written = manifests.certificates.iter().map(|certificate| certificate.spec.secret_name.as_str());
            written.chain(manifests.secrets.iter().map(|secret| secret.name.as_str())).collect()
        },
        places: secrets,
    },
    Kind {
        name: "Issuer",
        objects: |manifests| manifests.issuers.iter().map(|issuer| issuer.name.as_str()).collect(),
        places: |manifests| {
            let issuers = manifests.issuers.iter_mut().map(|issuer| &mut issuer.name);
            issuers.chain(manifests.certificates.iter_mut().map(|certificate| &mut certificate.spec.issuer_ref.name)).collect()
        },
    },
];

/// Where the name of a Secret stands.
fn secrets(manifests: &mut Manifests) -> Vec<&mut String> {
    let mut places: Vec<&mut String> = Vec::new();
    places.extend(manifests.certificates.iter_mut().map(|certificate| &mut certificate.spec.secret_name));
    places.extend(manifests.secrets.iter_mut().map(|secret| &mut secret.name));
    places.extend(manifests.issuers.iter_mut().filter_map(|issuer| match &mut issuer.kind {
        IssuerKind::Ca { secret } => Some(secret),
        IssuerKind::SelfSigned => None,
    }));
    if let Some(cluster) = &mut manifests.cluster {
        let ClusterCertificates { server_tls, server_ca, client_ca, replication_tls } = &mut cluster.certificates;
        places.extend([server_tls, server_ca, client_ca, replication_tls]);
    }
    places.extend(manifests.redis.iter_mut().flat_map(|redis| [&mut redis.server_tls, &mut redis.client_ca]));
    // The Secret that it makes is of the site's cluster; what the provider has are copies of the global cluster's.
    places.extend(manifests.site.iter_mut().flat_map(|site| site.sources.iter_mut().map(|source| &mut source.key)));
    places
}

impl Manifests {
    /// Calls objects as scenarios call them, all at once: two can exchange their names.
    ///
    /// # Errors
    /// [`AliasError`], the first.
    pub fn alias(&mut self, aliases: &[Alias]) -> Result<(), AliasError> {
        let names: BTreeSet<&str> = KINDS.iter().flat_map(|kind| (kind.objects)(self)).collect();
        if let Some(alias) = aliases.iter().find(|alias| !names.contains(alias.own.as_str())) {
            let unknown = UnknownName::new("Certificate, Secret or Issuer", &alias.own, names.iter().copied());
            return Err(AliasError::Unknown { alias: alias.clone(), unknown });
        }
        for (index, second) in aliases.iter().enumerate() {
            if let Some(first) = aliases[..index].iter().find(|first| first.own == second.own && first.name != second.name) {
                return Err(AliasError::TwoNames { first: first.clone(), second: second.clone() });
            }
        }
        for kind in KINDS {
            let before = (kind.objects)(self).len();
            for name in (kind.places)(self) {
                if let Some(alias) = aliases.iter().find(|alias| alias.own == *name) {
                    name.clone_from(&alias.name);
                }
            }
            if (kind.objects)(self).len() < before {
                let taken = |alias: &&Alias| (kind.objects)(self).contains(alias.name.as_str());
                // One of the aliases took the other's place.
                if let Some(alias) = aliases.iter().rev().find(taken) {
                    return Err(AliasError::Twice { alias: alias.clone(), kind: kind.name });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn shipped() -> Manifests {
        Manifests::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kind/deployment")).expect("the shipped manifests are valid")
    }

    fn alias(manifests: &mut Manifests, aliases: &[&str]) -> Result<(), AliasError> {
        let aliases: Vec<Alias> = aliases.iter().map(|text| text.parse().expect("NAME=OWN")).collect();
        manifests.alias(&aliases)
    }

    #[test]
    fn every_reference_follows_the_name() {
        // Whatever is renamed to and fro is as before; whatever a reference missed would not be.
        let unchanged = format!("{:?}", shipped());
        for name in ["mtls-ca-cert", "nautobot-cluster-server-tls", "nautobot-mtls-client", "mtls-ca-issuer", "mtls-ca"] {
            let mut manifests = shipped();
            alias(&mut manifests, &[&format!("ours={name}")]).expect("it is there");
            let mut renamed = manifests.clone();
            if let Some(site) = &mut renamed.site {
                // They are the site's cluster's, which has names of its own.
                site.name.clear();
                site.secret.clear();
            }
            let renamed = format!("{renamed:?}").replace(&format!("common_name: Some(\"{name}\")"), "");
            assert!(!renamed.contains(&format!("\"{name}\"")), "{name}: {renamed}");
            alias(&mut manifests, &[&format!("{name}=ours")]).expect("it is there");
            assert_eq!(format!("{manifests:?}"), unchanged, "{name}");
        }
    }

    #[test]
    fn two_objects_can_exchange_their_names_and_none_can_take_anothers() {
        let mut manifests = shipped();
        let exchange = ["nautobot-mtls-client=nautobot-mtls-client-site-dc", "nautobot-mtls-client-site-dc=nautobot-mtls-client"];
        alias(&mut manifests, &exchange).expect("both are there");
        let first = manifests.certificate("nautobot-mtls-client").expect("is there");
        assert_eq!(first.place, shipped().certificate("nautobot-mtls-client-site-dc").expect("is there").place);
        let error = alias(&mut shipped(), &["mtls-ca=nautobot-mtls-client"]).expect_err("is taken").to_string();
        assert_eq!(error, "--alias mtls-ca=nautobot-mtls-client: two Certificates would be called `mtls-ca`; a name is one object's");
    }

    #[test]
    fn an_object_has_one_name_and_can_be_given_it_twice() {
        let error = alias(&mut shipped(), &["web=nautobot-mtls-client", "worker=nautobot-mtls-client"]).expect_err("two names").to_string();
        assert!(
            error.starts_with("--alias web=nautobot-mtls-client and --alias worker=nautobot-mtls-client: an object has one name"),
            "{error}"
        );
        let mut manifests = shipped();
        alias(&mut manifests, &["web=nautobot-mtls-client", "web=nautobot-mtls-client"]).expect("it is one name");
        assert!(manifests.certificate("web").is_some());
    }

    #[test]
    fn a_name_that_no_object_has_is_told_with_the_nearest() {
        let error = alias(&mut shipped(), &["app=nautobot-mtls-clint"]).expect_err("is not there").to_string();
        let expected = "--alias app=nautobot-mtls-clint: unknown Certificate, Secret or Issuer `nautobot-mtls-clint`: did you mean `nautobot-mtls-client`?";
        assert_eq!(error, expected);
        assert_eq!("app".parse::<Alias>(), Err(NoAlias));
    }
}
