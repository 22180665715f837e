//! Which lines of `redis.conf` the environments follow, which they replace, and which they can't follow.
//!
//! A line that is not named here is written into the server's file as it is, and a real Redis follows it.

use load::{LoadError, Place};

use super::redis::directives;
use super::source::Source;

/// Where `redis.conf` stands in its ConfigMap.
pub(super) const DATA: [&str; 2] = ["data", "redis.conf"];

/// Redis' port where there is no line `port`: then it listens there without TLS.
const DEFAULT_PORT: u16 = 6379;

/// Of no bearing on who gets in, and replaced by what a run needs: places, logs, persistence, and the password, which is one of the run's.
pub(super) const REPLACED: [&str; 7] = ["appendonly", "daemonize", "dir", "logfile", "loglevel", "requirepass", "save"];

/// Of no bearing on who gets in, and left out: how this Redis connects to others.
pub(super) const OUTGOING: [&str; 6] =
    ["bind-source-addr", "masterauth", "masteruser", "tls-client-cert-file", "tls-client-key-file", "tls-client-key-file-pass"];

/// What decides who gets in, and can't be followed here; with the reason.
const REFUSED: [(&str, &str); 13] = [
    ("aclfile", "clients here are the default user, with a password of the run's own"),
    ("include", "another file is not there: write its lines here"),
    ("loadmodule", "modules of your image are not there"),
    ("loadmodule-ex", "modules of your image are not there"),
    ("replicaof", "one Redis alone is run"),
    ("sentinel", "a Redis server is run, no Sentinel"),
    ("slaveof", "one Redis alone is run"),
    ("tls-auth-clients-user", "clients here are the default user, with a password of the run's own"),
    ("tls-ca-cert-dir", "clients are verified with tls-ca-cert-file"),
    ("tls-dh-params-file", "the file is not there"),
    ("tls-key-file-pass", "the keys that cert-manager writes have no password"),
    ("unixsocket", "whoever reaches the socket needs neither TLS nor a certificate: take it out"),
    ("user", "clients here are the default user, with a password of the run's own"),
];

/// Checks each line.
pub(super) fn check(source: &Source, text: &str) -> Result<(), LoadError> {
    for (number, line) in text.lines().enumerate() {
        // A comment is no directive.
        for directive in directives(line) {
            let (name, value) = (directive.name.as_str(), directive.value.trim_matches(['"', '\'']));
            if let Some(why) = objection(name, value) {
                return Err(LoadError::new(place(source, number, line), format!("`{name}` in redis.conf is not interpreted here: {why}")));
            }
        }
    }
    if !directives(text).iter().any(|directive| directive.name == "tls-port") {
        return Err(source.error(&DATA, "`tls-port` is missing in redis.conf: Redis is tested with TLS and client certificates"));
    }
    Ok(())
}

/// Why a line can't be followed.
fn objection(name: &str, value: &str) -> Option<String> {
    if name.contains(['"', '\'']) {
        return Some("write the name without quotes".to_owned());
    }
    if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        return Some((*why).to_owned());
    }
    match name {
        "port" if value.parse::<u16>().is_err() => Some(format!("`{value}` is no port: 0 for none, or a number up to 65535")),
        "tls-port" if !value.parse::<u16>().is_ok_and(|port| port > 0) => {
            Some(format!("`{value}` opens no port: Redis is tested with TLS and client certificates"))
        }
        // Redis' own default. A `-` lets it start where there is no such address.
        "bind" if !value.split_whitespace().all(|address| matches!(address.trim_matches(['-', '"']), "*" | "0.0.0.0" | "::" | "::*")) => {
            Some(format!("with `{value}` only some addresses of the pod take connections: write `* -::*`, or take it out"))
        }
        "requirepass" if value.is_empty() => Some("without a password everybody with a certificate gets in, and a run sets one".to_owned()),
        "cluster-enabled" if value.eq_ignore_ascii_case("yes") => Some("one Redis alone is run".to_owned()),
        _ => None,
    }
}

/// Why an option of the server's command line can't be followed: it wins over the file.
pub(super) fn option_objection(name: &str) -> Option<String> {
    (!REPLACED.contains(&name) && !OUTGOING.contains(&name)).then(|| {
        format!(
            "`--{name}` in the command of Redis' container wins over redis.conf and is not interpreted here: write `{name}` into redis.conf"
        )
    })
}

/// Whether the file opens a port without TLS: the last line of a name counts.
pub(super) fn opens_plaintext(port: Option<&str>) -> bool {
    port.map_or(DEFAULT_PORT, |port| port.trim_matches(['"', '\'']).parse().unwrap_or(0)) != 0
}

/// Where a line of the text stands in its file; where the text begins, if it is no block of lines there.
fn place(source: &Source, number: usize, line: &str) -> Place {
    let begin = source.at(&DATA);
    let in_file = begin.line + number as u64;
    let there = usize::try_from(in_file).ok().and_then(|line| source.document.text.lines().nth(line.saturating_sub(1)));
    match there.filter(|there| there.trim() == line.trim()) {
        Some(there) => Place::at(&source.file, (in_file, (there.len() - there.trim_start().len()) as u64 + 1)),
        None => begin,
    }
}
