//! The labels that say whose a container, a network or a volume is.

use std::collections::HashMap;
use std::io;
use std::path::Path;

/// The run's id: everything that a run makes has it.
pub(super) const RUN: &str = "mtls-conformance.run";

/// The image's reference, for people: containers are started from its id.
pub(super) const IMAGE: &str = "mtls-conformance.image";

/// The harness's process.
const PID: &str = "mtls-conformance.pid";

/// When that process started, in the kernel's ticks since boot: a number that is in use again has another.
const PID_START: &str = "mtls-conformance.pid-start";

/// The boot of the kernel under which it ran.
const BOOT: &str = "mtls-conformance.boot";

/// The namespace of its number, and the host's name: elsewhere nobody can tell whether it lives.
const PID_NAMESPACE: &str = "mtls-conformance.pid-namespace";
const HOST: &str = "mtls-conformance.host";

/// The process that a run belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) pid: String,
    pub(super) start: String,
    pub(super) boot: String,
    pub(super) namespace: String,
    pub(super) host: String,
}

impl Owner {
    /// This process.
    ///
    /// # Errors
    /// Those of reading /proc.
    pub(super) fn current() -> io::Result<Self> {
        let pid = std::process::id().to_string();
        let start = started(&pid).ok_or_else(|| io::Error::other("/proc does not tell when this process started"))?;
        let line = |path: &str| Ok::<_, io::Error>(std::fs::read_to_string(path)?.trim().to_owned());
        Ok(Self {
            pid,
            start,
            boot: line("/proc/sys/kernel/random/boot_id")?,
            namespace: std::fs::read_link("/proc/self/ns/pid")?.display().to_string(),
            host: line("/proc/sys/kernel/hostname")?,
        })
    }

    /// The one that labels name; `None` if they are not complete.
    pub(super) fn of(labels: &HashMap<String, String>) -> Option<Self> {
        let label = |name: &str| labels.get(name).cloned();
        Some(Self { pid: label(PID)?, start: label(PID_START)?, boot: label(BOOT)?, namespace: label(PID_NAMESPACE)?, host: label(HOST)? })
    }

    /// The labels of a run that is this process's.
    pub(super) fn labels(&self, run: &str) -> HashMap<String, String> {
        [(RUN, run), (PID, &self.pid), (PID_START, &self.start), (BOOT, &self.boot), (PID_NAMESPACE, &self.namespace), (HOST, &self.host)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    /// Whether it is certain that this process is gone, to `viewer`: a process of the same host. Of another host, or in another container,
    /// nothing is certain.
    pub(super) fn is_gone(&self, viewer: &Self) -> bool {
        if self.host != viewer.host {
            return false;
        }
        if self.boot != viewer.boot {
            return true;
        }
        self.namespace == viewer.namespace && started(&self.pid).is_none_or(|start| start != self.start)
    }
}

/// When a process started; `None` if there is none of that number. See `starttime` in proc_pid_stat(5).
fn started(pid: &str) -> Option<String> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).ok()?;
    // After the name, which may hold anything, stands the third field; the start is the twenty-second.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_gone_with_its_number_its_start_or_its_boot_and_never_by_another_host() {
        let owner = Owner::current().expect("/proc");
        assert_eq!(Owner::of(&owner.labels("run")).as_ref(), Some(&owner), "the labels name it");
        assert!(!owner.is_gone(&owner), "it lives");
        assert!(Owner { start: "1".to_owned(), ..owner.clone() }.is_gone(&owner), "another process has the number");
        assert!(Owner { boot: "another".to_owned(), ..owner.clone() }.is_gone(&owner), "another boot");
        let mut child = std::process::Command::new("true").spawn().expect("starts");
        child.wait().expect("ends");
        let dead = Owner { pid: child.id().to_string(), ..owner.clone() };
        assert!(dead.is_gone(&owner), "no such process");
        assert!(!dead.is_gone(&Owner { host: "elsewhere".to_owned(), ..owner.clone() }), "another host");
        assert!(!dead.is_gone(&Owner { namespace: "pid:[1]".to_owned(), ..owner.clone() }), "another namespace");
        assert_eq!(Owner::of(&HashMap::from([(RUN.to_owned(), "run".to_owned())])), None, "incomplete labels");
    }
}
