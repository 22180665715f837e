//! The process that something belongs to, told from every other one that was or will be.

use std::io;
use std::path::Path;

/// The process that a run belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its process id, as text: it is only ever compared, and looked up in /proc.
    pub pid: String,
    /// When it started, in the kernel's ticks since boot: a number that is in use again has another.
    pub start: String,
    /// The boot of the kernel under which it ran.
    pub boot: String,
    /// The namespace of its number.
    pub namespace: String,
    /// The host's name: elsewhere nobody can tell whether it lives.
    pub host: String,
}

impl Owner {
    /// This process.
    ///
    /// # Errors
    /// Those of reading /proc.
    pub fn current() -> io::Result<Self> {
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

    /// As text of one line, for [`Owner::from_line`].
    #[must_use]
    pub fn line(&self) -> String {
        [&self.pid, &self.start, &self.boot, &self.namespace, &self.host].map(String::as_str).join(" ")
    }

    /// What [`Owner::line`] gave; `None` for other text.
    #[must_use]
    pub fn from_line(line: &str) -> Option<Self> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let [pid, start, boot, namespace, host] = words.try_into().ok()?;
        Some(Self { pid, start, boot, namespace, host })
    }

    /// Whether it is certain that this process is gone, to `viewer`: a process of the same host. Of another host, or in another container,
    /// nothing is certain.
    #[must_use]
    pub fn is_gone(&self, viewer: &Self) -> bool {
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
#[must_use]
pub fn started(pid: &str) -> Option<String> {
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
        assert_eq!(Owner::from_line(&owner.line()).as_ref(), Some(&owner), "the line names it");
        assert_eq!(Owner::from_line("1 2 3"), None, "an incomplete line");
        assert!(!owner.is_gone(&owner), "it lives");
        assert!(Owner { start: "1".to_owned(), ..owner.clone() }.is_gone(&owner), "another process has the number");
        assert!(Owner { boot: "another".to_owned(), ..owner.clone() }.is_gone(&owner), "another boot");
        let mut child = std::process::Command::new("true").spawn().expect("starts");
        child.wait().expect("ends");
        let dead = Owner { pid: child.id().to_string(), ..owner.clone() };
        assert!(dead.is_gone(&owner), "no such process");
        assert!(!dead.is_gone(&Owner { host: "elsewhere".to_owned(), ..owner.clone() }), "another host");
        assert!(!dead.is_gone(&Owner { namespace: "pid:[1]".to_owned(), ..owner.clone() }), "another namespace");
    }
}
