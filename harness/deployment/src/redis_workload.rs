//! Redis' workload, read for one purpose: which Secret is mounted where `redis.conf` expects its certificates.

use super::objects::Objects;
use super::redis::{Redis, directives};
use super::source::Source;
use super::workload::Workload;
use load::tree::Tree;
use load::{LoadError, Place};

/// The workload that mounts a ConfigMap.
fn mounting<'a>(objects: &'a Objects, config_map: &str) -> Option<&'a (Workload, Source)> {
    objects.workloads.iter().find(|(workload, _)| workload.config_maps.iter().any(|name| name == config_map))
}

/// Whether a Service's selector matches the pods of the workload that mounts a ConfigMap.
pub(super) fn is_selected(objects: &Objects, config_map: &str, service: &Tree) -> bool {
    let selector = service.get(&["spec", "selector"]).map(Tree::entries).unwrap_or_default();
    let Some((_, workload)) = mounting(objects, config_map) else { return false };
    let label = |name: &str| workload.text(&["spec", "template", "metadata", "labels", name]);
    // Without a selector a Service leads to whatever somebody else says.
    !selector.is_empty() && selector.iter().all(|entry| entry.value.text().is_some_and(|value| label(&entry.key) == Some(value)))
}

/// Where the workload that mounts a ConfigMap names a Secret.
pub(super) fn place_of_secret(objects: &Objects, config_map: &str, secret: &str) -> Option<Place> {
    let (workload, source) = mounting(objects, config_map)?;
    let mount = workload.secrets.iter().find(|mount| mount.secret == secret)?;
    Some(Place::at(&source.file, mount.position))
}

/// The deployment's Redis: at most one ConfigMap with `redis.conf`, and the workload that mounts it.
pub(super) fn redis(objects: &Objects) -> Result<Option<Redis>, LoadError> {
    let data = ["data", "redis.conf"];
    let source = match objects.config_maps.as_slice() {
        [] => return Ok(None),
        [source] => source,
        [first, second, ..] => {
            let message = format!("a second `redis.conf`: one Redis is tested at a time, and the first is at {}", first.at(&data));
            return Err(second.error(&data, message));
        }
    };
    let tree = &source.document.tree;
    let name = tree.text_at(&["metadata", "name"]).unwrap_or_default().to_owned();
    let Some(text) = tree.text_at(&data) else { return Err(source.error(&data, "`redis.conf` is no text")) };
    let directives = directives(text);
    let Some((workload, _)) = mounting(objects, &name) else {
        let message = format!("no StatefulSet or Deployment mounts the ConfigMap `{name}`: where its certificates come from can't be told");
        return Err(source.error(&["metadata", "name"], message));
    };
    let mut redis = Redis {
        name,
        namespace: source.namespace(),
        directives,
        server_tls: String::new(),
        client_ca: String::new(),
        place: source.at(&["metadata", "name"]),
    };
    let secret = |directive: &str| {
        let Some(file) = redis.value(directive) else {
            return Err(
                source.error(&data, format!("`{directive}` is missing in redis.conf: Redis is tested with TLS and client certificates"))
            );
        };
        workload.secret_of(file.trim_matches('"')).map(str::to_owned).ok_or_else(|| {
            let mounts: Vec<_> = workload.secrets.iter().map(|mount| format!("`{}` at {}", mount.secret, mount.path)).collect();
            let mounts = if mounts.is_empty() { "none".to_owned() } else { mounts.join(", ") };
            source.error(&data, format!("`{directive} {file}` is in no Secret that the workload mounts: it mounts {mounts}"))
        })
    };
    let server_tls = secret("tls-cert-file")?;
    let key = secret("tls-key-file")?;
    let client_ca = secret("tls-ca-cert-file")?;
    if key != server_tls {
        let message = format!("tls-cert-file is in the Secret `{server_tls}` and tls-key-file in `{key}`: they must be of one Certificate");
        return Err(source.error(&data, message));
    }
    redis.server_tls = server_tls;
    redis.client_ca = client_ca;
    Ok(Some(redis))
}
