//! What is not here, what that costs, and what brings it.

use super::builds::{Missing, Toolchain};
use super::names::{NAUTOBOT_DRIVERS, POSTGRES_DRIVERS, POSTGRES_MAJORS, REDIS_PYTHON_DRIVER};

const SETUP: &str = "`make setup` brings it";

/// Everything of a full toolchain that `found` lacks.
pub(super) fn list(found: &Toolchain) -> Vec<Missing> {
    let servers = POSTGRES_MAJORS.iter().filter(|major| found.postgres(**major).is_none()).map(|major| {
        missing(&format!("postgres-{major}"), format!("PostgreSQL {major}: every case against that version is skipped; {SETUP} from npm"))
    });
    let drivers = POSTGRES_DRIVERS
        .iter()
        .filter(|driver| found.libpq(driver).is_none() && found.python(driver).is_none())
        .map(|driver| missing(driver, driver_cost(driver)));
    let redis_py = found
        .python(REDIS_PYTHON_DRIVER)
        .is_none()
        .then(|| missing(REDIS_PYTHON_DRIVER, format!("redis-py: every case of that client is skipped; {SETUP} from PyPI")));
    let nautobot = NAUTOBOT_DRIVERS
        .iter()
        .filter(|driver| found.python(driver).is_none())
        .map(|driver| missing(driver, format!("Django, django-redis and kombu: every case of {driver} is skipped; {SETUP} from PyPI")));
    let tools = [
        ("redis", found.redis.is_none(), "redis-server: every Redis case is skipped", "redis-server"),
        ("haproxy", found.haproxy.is_none(), "HAProxy: every case that goes through the gateway is skipped", "haproxy"),
        ("openssl", found.openssl.is_none(), "openssl: every case that runs the documented openssl commands is skipped", "openssl"),
        ("pgbench", found.pgbench.is_none(), "pgbench: the benchmark has nothing to compare libpq's connections with", "postgresql"),
    ];
    let tools = tools
        .into_iter()
        .filter(|(_, absent, _, _)| *absent)
        .map(|(name, _, cost, package)| missing(name, format!("{cost}; {SETUP} with apt, elsewhere install the package `{package}`")));
    servers.chain(drivers).chain(redis_py).chain(nautobot).chain(tools).collect()
}

fn missing(name: &str, cost: String) -> Missing {
    Missing { name: name.to_owned(), cost }
}

fn driver_cost(driver: &str) -> String {
    let (what, from) = match driver.strip_prefix("libpq-") {
        Some(wheel) if wheel.starts_with("psycopg2-") => (format!("the libpq inside {}", wheel.replacen('-', "-binary ", 1)), "PyPI"),
        Some(major) => (format!("libpq {major}"), "npm"),
        None => (driver.replacen('-', " ", 1), "PyPI"),
    };
    format!("{what}: every case of that client is skipped; {SETUP} from {from}")
}
