//! What is not here, what that costs, and what brings it.

use super::builds::{Missing, Toolchain};
use super::closed;
use super::names::{NAUTOBOT_DRIVERS, POSTGRES_DRIVERS, POSTGRES_MAJORS, REDIS_PYTHON_DRIVER};
use super::places::Places;

const SETUP: &str = "`make setup` brings it";

/// Everything of a full toolchain that `found` lacks.
pub(super) fn list(found: &Toolchain, places: &Places) -> Vec<Missing> {
    let missing = |name: &str, cost: String, from: String| missing(places, name, &cost, &from);
    let servers = POSTGRES_MAJORS.iter().filter(|major| found.postgres(**major).is_none()).map(|major| {
        missing(
            &format!("postgres-{major}"),
            format!("PostgreSQL {major}: every case against that version is skipped"),
            format!("{SETUP} from npm"),
        )
    });
    let drivers = POSTGRES_DRIVERS.iter().filter(|driver| found.libpq(driver).is_none() && found.python(driver).is_none()).map(|driver| {
        let (cost, from) = driver_cost(driver);
        missing(driver, cost, from)
    });
    let redis_py = found
        .python(REDIS_PYTHON_DRIVER)
        .is_none()
        .then(|| missing(REDIS_PYTHON_DRIVER, "redis-py: every case of that client is skipped".to_owned(), format!("{SETUP} from PyPI")));
    let nautobot = NAUTOBOT_DRIVERS.iter().filter(|driver| found.python(driver).is_none()).map(|driver| {
        missing(driver, format!("Django, django-redis and kombu: every case of {driver} is skipped"), format!("{SETUP} from PyPI"))
    });
    let tools = [
        ("redis", found.redis.is_none(), "redis-server: every Redis case is skipped", "redis-server"),
        ("haproxy", found.haproxy.is_none(), "HAProxy: every case that goes through the gateway is skipped", "haproxy"),
        ("openssl", found.openssl.is_none(), "openssl: every case that runs the documented openssl commands is skipped", "openssl"),
        ("pgbench", found.pgbench.is_none(), "pgbench: the benchmark has nothing to compare libpq's connections with", "postgresql"),
    ];
    let tools = tools.into_iter().filter(|(_, absent, _, _)| *absent).map(|(name, _, cost, package)| {
        missing(name, cost.to_owned(), format!("{SETUP} with apt, elsewhere install the package `{package}`"))
    });
    servers.chain(drivers).chain(redis_py).chain(nautobot).chain(tools).collect()
}

/// `cost` is what can't be exercised, `from` what brings it where it is not there.
fn missing(places: &Places, name: &str, cost: &str, from: &str) -> Missing {
    match closed::piece(name, places) {
        Some(closed) => {
            let cost = format!("{cost}, since {closed}: {}", closed::way_out(&closed, places));
            Missing { name: name.to_owned(), cost, closed: true }
        }
        None => Missing { name: name.to_owned(), cost: format!("{cost}; {from}"), closed: false },
    }
}

fn driver_cost(driver: &str) -> (String, String) {
    let (what, from) = match driver.strip_prefix("libpq-") {
        Some(wheel) if wheel.starts_with("psycopg2-") => (format!("the libpq inside {}", wheel.replacen('-', "-binary ", 1)), "PyPI"),
        Some(major) => (format!("libpq {major}"), "npm"),
        None => (driver.replacen('-', " ", 1), "PyPI"),
    };
    (format!("{what}: every case of that client is skipped"), format!("{SETUP} from {from}"))
}
