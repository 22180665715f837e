//! `redis.conf` of a local server.

use std::collections::BTreeSet;
use std::path::Path;

use super::Manifests;
use super::redis::{directives, value};
use super::redis_lines::{OUTGOING, REPLACED, opens_plaintext};
use model::server::ServerConfig;

/// The server's certificate in the directory of certificates.
pub const SERVER_CERTIFICATE: &str = "tls.crt";
/// The key of [`SERVER_CERTIFICATE`].
pub const SERVER_KEY: &str = "tls.key";
/// What client certificates are verified with.
pub const CLIENT_CA: &str = "ca.crt";

/// Where the local server's files are, and what it listens on.
#[derive(Debug, Clone, Copy)]
pub struct RedisPlaces<'a> {
    /// `tls-port`: the port of this server alone.
    pub tls_port: u16,
    /// `port`, where the deployment or a scenario opens a port without TLS: another port of this server alone.
    pub plaintext_port: u16,
    /// `bind`, such as `127.0.0.1 ::1`.
    pub bind: &'a str,
    /// `dir`: the working directory, where dumps would go.
    pub directory: &'a Path,
    /// The directory of [`SERVER_CERTIFICATE`], [`SERVER_KEY`] and [`CLIENT_CA`].
    pub certificates: &'a Path,
    /// `logfile`: the whole path of the log.
    pub log_file: &'a Path,
    /// A file with the line `requirepass ...`, readable by the server alone, so that the password stands in no other file.
    pub password_file: Option<&'a Path>,
}

/// Redis can't be configured as a scenario asks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedisConfigError {
    /// No Redis in the manifests.
    #[error("the manifests in {0} have no ConfigMap with redis.conf: add one, or leave out the scenarios of Redis")]
    NoRedis(std::path::PathBuf),
    /// The scenario gives its server something that only PostgreSQL has.
    #[error("`{0}` of a scenario's server is not for Redis: settings, certificate and client_ca are")]
    NotForRedis(&'static str),
}

/// Renders `redis.conf`: the ConfigMap's lines, then places and the scenario's settings, each in place of a line of that name.
///
/// # Errors
/// [`RedisConfigError`].
pub fn render(manifests: &Manifests, config: &ServerConfig, places: &RedisPlaces<'_>) -> Result<String, RedisConfigError> {
    let redis = manifests.redis.as_ref().ok_or_else(|| RedisConfigError::NoRedis(manifests.directory.clone()))?;
    if config.pg_hba.is_some() {
        return Err(RedisConfigError::NotForRedis("pg_hba"));
    }
    if config.crl.is_some() {
        return Err(RedisConfigError::NotForRedis("crl"));
    }
    // Redis itself would refuse two listeners on one port: here each has one of its own, whatever numbers the file gives them.
    let opens = opens_plaintext(config.settings.get("port").map(String::as_str).or_else(|| redis.value("port")));
    let path = |path: &Path| quoted(&path.to_string_lossy());
    let certificate = |name: &str| path(&places.certificates.join(name));
    let mut ours: Vec<(&str, String)> = vec![
        ("tls-port", places.tls_port.to_string()),
        ("port", if opens { places.plaintext_port } else { 0 }.to_string()),
        ("bind", places.bind.to_owned()),
        ("dir", path(places.directory)),
        ("tls-cert-file", certificate(SERVER_CERTIFICATE)),
        ("tls-key-file", certificate(SERVER_KEY)),
        ("logfile", path(places.log_file)),
        ("loglevel", "verbose".to_owned()),
        ("daemonize", "no".to_owned()),
        ("save", "\"\"".to_owned()),
        ("appendonly", "no".to_owned()),
    ];
    if config.client_ca.as_deref() != Some("none") {
        ours.push(("tls-ca-cert-file", certificate(CLIENT_CA)));
    }
    ours.retain(|(name, _)| *name == "port" || !config.settings.contains_key(*name));
    ours.extend(config.settings.iter().filter(|(name, _)| *name != "port").map(|(name, value)| (name.as_str(), value.clone())));
    // Also what we leave out on purpose must not come from the ConfigMap.
    let replaced: BTreeSet<&str> = ours.iter().map(|(name, _)| *name).chain(["tls-ca-cert-file"]).chain(REPLACED).chain(OUTGOING).collect();
    let mut text = String::new();
    for directive in redis.directives.iter().filter(|directive| !replaced.contains(directive.name.as_str())) {
        line(&mut text, &directive.name, &directive.value);
    }
    for (name, value) in &ours {
        line(&mut text, name, value);
    }
    if let Some(file) = places.password_file {
        line(&mut text, "include", &path(file));
    }
    Ok(text)
}

/// The port without TLS that a rendered `redis.conf` opens; `None`: it opens none.
#[must_use]
pub fn plaintext_port(text: &str) -> Option<u16> {
    value(&directives(text), "port")?.parse().ok().filter(|port| *port != 0)
}

fn line(text: &mut String, name: &str, value: &str) {
    text.push_str(name);
    text.push(' ');
    text.push_str(value);
    text.push('\n');
}

/// A value in double quotes, as Redis splits its lines.
fn quoted(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('"');
    for character in value.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
