//! Looks around in the container.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::ifaddrs::getifaddrs;
use nix::unistd::{Uid, User, geteuid};
use serde::Deserialize;

use super::super::survey::{Interface, Python, Survey};
use os::toolchain::{Places, Toolchain};
use os::user::RunAs;

/// No such directory: nothing of ours is in a container.
const NO_TOOLCHAIN: &str = "/nonexistent";

/// The user of CloudNativePG's images, which some of them have no name for.
const CLOUDNATIVEPG: u32 = 26;

pub(super) fn survey() -> Survey {
    let places = Places::of_this_machine(Path::new(NO_TOOLCHAIN));
    std::thread::scope(|scope| {
        let python = scope.spawn(|| python(&places));
        Survey {
            // What is missing is said with what brings it to the harness's machine: not here.
            toolchain: Toolchain { missing: Vec::new(), ..Toolchain::find_in(&places) },
            // A thread that panicked found nothing.
            python: python.join().unwrap_or_default(),
            users: users(),
            interfaces: interfaces(),
            release: release(),
        }
    })
}

fn users() -> Vec<RunAs> {
    if !geteuid().is_root() {
        return Vec::new();
    }
    let found =
        [User::from_name("postgres"), User::from_uid(Uid::from_raw(CLOUDNATIVEPG)), User::from_name("redis"), User::from_name("nobody")];
    let mut users: Vec<RunAs> = Vec::new();
    for user in found.into_iter().filter_map(|user| user.ok().flatten()) {
        if !user.uid.is_root() && users.iter().all(|known| known.uid != user.uid.as_raw()) {
            users.push(RunAs { name: user.name, gid: user.gid.as_raw(), ..RunAs::alone(user.uid.as_raw()) });
        }
    }
    users
}

fn interfaces() -> Vec<Interface> {
    let Ok(interfaces) = getifaddrs() else { return Vec::new() };
    interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
            let address = v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))?;
            Some(Interface { name: interface.interface_name, address })
        })
        .filter(|interface| !interface.address.is_loopback())
        .collect()
}

fn release() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "an unknown system (no /etc/os-release)".to_owned(), |name| name.trim_matches('"').to_owned())
}

/// Tells its own version and those of the clients, in JSON.
const PYTHON_SCRIPT: &str = r"
import json, platform
found = {'version': platform.python_version()}
for module in ('psycopg2', 'redis'):
    try:
        found[module] = __import__(module).__version__.split()[0]
    except Exception:
        found[module] = None
print(json.dumps(found))
";

#[derive(Deserialize)]
struct PythonSays {
    version: String,
    psycopg2: Option<String>,
    redis: Option<String>,
}

fn python(places: &Places) -> Option<Python> {
    let interpreter: PathBuf = places.program("python3")?;
    let output = Command::new(&interpreter).args(["-sEc", PYTHON_SCRIPT]).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let PythonSays { version, psycopg2, redis } = serde_json::from_slice(&output.stdout).ok()?;
    Some(Python { interpreter, version, psycopg2, redis })
}
