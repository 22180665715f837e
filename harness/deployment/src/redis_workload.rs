//! Redis' workload, read for one purpose: which Secret is mounted where `redis.conf` expects its certificates.

use super::objects::Objects;
use super::redis::{Redis, directives};
use super::redis_lines::{self, DATA};
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

/// The number of a port that a container of the workload that mounts a ConfigMap gives a name.
pub(super) fn container_port<'a>(objects: &'a Objects, config_map: &str, name: &str) -> Option<&'a str> {
    let (_, workload) = mounting(objects, config_map)?;
    let containers = workload.tree().get(&["spec", "template", "spec", "containers"])?.items();
    let mut ports = containers.iter().flat_map(|container| container.items_at(&["ports"]));
    ports.find(|port| port.text_at(&["name"]) == Some(name))?.text_at(&["containerPort"])
}

/// Where the workload that mounts a ConfigMap names a Secret.
pub(super) fn place_of_secret(objects: &Objects, config_map: &str, secret: &str) -> Option<Place> {
    let (workload, source) = mounting(objects, config_map)?;
    let mount = workload.secrets.iter().find(|mount| mount.secret == secret)?;
    Some(Place::at(&source.file, mount.position))
}

/// Checks the options of `redis-server` in the containers that mount a ConfigMap: they win over its lines.
fn check_command(workload: &Source, config_map: &str) -> Result<(), LoadError> {
    let Some(pod) = workload.tree().get(&["spec", "template", "spec"]) else { return Ok(()) };
    let of_config_map = pod.items_at(&["volumes"]).iter().filter(|volume| volume.text_at(&["configMap", "name"]) == Some(config_map));
    let volumes: Vec<&str> = of_config_map.filter_map(|volume| volume.text_at(&["name"])).collect();
    let mounts_it = |container: &&Tree| {
        let mut mounts = container.items_at(&["volumeMounts"]).iter();
        mounts.any(|mount| mount.text_at(&["name"]).is_some_and(|name| volumes.contains(&name)))
    };
    for container in pod.items_at(&["containers"]).iter().filter(mounts_it) {
        let command = container.items_at(&["command"]);
        // The image's own entrypoint takes options alone for those of the server.
        let mut of_server = command.is_empty();
        for item in command.iter().chain(container.items_at(&["args"])) {
            let text = item.text().unwrap_or_default();
            for word in text.split_whitespace().map(|word| word.trim_matches(['"', '\''])) {
                if matches!(word, "|" | "||" | "&" | "&&" | ";") || word.ends_with(';') {
                    of_server = false;
                } else if word.rsplit('/').next() == Some("redis-server") {
                    of_server = true;
                } else if let (true, Some(option)) = (of_server, word.strip_prefix("--"))
                    && let Some(message) = redis_lines::option_objection(&option.to_ascii_lowercase())
                {
                    return Err(LoadError::new(Place::at(&workload.file, item.position), message));
                }
            }
            // What follows a shell's script is not the server's.
            of_server &= !text.contains(char::is_whitespace);
        }
    }
    Ok(())
}

/// The deployment's Redis: at most one ConfigMap with `redis.conf`, and the workload that mounts it.
pub(super) fn redis(objects: &Objects) -> Result<Option<Redis>, LoadError> {
    let source = match objects.config_maps.as_slice() {
        [] => return Ok(None),
        [source] => source,
        [first, second, ..] => {
            let message = format!("a second `redis.conf`: one Redis is tested at a time, and the first is at {}", first.at(&DATA));
            return Err(second.error(&DATA, message));
        }
    };
    let tree = &source.document.tree;
    let name = tree.text_at(&["metadata", "name"]).unwrap_or_default().to_owned();
    let Some(text) = tree.text_at(&DATA) else { return Err(source.error(&DATA, "`redis.conf` is no text")) };
    redis_lines::check(source, text)?;
    let directives = directives(text);
    let Some((workload, workload_source)) = mounting(objects, &name) else {
        let message = format!("no StatefulSet or Deployment mounts the ConfigMap `{name}`: where its certificates come from can't be told");
        return Err(source.error(&["metadata", "name"], message));
    };
    check_command(workload_source, &name)?;
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
                source.error(&DATA, format!("`{directive}` is missing in redis.conf: Redis is tested with TLS and client certificates"))
            );
        };
        workload.secret_of(file.trim_matches('"')).map(str::to_owned).ok_or_else(|| {
            let mounts: Vec<_> = workload.secrets.iter().map(|mount| format!("`{}` at {}", mount.secret, mount.path)).collect();
            let mounts = if mounts.is_empty() { "none".to_owned() } else { mounts.join(", ") };
            source.error(&DATA, format!("`{directive} {file}` is in no Secret that the workload mounts: it mounts {mounts}"))
        })
    };
    let server_tls = secret("tls-cert-file")?;
    let key = secret("tls-key-file")?;
    let client_ca = secret("tls-ca-cert-file")?;
    if key != server_tls {
        let message = format!("tls-cert-file is in the Secret `{server_tls}` and tls-key-file in `{key}`: they must be of one Certificate");
        return Err(source.error(&DATA, message));
    }
    redis.server_tls = server_tls;
    redis.client_ca = client_ca;
    Ok(Some(redis))
}
