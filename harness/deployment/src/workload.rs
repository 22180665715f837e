//! The volumes of a StatefulSet or Deployment: which ConfigMaps and Secrets its containers see, and where.

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
}

impl Workload {
    /// Reads the pod template; everything that is no volume stays unread.
    pub(super) fn from_tree(tree: &Tree) -> Self {
        let mut workload = Self::default();
        let Some(pod) = tree.get(&["spec", "template", "spec"]) else { return workload };
        let volumes = pod.items_at(&["volumes"]);
        workload.config_maps = volumes.iter().filter_map(|volume| volume.text_at(&["configMap", "name"])).map(str::to_owned).collect();
        let containers = pod.items_at(&["containers"]);
        for mount in containers.iter().flat_map(|container| container.items_at(&["volumeMounts"])) {
            let (Some(name), Some(path)) = (mount.text_at(&["name"]), mount.text_at(&["mountPath"])) else { continue };
            let volume = volumes.iter().find(|volume| volume.text_at(&["name"]) == Some(name));
            let Some(secret) = volume.and_then(|volume| volume.get(&["secret", "secretName"])) else { continue };
            if let Some(name) = secret.text() {
                let path = path.trim_end_matches('/').to_owned();
                workload.secrets.push(Mount { path, secret: name.to_owned(), position: secret.position });
            }
        }
        workload
    }

    /// The Secret that a file comes from: the longest mount path above it.
    pub(super) fn secret_of(&self, file: &str) -> Option<&str> {
        self.secrets
            .iter()
            .filter(|mount| file.strip_prefix(mount.path.as_str()).is_some_and(|rest| rest.starts_with('/')))
            .max_by_key(|mount| mount.path.len())
            .map(|mount| mount.secret.as_str())
    }
}
