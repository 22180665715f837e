//! Redis as a ConfigMap with `redis.conf` and the workload that mounts it.

use load::Place;

/// Redis of the deployment.
#[derive(Debug, Clone)]
pub struct Redis {
    /// `metadata.name` of the ConfigMap.
    pub name: String,
    /// `metadata.namespace` of the ConfigMap.
    pub namespace: Option<String>,
    /// The lines of `redis.conf`, comments left out.
    pub directives: Vec<Directive>,
    /// The Secret that `tls-cert-file` and `tls-key-file` are mounted from.
    pub server_tls: String,
    /// The Secret that `tls-ca-cert-file` is mounted from; clients are verified with its `ca.crt`.
    pub client_ca: String,
    /// Where the ConfigMap stands.
    pub place: Place,
}

/// A line of `redis.conf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// Its name in lower case.
    pub name: String,
    /// The rest of the line, quotes included.
    pub value: String,
}

impl Redis {
    /// The value of a directive: the last one counts, as for Redis.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        value(&self.directives, name)
    }
}

/// The value of a directive: the last one counts, as for Redis.
pub(super) fn value<'a>(directives: &'a [Directive], name: &str) -> Option<&'a str> {
    directives.iter().rev().find(|directive| directive.name == name).map(|directive| directive.value.as_str())
}

/// The directives of a `redis.conf`.
pub(super) fn directives(text: &str) -> Vec<Directive> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (name, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            Directive { name: name.to_ascii_lowercase(), value: value.trim().to_owned() }
        })
        .collect()
}
