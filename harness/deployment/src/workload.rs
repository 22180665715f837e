//! The volumes of a StatefulSet or Deployment: which ConfigMaps and Secrets its containers see, and where.

use super::source::Source;
use load::tree::{Position, Tree};

/// The volumes of a StatefulSet or Deployment as its containers see them.
#[derive(Debug, Clone, Default)]
pub(super) struct Workload {
    /// The names of the ConfigMaps that are volumes, mounted or not.
    pub(super) config_maps: Vec<String>,
    /// The Secrets that a container mounts, one entry a mount.
    pub(super) secrets: Vec<Mount>,
}

/// A Secret in a container.
#[derive(Debug, Clone)]
pub(super) struct Mount {
    /// Its directory there, without a slash at the end.
    pub(super) path: String,
    /// The name of the Secret that is mounted there.
    pub(super) secret: String,
    /// Where the volume names it.
    pub(super) position: Position,
    /// The user of the container, where it can't read the volume's files, with their mode.
    unreadable: Option<(String, u32)>,
    /// `items` of the volume: path below the directory, and key of the Secret. `None`: every key is a file of its name.
    items: Option<Vec<(String, String)>>,
}

impl Mount {
    /// The key of the Secret that a file below the directory has the text of.
    fn key<'a>(&'a self, below: &'a str) -> Option<&'a str> {
        match &self.items {
            None => Some(below),
            Some(items) => items.iter().find(|(path, _)| path == below).map(|(_, key)| key.as_str()),
        }
    }
}

/// Where a file in a container comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mounted<'a> {
    /// The name of the Secret.
    pub(super) secret: &'a str,
    /// The key of it; `None`: the volume's `items` leave the file out.
    pub(super) key: Option<&'a str>,
    /// Where the volume names the Secret.
    pub(super) position: Position,
    /// The user of the container, where it can't read the file, and the file's mode.
    pub(super) unreadable: Option<&'a (String, u32)>,
}

impl Workload {
    /// Reads the pod template; everything that is no volume stays unread.
    pub(super) fn read(source: &Source) -> Self {
        let mut workload = Self::default();
        let Some(pod) = source.tree().get(&["spec", "template", "spec"]) else { return workload };
        let volumes = pod.items_at(&["volumes"]);
        workload.config_maps = volumes.iter().filter_map(|volume| volume.text_at(&["configMap", "name"])).map(str::to_owned).collect();
        let containers = pod.items_at(&["containers"]);
        let mounts =
            containers.iter().flat_map(|container| container.items_at(&["volumeMounts"]).iter().map(move |mount| (container, mount)));
        for (container, mount) in mounts {
            let (Some(name), Some(path)) = (mount.text_at(&["name"]), mount.text_at(&["mountPath"])) else { continue };
            let volume = volumes.iter().find(|volume| volume.text_at(&["name"]) == Some(name));
            let Some(secret) = volume.and_then(|volume| volume.get(&["secret", "secretName"])) else { continue };
            if let Some(name) = secret.text() {
                let path = path.trim_end_matches('/').to_owned();
                let items = volume.and_then(|volume| volume.get(&["secret", "items"])).map(|items| {
                    let text = |item: &Tree, field| item.text_at(&[field]).unwrap_or_default().to_owned();
                    items.items().iter().map(|item| (text(item, "path"), text(item, "key"))).collect()
                });
                let unreadable = volume.and_then(|volume| unreadable(source, pod, container, volume));
                workload.secrets.push(Mount { path, secret: name.to_owned(), position: secret.position, unreadable, items });
            }
        }
        workload
    }

    /// Where a file comes from: the Secret with the longest mount path above it.
    pub(super) fn mounted<'a>(&'a self, file: &'a str) -> Option<Mounted<'a>> {
        let below = |mount: &Mount| file.strip_prefix(mount.path.as_str()).and_then(|rest| rest.strip_prefix('/'));
        let mount = self.secrets.iter().filter(|mount| below(mount).is_some()).max_by_key(|mount| mount.path.len())?;
        Some(Mounted {
            secret: &mount.secret,
            key: mount.key(below(mount)?),
            position: mount.position,
            unreadable: mount.unreadable.as_ref(),
        })
    }
}

/// The user of a container that can't read the files of a volume, and their mode. They are root's; `fsGroup` makes them its own and readable.
/// Without `runAsUser` the image says who the user is, which can't be told here.
fn unreadable(source: &Source, pod: &Tree, container: &Tree, volume: &Tree) -> Option<(String, u32)> {
    let security = |field| container.text_at(&["securityContext", field]).or_else(|| pod.text_at(&["securityContext", field]));
    let user = security("runAsUser").filter(|user| *user != "0")?;
    let mode = volume.get(&["secret", "defaultMode"]).and_then(|value| mode(&source.written(value.position))).unwrap_or(0o644);
    let of_group = security("runAsGroup") == Some("0") && mode & 0o040 != 0;
    let readable = mode & 0o004 != 0 || of_group || pod.text_at(&["securityContext", "fsGroup"]).is_some();
    (!readable).then(|| (user.to_owned(), mode))
}

/// A mode as Kubernetes reads it in YAML: octal with a zero before it, else decimal.
fn mode(text: &str) -> Option<u32> {
    match text.strip_prefix("0o").or_else(|| text.strip_prefix('0')) {
        Some("") => Some(0),
        Some(octal) => u32::from_str_radix(octal, 8).ok(),
        None => text.parse().ok(),
    }
}
