//! Redis' workload, read for one purpose: which Secret is mounted where `redis.conf` expects its certificates.

use super::objects::Objects;
use super::redis::{Redis, directives};
use super::redis_lines::{self, DATA};
use super::source::Source;
use super::workload::{Mounted, Workload};
use load::tree::Tree;
use load::{LoadError, Place};
use model::credential::SecretFile;

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

/// The containers of a workload that mount a ConfigMap.
fn containers_with<'a>(workload: &'a Source, config_map: &str) -> Vec<&'a Tree> {
    let Some(pod) = workload.tree().get(&["spec", "template", "spec"]) else { return Vec::new() };
    let of_config_map = pod.items_at(&["volumes"]).iter().filter(|volume| volume.text_at(&["configMap", "name"]) == Some(config_map));
    let volumes: Vec<&str> = of_config_map.filter_map(|volume| volume.text_at(&["name"])).collect();
    let mounts_it = |container: &&Tree| {
        let mut mounts = container.items_at(&["volumeMounts"]).iter();
        mounts.any(|mount| mount.text_at(&["name"]).is_some_and(|name| volumes.contains(&name)))
    };
    pod.items_at(&["containers"]).iter().filter(mounts_it).collect()
}

/// Whether a word of a command is the server's program, with whichever path.
fn is_redis_server(word: &str) -> bool {
    word.rsplit('/').next() == Some("redis-server")
}

/// Checks the options of `redis-server` in the containers that mount a ConfigMap: they win over its lines.
fn check_command(workload: &Source, config_map: &str) -> Result<(), LoadError> {
    for container in containers_with(workload, config_map) {
        let command = container.items_at(&["command"]);
        // The image's own entrypoint takes options alone for those of the server.
        let mut of_server = command.is_empty();
        for item in command.iter().chain(container.items_at(&["args"])) {
            let text = item.text().unwrap_or_default();
            for word in text.split_whitespace().map(|word| word.trim_matches(['"', '\''])) {
                if matches!(word, "|" | "||" | "&" | "&&" | ";") || word.ends_with(';') {
                    of_server = false;
                } else if is_redis_server(word) {
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

/// Checks that something gives Redis a password. A run has one of its own, so that nothing else would tell that there is none.
pub(super) fn check_password(objects: &Objects, redis: &Redis) -> Result<(), LoadError> {
    let Some((_, workload)) = mounting(objects, &redis.name) else { return Ok(()) };
    let given = |container: &&Tree| {
        let words = container.items_at(&["command"]).iter().chain(container.items_at(&["args"])).filter_map(Tree::text);
        let variables = container.items_at(&["env"]).iter().filter_map(|variable| variable.text_at(&["name"]));
        words.into_iter().any(|word| word.contains("requirepass")) || variables.into_iter().any(|name| PASSWORD_VARIABLES.contains(&name))
    };
    if redis.value("requirepass").is_some() || containers_with(workload, &redis.name).iter().any(given) {
        return Ok(());
    }
    let message = "nothing gives Redis a password, neither `requirepass` in redis.conf nor the command of its container: everybody with a \
                   certificate of the CA gets in. A run has a password of its own: where something else sets yours, write `requirepass` \
                   with any value";
    Err(LoadError::new(place_of_lines(objects, &redis.name).unwrap_or_else(|| redis.place.clone()), message))
}

/// What the start scripts of charts make a password of (Bitnami's images).
const PASSWORD_VARIABLES: [&str; 2] = ["REDIS_PASSWORD", "REDIS_PASSWORD_FILE"];

/// Where the lines of `redis.conf` stand in a ConfigMap.
fn place_of_lines(objects: &Objects, config_map: &str) -> Option<Place> {
    objects.config_maps.iter().find(|source| source.text(&["metadata", "name"]) == Some(config_map)).map(|source| source.at(&DATA))
}

/// A Redis with a certificate of which no `redis.conf` tells anything would be left out in silence. One without is another application's, or
/// has nothing to do with TLS.
fn check_no_redis(objects: &Objects) -> Result<(), LoadError> {
    let written = |secret: &str| objects.certificates.iter().any(|(certificate, _)| certificate.spec.secret_name == secret);
    let with_certificate = |(workload, _): &&(Workload, Source)| workload.secrets.iter().any(|mount| written(&mount.secret));
    for (_, workload) in objects.workloads.iter().filter(with_certificate) {
        let Some(pod) = workload.tree().get(&["spec", "template", "spec"]) else { continue };
        for container in pod.items_at(&["containers"]) {
            let words = container.items_at(&["command"]).iter().chain(container.items_at(&["args"])).filter_map(Tree::text);
            let by_command = words.flat_map(str::split_whitespace).any(is_redis_server);
            let image = container.text_at(&["image"]).and_then(|image| image.rsplit('/').next()).unwrap_or_default();
            if by_command || image.split([':', '@']).next() == Some("redis") {
                let position = container.get(&["image"]).unwrap_or(container).position;
                let message = "this container runs Redis with a certificate, and no ConfigMap here has the key `redis.conf`, from which Redis is configured in a \
                               run: give the ConfigMap that it mounts this key, or leave the workload out";
                return Err(LoadError::new(Place::at(&workload.file, position), message));
            }
        }
    }
    Ok(())
}

/// The deployment's Redis: at most one ConfigMap with `redis.conf`, and the workload that mounts it.
pub(super) fn redis(objects: &Objects) -> Result<Option<Redis>, LoadError> {
    let source = match objects.config_maps.as_slice() {
        [] => return check_no_redis(objects).map(|()| None),
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
    let secret = |directive: &str, expected: SecretFile| {
        let Some(file) = redis.value(directive) else {
            return Err(
                source.error(&DATA, format!("`{directive}` is missing in redis.conf: Redis is tested with TLS and client certificates"))
            );
        };
        let Some(Mounted { secret, key, position, unreadable }) = workload.mounted(file.trim_matches('"')) else {
            let mounts: Vec<_> = workload.secrets.iter().map(|mount| format!("`{}` at {}", mount.secret, mount.path)).collect();
            let mounts = if mounts.is_empty() { "none".to_owned() } else { mounts.join(", ") };
            return Err(source.error(&DATA, format!("`{directive} {file}` is in no Secret that the workload mounts: it mounts {mounts}")));
        };
        if let Some((user, mode)) = unreadable {
            let message = format!(
                "the user {user} of the container can't read `{directive} {file}`: the files of this volume are root's with mode {mode:04o}; \
                 set `fsGroup` in the pod's securityContext"
            );
            return Err(LoadError::new(Place::at(&workload_source.file, position), message));
        }
        let expected = expected.file_name();
        match key {
            Some(key) if key == expected => Ok(secret.to_owned()),
            Some(key) => {
                let message =
                    format!("`{directive} {file}` is the key `{key}` of the Secret `{secret}`: `{expected}` of it is interpreted here");
                Err(source.error(&DATA, message))
            }
            None => {
                let message = format!("`{directive} {file}` is not there: the `items` of the volume of the Secret `{secret}` leave it out");
                Err(source.error(&DATA, message))
            }
        }
    };
    let server_tls = secret("tls-cert-file", SecretFile::Certificate)?;
    let key = secret("tls-key-file", SecretFile::Key)?;
    let client_ca = secret("tls-ca-cert-file", SecretFile::Ca)?;
    if key != server_tls {
        let message = format!("tls-cert-file is in the Secret `{server_tls}` and tls-key-file in `{key}`: they must be of one Certificate");
        return Err(source.error(&DATA, message));
    }
    redis.server_tls = server_tls;
    redis.client_ca = client_ca;
    Ok(Some(redis))
}
