//! rustls client configurations, one for each connection: nothing is carried over from one connection to the next.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SupportedProtocolVersion};

use super::credential::{ClientCredential, CredentialCache};
use super::verifier::{ServerVerifier, Verification};
use crate::error::UnableError;
use model::connect::TlsVersion;

/// Which key exchange groups are offered, and in which order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KxGroups {
    /// As the provider has them. PostgreSQL takes P-256 only, so every handshake sees a HelloRetryRequest. For testing behaviour.
    #[default]
    ProviderDefault,
    /// P-256 first: the key share that PostgreSQL wants is in the first flight. For measuring latency.
    P256First,
}

/// The request can't be met by rustls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// A version that rustls does not speak.
    #[error("{}", UnableError::TlsVersion(*.0))]
    Version(TlsVersion),
    /// The lowest version is above the highest.
    #[error("invalid SSL protocol version range: {min} is above {max}", min = .0.name(), max = .1.name())]
    Range(TlsVersion, TlsVersion),
}

static ONLY_1_2: &[&SupportedProtocolVersion] = &[&TLS12];
static ONLY_1_3: &[&SupportedProtocolVersion] = &[&TLS13];
static BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// The protocol versions between two bounds.
///
/// # Errors
/// [`Unsupported`].
pub fn versions(min: Option<TlsVersion>, max: Option<TlsVersion>) -> Result<&'static [&'static SupportedProtocolVersion], Unsupported> {
    let (min, max) = (min.unwrap_or(TlsVersion::V1_2), max.unwrap_or(TlsVersion::V1_3));
    if min > max {
        return Err(Unsupported::Range(min, max));
    }
    if let Some(old) = [min, max].into_iter().find(|version| *version < TlsVersion::V1_2) {
        return Err(Unsupported::Version(old));
    }
    Ok(match (min, max) {
        (TlsVersion::V1_2, TlsVersion::V1_2) => ONLY_1_2,
        (TlsVersion::V1_3, _) => ONLY_1_3,
        _ => BOTH,
    })
}

/// What one connection offers and demands.
#[derive(Debug)]
pub struct TlsOffer {
    /// Protocol versions, from [`versions`].
    pub versions: &'static [&'static SupportedProtocolVersion],
    /// What is verified of the server.
    pub verification: Verification,
    /// The client's certificate, if it has one.
    pub credential: Option<ClientCredential>,
    /// ALPN protocols in order; empty offers none.
    pub alpn: Vec<String>,
}

/// The crypto provider of all connections of a driver, and the credentials it has loaded.
///
/// The provider is passed explicitly: a process default would depend on who came first.
#[derive(Debug)]
pub struct TlsKit {
    provider: Arc<CryptoProvider>,
    credentials: CredentialCache,
}

impl TlsKit {
    /// aws-lc-rs with the key exchange groups in the given order.
    #[must_use]
    pub fn new(groups: KxGroups) -> Self {
        let mut provider = aws_lc_rs::default_provider();
        if groups == KxGroups::P256First {
            let first = aws_lc_rs::kx_group::SECP256R1;
            provider.kx_groups.retain(|group| group.name() != first.name());
            provider.kx_groups.insert(0, first);
        }
        Self { provider: Arc::new(provider), credentials: CredentialCache::default() }
    }

    /// What every configuration of this kit signs, verifies and exchanges keys with.
    #[must_use]
    pub fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }

    /// Credentials that were loaded before.
    pub(super) fn credentials(&self) -> &CredentialCache {
        &self.credentials
    }

    /// A configuration for one connection. Never resumes a session: resumption would let an expired certificate in.
    ///
    /// # Errors
    /// Those of rustls, if the provider has no cipher suite for the versions.
    pub fn client_config(&self, offer: TlsOffer) -> Result<Arc<ClientConfig>, rustls::Error> {
        let verifier = ServerVerifier::new(offer.verification, Arc::clone(&self.provider));
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(offer.versions)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match offer.credential {
            Some(credential) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(credential))),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = offer.alpn.into_iter().map(String::into_bytes).collect();
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_choose_versions_and_old_or_crossed_ones_are_named() {
        assert_eq!(versions(None, None).expect("default").len(), 2);
        assert_eq!(versions(None, Some(TlsVersion::V1_2)).expect("1.2"), &[&TLS12]);
        assert_eq!(versions(Some(TlsVersion::V1_3), None).expect("1.3"), &[&TLS13]);
        assert_eq!(versions(Some(TlsVersion::V1_1), None), Err(Unsupported::Version(TlsVersion::V1_1)));
        let crossed = versions(Some(TlsVersion::V1_3), Some(TlsVersion::V1_2));
        assert_eq!(crossed, Err(Unsupported::Range(TlsVersion::V1_3, TlsVersion::V1_2)));
    }

    #[test]
    fn p256_comes_first_only_where_asked_for_and_no_group_is_lost() {
        let default = TlsKit::new(KxGroups::ProviderDefault);
        let ordered = TlsKit::new(KxGroups::P256First);
        assert_ne!(default.provider().kx_groups[0].name(), rustls::NamedGroup::secp256r1);
        assert_eq!(ordered.provider().kx_groups[0].name(), rustls::NamedGroup::secp256r1);
        assert_eq!(default.provider().kx_groups.len(), ordered.provider().kx_groups.len());
    }
}
