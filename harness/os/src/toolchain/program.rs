//! Single programs and what they say of their version.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::builds::Tool;
use super::places::{Places, entries, is_program};

/// The first line that `program argument` prints; `None` if it can't be run or fails.
pub(super) fn says(program: &Path, argument: &str) -> Option<String> {
    let output = Command::new(program)
        .arg(argument)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(|line| line.trim().to_owned())
}

pub(super) fn redis_server(places: &Places) -> Option<Tool> {
    tool(places.program("redis-server")?, "--version", redis_version)
}

pub(super) fn haproxy(places: &Places) -> Option<Tool> {
    let path = places
        .program("haproxy")
        .or_else(|| places.system_programs.iter().map(|folder| folder.join("haproxy")).find(|path| is_program(path)))?;
    tool(path, "-v", haproxy_version)
}

pub(super) fn openssl(places: &Places) -> Option<Tool> {
    tool(places.program("openssl")?, "version", openssl_version)
}

/// Of the newest PostgreSQL that has one: Debian's `/usr/bin/pgbench` is a Perl script that looks for it first, which a measurement
/// of connections would count.
pub(super) fn pgbench(places: &Places) -> Option<Tool> {
    let newest = places
        .postgres_roots
        .iter()
        .flat_map(|root| entries(root))
        .map(|folder| folder.join("bin/pgbench"))
        .filter(|path| is_program(path))
        .filter_map(|path| tool(path, "--version", postgres_version))
        .max_by_key(|tool| postgres_major(&tool.version));
    newest.or_else(|| tool(places.program("pgbench")?, "--version", postgres_version))
}

fn tool(path: PathBuf, argument: &str, version: fn(&str) -> Option<String>) -> Option<Tool> {
    let version = version(&says(&path, argument)?)?;
    Some(Tool { path, version })
}

/// The version in `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, and likewise of `pgbench` and others.
pub(super) fn postgres_version(line: &str) -> Option<String> {
    let (_, after) = line.split_once("(PostgreSQL) ")?;
    Some(after.split_whitespace().next()?.to_owned())
}

/// The major of a version such as `17.10`, `18beta1` or `19devel`.
pub(super) fn postgres_major(version: &str) -> Option<u16> {
    let end = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..end].parse().ok()
}

fn redis_version(line: &str) -> Option<String> {
    let (_, after) = line.split_once("v=")?;
    Some(after.split_whitespace().next()?.to_owned())
}

fn haproxy_version(line: &str) -> Option<String> {
    // `HA-Proxy version` before 2.4.
    let (_, after) = line.split_once("Proxy version ")?;
    Some(after.split_whitespace().next()?.to_owned())
}

fn openssl_version(line: &str) -> Option<String> {
    // 3.0 and later add the version of the library in parentheses.
    let version = line.split(" (").next()?.trim();
    version.contains(' ').then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_postgres_is_the_word_after_its_name() {
        let debian = "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)";
        assert_eq!(postgres_version(debian).as_deref(), Some("15.18"));
        assert_eq!(postgres_version("postgres (PostgreSQL) 17.10").as_deref(), Some("17.10"));
        assert_eq!(postgres_version("pgbench (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)").as_deref(), Some("15.18"));
        assert_eq!(postgres_version("postgres: not found"), None);
    }

    #[test]
    fn the_major_is_read_from_releases_and_from_beta_versions() {
        assert_eq!(postgres_major("17.10"), Some(17));
        assert_eq!(postgres_major("19beta1"), Some(19));
        assert_eq!(postgres_major("devel"), None);
    }

    #[test]
    fn the_versions_of_redis_haproxy_and_openssl_are_read_from_what_they_print() {
        let redis = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=ae4d7c971a948f0";
        assert_eq!(redis_version(redis).as_deref(), Some("7.0.15"));
        let haproxy = "HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/";
        assert_eq!(haproxy_version(haproxy).as_deref(), Some("2.6.12-1+deb12u4"));
        let openssl = "OpenSSL 3.0.19 27 Jan 2026 (Library: OpenSSL 3.0.19 27 Jan 2026)";
        assert_eq!(openssl_version(openssl).as_deref(), Some("OpenSSL 3.0.19 27 Jan 2026"));
        assert_eq!(openssl_version("LibreSSL 3.8.2").as_deref(), Some("LibreSSL 3.8.2"));
    }
}
