//! A connection as a scenario file asks for it, in steps, controls and timelines alike.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text::Text;

/// A connection. What is left out is that of the deployment's own client.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Connect {
    /// A driver's name; absent: the axis `driver`. A driver that can't do what another field says is skipped, with the reason.
    #[serde(default)]
    pub driver: Option<Text>,
    /// PostgreSQL: `unset`, `disable`, `allow`, `prefer`, `require`, `verify-ca` or `verify-full`. `unset`, or absent, leaves the option to
    /// the client's default, which is not the same as any value.
    #[serde(default)]
    pub sslmode: Option<Text>,
    /// PostgreSQL: `unset` (or absent), `postgres` or `direct`.
    #[serde(default)]
    pub sslnegotiation: Option<Text>,
    /// Redis: `off`, `no-verify`, `verify-ca` (the host name is left out) or `verify-full`. Absent: `verify-full`, and for the drivers
    /// `nautobot-*` what their configuration file says.
    #[serde(default)]
    pub tls: Option<Text>,
    /// The identity whose certificate the client presents, or `none`; absent: `app`.
    #[serde(default)]
    pub identity: Option<Text>,
    /// The trust that the client verifies the server with, or `none`; absent: `mtls-ca`.
    #[serde(default)]
    pub trust: Option<Text>,
    /// The name for SNI and verification; it is never looked up. An IP address sends no SNI. Absent: the common name of the deployment's
    /// server certificate, or the route's host name behind the gateway.
    #[serde(default)]
    pub host: Option<Text>,
    /// PostgreSQL: the user; absent: the owner in the Cluster's `initdb`, `app` in ours. The server knows that owner (with a password),
    /// `streaming_replica` and `postgres`, which is no superuser here.
    #[serde(default)]
    pub user: Option<Text>,
    /// PostgreSQL: the database; absent: that of the Cluster's `initdb`, `app` in ours. The server has that one and `postgres`.
    #[serde(default)]
    pub database: Option<Text>,
    /// `right`, `wrong` or `none`; absent: `none` for PostgreSQL, `right` for Redis.
    #[serde(default)]
    pub password: Option<Text>,
    /// Where the server or the gateway sees the client: in a network (`pods`, `sites`, `elsewhere`), or at an address of 127.0.0.0/8 or
    /// `::1`, where the environment has such. A case that names a network which the environment lacks is skipped. Absent: 127.0.0.1
    /// locally.
    #[serde(default)]
    pub source: Option<Text>,
    /// PostgreSQL: `tcp`, which is the default, or `unix`. Over a unix socket there is no wire, and no log line can be told to be this
    /// connection's; `host`, `source` and `via: gateway` can't be said beside it.
    #[serde(default)]
    pub transport: Option<Text>,
    /// The lowest version the client takes: `TLSv1`, `TLSv1.1`, `TLSv1.2`, `TLSv1.3` or `unset`, which is the default.
    #[serde(default)]
    pub min_tls: Option<Text>,
    /// The highest version the client takes, as `min_tls`.
    #[serde(default)]
    pub max_tls: Option<Text>,
    /// PostgreSQL: protocols to offer in place of `postgresql`, comma-separated, `none` or `unset`, which is the default. The driver
    /// `rustls` only.
    #[serde(default)]
    pub alpn: Option<Text>,
    /// Redis: `tls`, which is the default, or `plaintext`: the port that `port` of redis.conf opens for connections without TLS. Where it
    /// opens none, the client goes to the TLS port: there is no other.
    #[serde(default)]
    pub port: Option<Text>,
    /// `server`, which is the default, or `gateway`: through the TLS-passthrough gateway in front of it, which routes by the host name. The
    /// server then sees the gateway's address, `${address:gateway}`, whatever `source` is.
    #[serde(default)]
    pub via: Option<Text>,
    /// Environment variables of `nautobot_config.py`. `${identity:NAME/FILE}` and `${trust:NAME}` are paths of files, `${range:NETWORK}`
    /// and `${address:NETWORK}` as in `pg_hba`. A control that has `env` replaces all of it. The drivers `nautobot-*` only. They take
    /// every option about TLS from there: a case is skipped where `sslmode`, `sslnegotiation`, `tls`, `min_tls`, `max_tls` or `alpn` says
    /// one as well. Variables that the harness itself sets are errors (`NAUTOBOT_DB_HOST`, `PGPORT`, ...), and so is one of libpq that another
    /// field says, too (`PGSSLMODE` beside `sslmode`).
    #[serde(default)]
    pub env: Option<BTreeMap<String, Text>>,
    /// PostgreSQL: `true` for a session of streaming replication, which only `replication` lines of pg_hba.conf match. It takes no SQL, so
    /// that the server's log is asserted instead of `user` and `client_dn`. The drivers `libpq-*` only. Absent: `false`.
    #[serde(default)]
    pub replication: Option<Text>,
}

impl Connect {
    /// The names and texts of the fields that are given, in the order of the type.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, &Text)> {
        // Every field by its name: one that is added can't be forgotten here.
        let Self {
            driver,
            sslmode,
            sslnegotiation,
            tls,
            identity,
            trust,
            host,
            user,
            database,
            password,
            source,
            transport,
            min_tls,
            max_tls,
            alpn,
            port,
            via,
            env,
            replication,
        } = self;
        let texts = [
            ("driver", driver),
            ("sslmode", sslmode),
            ("sslnegotiation", sslnegotiation),
            ("tls", tls),
            ("identity", identity),
            ("trust", trust),
            ("host", host),
            ("user", user),
            ("database", database),
            ("password", password),
            ("source", source),
            ("transport", transport),
            ("min_tls", min_tls),
            ("max_tls", max_tls),
            ("alpn", alpn),
            ("port", port),
            ("via", via),
            ("replication", replication),
        ];
        let texts = texts.into_iter().filter_map(|(name, text)| Some((name, text.as_ref()?)));
        texts.chain(env.iter().flat_map(|env| env.values()).map(|text| ("env", text)))
    }
}
