//! The Python clients' files, and how Python runs one.

use std::ffi::OsString;
use std::path::Path;

/// Files of `harness/clients/`: where each lies below that folder, and its text.
macro_rules! client_files {
    ($($path:literal),+ $(,)?) => { &[$(($path, include_str!(concat!("../../../clients/", $path)))),+] };
}

/// The Python clients, so that an installed harness needs no repository.
pub(super) const CLIENT_FILES: &[(&str, &str)] = client_files![
    "mtls_client.py",
    "mtls_protocol.py",
    "mtls_psycopg2.py",
    "mtls_redis_py.py",
    "mtls_serving.py",
    "mtls_user.py",
    "mtls_watched.py",
    "nautobot_client.py",
    "nautobot_config.py",
    "nautobot_django.py",
    "nautobot_loading.py",
    "nautobot_mount.py",
    "nautobot_redis.py",
    "stand-in/nautobot/core/settings.py",
];

/// Writes the Python clients' files below this folder, as they lie in `harness/clients/`.
pub(super) fn write_clients(folder: &Path) -> std::io::Result<()> {
    for (path, text) in CLIENT_FILES {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(folder))?;
        std::fs::write(path, text)?;
    }
    Ok(())
}

/// What runs a script among them. -I would keep it from the modules beside it; -s and -E keep the user's site-packages and `PYTHON*`
/// variables away. -B: no bytecode beside the packages.
pub(super) fn python_args(folder: &Path, script: &str) -> [OsString; 2] {
    ["-sEB".into(), folder.join(script).into_os_string()]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn every_python_file_among_the_clients_is_written_for_them() {
        let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients");
        let written = tempfile::tempdir().expect("a directory");
        write_clients(written.path()).expect("writes");
        assert_eq!(python_files(written.path(), written.path()), python_files(&clients, &clients));
    }

    fn python_files(root: &Path, folder: &Path) -> BTreeMap<PathBuf, String> {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                files.extend(python_files(root, &path));
            } else if path.extension().is_some_and(|extension| extension == "py") {
                let text = std::fs::read_to_string(&path).expect("reads");
                files.insert(path.strip_prefix(root).expect("below it").to_path_buf(), text);
            }
        }
        files
    }
}
