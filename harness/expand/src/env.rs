//! Environment variables of a connection that say what the harness, or another field of the connection, says already.

use std::collections::BTreeMap;

use model::case::ConnectPlan;
use model::server::Service;

/// Why a variable can't stand in `env`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EnvClash {
    /// The harness gives it the value of a field, and that comes first.
    #[error(
        "`{variable}` can't stand in `env`: it is the harness's, which gives it the connection's {field}; write `{field}: ...` beside `env`"
    )]
    OfField {
        variable: String,
        /// The field of `connect` that it stands for.
        field: &'static str,
    },
    /// The harness leads the client to its relay with it.
    #[error(
        "`{variable}` can't stand in `env`: it is the harness's, which leads the client to its relay; `via` and `source`, and `port` for \
         Redis, say where a connection goes"
    )]
    OfHarness { variable: String },
    /// The harness turns encryption by GSSAPI off, so that TLS alone decides.
    #[error("`{variable}` can't stand in `env`: the harness sets `gssencmode=disable` for every client, so that TLS alone decides")]
    NoGss { variable: String },
    /// A field says it, too.
    #[error("`{variable}` in `env` says what `{field}` says, too: leave one of the two out")]
    Twice {
        variable: String,
        /// The field of `connect` that is set.
        field: &'static str,
    },
}

/// The variables that stand for a field which every connection has, by service: those that the clients of `nautobot-*` are given, and those
/// of libpq that say the same (PostgreSQL manual, "Environment Variables"). They come second to the ones that the clients are given.
const OF_FIELDS: [(Service, &str, &str); 10] = [
    (Service::Postgres, "NAUTOBOT_DB_HOST", "host"),
    (Service::Postgres, "NAUTOBOT_DB_NAME", "database"),
    (Service::Postgres, "NAUTOBOT_DB_USER", "user"),
    (Service::Postgres, "NAUTOBOT_DB_PASSWORD", "password"),
    (Service::Postgres, "PGHOST", "host"),
    (Service::Postgres, "PGDATABASE", "database"),
    (Service::Postgres, "PGUSER", "user"),
    (Service::Postgres, "PGPASSWORD", "password"),
    (Service::Redis, "NAUTOBOT_REDIS_HOST", "host"),
    (Service::Redis, "NAUTOBOT_REDIS_PASSWORD", "password"),
];

/// The variables that say where the relay is.
const OF_RELAY: [(Service, &str); 4] = [
    (Service::Postgres, "NAUTOBOT_DB_PORT"),
    (Service::Postgres, "PGPORT"),
    (Service::Postgres, "PGHOSTADDR"),
    (Service::Redis, "NAUTOBOT_REDIS_PORT"),
];

/// The variables of libpq that a field can say, too.
fn said_twice(variable: &str, plan: &ConnectPlan) -> Option<&'static str> {
    let (field, is_said) = match variable {
        "PGSSLMODE" => ("sslmode", plan.sslmode.is_some()),
        "PGSSLNEGOTIATION" => ("sslnegotiation", plan.sslnegotiation.is_some()),
        "PGSSLMINPROTOCOLVERSION" => ("min_tls", plan.min_tls.is_some()),
        "PGSSLMAXPROTOCOLVERSION" => ("max_tls", plan.max_tls.is_some()),
        _ => return None,
    };
    is_said.then_some(field)
}

/// What is wrong with a variable of `env`; `None` where it can stand there.
pub(crate) fn clash(service: Service, variable: &str, plan: &ConnectPlan) -> Option<EnvClash> {
    let named = || variable.to_owned();
    if let Some((.., field)) = OF_FIELDS.iter().find(|(of, name, _)| (*of, *name) == (service, variable)) {
        return Some(EnvClash::OfField { variable: named(), field });
    }
    if OF_RELAY.contains(&(service, variable)) {
        return Some(EnvClash::OfHarness { variable: named() });
    }
    if (service, variable) == (Service::Postgres, "PGGSSENCMODE") {
        return Some(EnvClash::NoGss { variable: named() });
    }
    let field = said_twice(variable, plan).filter(|_| service == Service::Postgres)?;
    Some(EnvClash::Twice { variable: named(), field })
}

/// The first variable of `env` that can't stand there, with the reason.
pub(crate) fn first_clash<'a, T>(service: Service, env: &'a BTreeMap<String, T>, plan: &ConnectPlan) -> Option<(&'a T, EnvClash)> {
    env.iter().find_map(|(variable, text)| Some((text, clash(service, variable, plan)?)))
}
