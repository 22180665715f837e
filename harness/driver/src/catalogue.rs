//! Every driver that a full toolchain has, by name, installed or not.

use model::driver::{DriverInfo, Family};
use model::server::Service;

/// A driver's name, family and libpq major version, known before it is started.
const DRIVERS: [(&str, Service, Family, Option<u32>); 18] = [
    ("rustls", Service::Postgres, Family::Rustls, None),
    ("libpq-15", Service::Postgres, Family::Libpq, Some(15)),
    ("libpq-16", Service::Postgres, Family::Libpq, Some(16)),
    ("libpq-17", Service::Postgres, Family::Libpq, Some(17)),
    ("libpq-18", Service::Postgres, Family::Libpq, Some(18)),
    // The libpq inside the wheels that Nautobot ships: 2.9.10 bundles 16, 2.9.12 bundles 17.
    ("libpq-psycopg2-2.9.10", Service::Postgres, Family::Libpq, Some(16)),
    ("libpq-psycopg2-2.9.12", Service::Postgres, Family::Libpq, Some(17)),
    ("psycopg2-2.9.10", Service::Postgres, Family::Libpq, Some(16)),
    ("psycopg2-2.9.12", Service::Postgres, Family::Libpq, Some(17)),
    ("redis-rs", Service::Redis, Family::RedisRs, None),
    ("redis-py", Service::Redis, Family::RedisPy, None),
    // What a nautobot_config.py sets up: Django over psycopg2 2.9.12, django-redis, kombu.
    ("nautobot-django", Service::Postgres, Family::Libpq, Some(17)),
    ("nautobot-redis", Service::Redis, Family::RedisPy, None),
    ("nautobot-kombu", Service::Redis, Family::RedisPy, None),
    // In the clients' container: with the TLS and client libraries of its image, and our own.
    ("container-psycopg2", Service::Postgres, Family::Libpq, None),
    ("container-rustls", Service::Postgres, Family::Rustls, None),
    ("container-redis-py", Service::Redis, Family::RedisPy, None),
    ("container-redis-rs", Service::Redis, Family::RedisRs, None),
];

/// What the names of drivers begin with that run in the clients' container.
const IN_CONTAINER: &str = "container-";

/// The client that runs in the clients' container as the driver of this name; `None` for other drivers.
#[must_use]
pub fn in_container(name: &str) -> Option<&str> {
    name.strip_prefix(IN_CONTAINER)
}

/// Why there is no driver of this name in an environment without a clients' container.
#[must_use]
pub fn container_missing(name: &str) -> String {
    format!("driver {name} runs in a container: give `--environment container`")
}

/// All of them; versions are those of the name (`libpq-17` is 170000) until the driver itself tells.
#[must_use]
pub fn known() -> Vec<DriverInfo> {
    DRIVERS
        .iter()
        .map(|(name, service, family, libpq)| DriverInfo {
            name: (*name).to_owned(),
            service: *service,
            family: *family,
            libpq: libpq.map(|major| major * 10_000),
            version: String::new(),
            tls_library: None,
        })
        .collect()
}
