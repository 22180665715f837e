//! Which encryption libpq tries, in which order, and after which failures: `init_allowed_encryption_methods` and
//! `select_next_encryption_method` in its fe-connect.c, without GSS.

use model::connect::{PostgresRequest, SslMode, SslNegotiation};
use model::endpoint::Address;
use model::observation::Refused;
use model::refusal::{OptionRefusal, Refusal, Stage};

/// One encryption to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encryption {
    /// The startup packet is sent without SSLRequest or handshake.
    Plain,
    /// SSLRequest and a handshake, or with `sslnegotiation=direct` the handshake at once.
    Tls,
}

/// The encryptions of one call, in order. The second, if there is one, is tried only after a failure that libpq retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) first: Encryption,
    pub(super) second: Option<Encryption>,
}

impl Plan {
    /// The plan of a request.
    ///
    /// # Errors
    /// A refusal before any connection, for `sslnegotiation=direct` with a mode weaker than `require`.
    pub(super) fn of(request: &PostgresRequest) -> Result<Self, Refused> {
        let mode = request.sslmode.unwrap_or(SslMode::Prefer);
        if request.sslnegotiation == Some(SslNegotiation::Direct) && mode < SslMode::Require {
            return Err(Refused {
                refusal: Refusal::Option(OptionRefusal::WeakSslmodeDirect),
                stage: Some(Stage::Options),
                sqlstate: None,
                text: format!(
                    "weak sslmode \"{mode}\" may not be used with sslnegotiation=direct (use \"require\", \"verify-ca\", or \"verify-full\")"
                ),
            });
        }
        // TLS is never tried over a unix socket, whatever the mode.
        if matches!(request.endpoint.address, Address::Unix { .. }) {
            return Ok(Self { first: Encryption::Plain, second: None });
        }
        Ok(match mode {
            SslMode::Disable => Self { first: Encryption::Plain, second: None },
            SslMode::Allow => Self { first: Encryption::Plain, second: Some(Encryption::Tls) },
            SslMode::Prefer => Self { first: Encryption::Tls, second: Some(Encryption::Plain) },
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => Self { first: Encryption::Tls, second: None },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use std::collections::BTreeMap;

    use super::*;
    use model::connect::ClientFiles;
    use model::endpoint::Endpoint;

    fn request(sslmode: Option<SslMode>, sslnegotiation: Option<SslNegotiation>) -> PostgresRequest {
        PostgresRequest {
            endpoint: Endpoint { host: "localhost".to_owned(), address: Address::Tcp(([127, 0, 0, 1], 5432).into()) },
            sslmode,
            sslnegotiation,
            files: ClientFiles::default(),
            user: "app".to_owned(),
            database: "app".to_owned(),
            password: None,
            min_tls: None,
            max_tls: None,
            alpn: None,
            replication: false,
            env: BTreeMap::new(),
        }
    }

    #[test]
    fn unset_is_prefer_and_allow_is_its_mirror_image() {
        use Encryption::{Plain, Tls};
        let plan = |mode| Plan::of(&request(mode, None)).expect("a plan");
        assert_eq!(plan(None), Plan { first: Tls, second: Some(Plain) });
        assert_eq!(plan(None), plan(Some(SslMode::Prefer)));
        assert_eq!(plan(Some(SslMode::Allow)), Plan { first: Plain, second: Some(Tls) });
        assert_eq!(plan(Some(SslMode::Disable)), Plan { first: Plain, second: None });
        for strict in [SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull] {
            assert_eq!(plan(Some(strict)), Plan { first: Tls, second: None });
        }
    }

    #[test]
    fn direct_negotiation_refuses_every_weak_mode_unset_included() {
        for mode in [None, Some(SslMode::Disable), Some(SslMode::Allow), Some(SslMode::Prefer)] {
            let refused = Plan::of(&request(mode, Some(SslNegotiation::Direct))).expect_err("refused");
            assert_eq!(refused.refusal, Refusal::Option(OptionRefusal::WeakSslmodeDirect));
        }
        let refused = Plan::of(&request(None, Some(SslNegotiation::Direct))).expect_err("refused");
        assert!(refused.text.starts_with("weak sslmode \"prefer\" may not be used"), "{}", refused.text);
        assert!(Plan::of(&request(Some(SslMode::Require), Some(SslNegotiation::Direct))).is_ok());
    }

    #[test]
    fn a_unix_socket_is_plaintext_in_every_mode() {
        for mode in SslMode::ALL {
            let mut request = request(Some(mode), None);
            request.endpoint.address = Address::Unix { directory: PathBuf::from("/run/postgresql"), port: 5432 };
            assert_eq!(Plan::of(&request).expect("a plan"), Plan { first: Encryption::Plain, second: None });
        }
    }
}
