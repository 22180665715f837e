//! The users that servers and clients run as where the harness is root: PostgreSQL refuses to run as root, a server that somebody takes over
//! must reach nothing of another user, and a client of root's would read every key, whoever owns it and whatever its mode.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::str::FromStr;
use std::sync::OnceLock;

use nix::sys::prctl;
use nix::unistd::{Gid, Group, Uid, User, geteuid, setgid, setgroups, setresgid, setresuid, setuid};
use serde::{Deserialize, Serialize};

/// Ids that no distribution and no container manager gives away: systemd's table of user and group ids calls them unused. The second range is
/// for user namespaces of the usual 65536 ids.
const UNUSED: [RangeInclusive<u32>; 2] = [0x7000_0000..=0x7ffe_ffff, 60_578..=61_183];

/// How many ids of a range are tried.
const TRIES: u64 = 100;

/// A user to run children as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunAs {
    /// Its name, for messages.
    pub name: String,
    /// Its id on the machine, or in the container, that the child runs in.
    pub uid: u32,
    /// The id of its primary group.
    pub gid: u32,
    /// The ids of further groups that it is in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<u32>,
}

/// This process may not become another user's.
#[derive(Debug, thiserror::Error)]
#[error("could not become user {user}: {source}")]
pub struct BecomeError {
    /// The number of that user.
    user: u32,
    /// What the system call said.
    source: io::Error,
}

/// A text that is no user to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected UID:GID or UID:GID:GROUP,..., as numbers")]
pub struct RunAsError;

impl FromStr for RunAs {
    type Err = RunAsError;

    /// From what [`RunAs::argument`] gave.
    fn from_str(text: &str) -> Result<Self, RunAsError> {
        let number = |text: &str| text.parse::<u32>().map_err(|_| RunAsError);
        let mut fields = text.splitn(3, ':');
        let uid = number(fields.next().unwrap_or_default())?;
        let gid = number(fields.next().unwrap_or_default())?;
        let groups = fields.next().map_or(Ok(Vec::new()), |groups| groups.split(',').map(number).collect())?;
        Ok(Self { name: uid.to_string(), uid, gid, groups })
    }
}

impl RunAs {
    /// The user that this process's servers run as: `None` when we are not root, and servers run as ourselves; otherwise user and group ids
    /// that nobody else has, chosen once. No account is made for them: servers need no name. Where the user namespace has no such ids, it is
    /// [`RunAs::unprivileged`].
    #[must_use]
    pub fn of_this_run() -> Option<Self> {
        static CHOSEN: OnceLock<Option<RunAs>> = OnceLock::new();
        let choose = || {
            let named = Self::unprivileged()?;
            Some(unused_id(&[]).map_or(named, Self::alone))
        };
        CHOSEN.get_or_init(choose).clone()
    }

    /// The user that this process's clients run as: `None` when we are not root, and clients run as ourselves; otherwise ids that nobody else
    /// has, the servers neither, chosen once. It is in the servers' group too, which may enter the run's directory, and may read no file of
    /// theirs. Where the user namespace has no such ids, it is `nobody`; where it has not even that, `None`.
    #[must_use]
    pub fn of_clients() -> Option<Self> {
        static CHOSEN: OnceLock<Option<RunAs>> = OnceLock::new();
        let choose = || {
            let servers = Self::of_this_run()?;
            let nobody = Self::another(Some(&servers)).uid;
            let id = unused_id(&[servers.uid, servers.gid]).or_else(|| is_mapped_here(&(nobody..=nobody)).then_some(nobody))?;
            Some(Self { name: format!("user {id} (the clients of this run)"), groups: vec![servers.gid], ..Self::alone(id) })
        };
        CHOSEN.get_or_init(choose).clone()
    }

    /// The user that clients run as in a container of theirs, where everything else is root's: an id that the user namespace of a container has.
    #[must_use]
    pub fn of_contained_clients() -> Self {
        Self::alone(*UNUSED[1].start())
    }

    /// A user and a group of this id, and no other group.
    #[must_use]
    pub fn alone(id: u32) -> Self {
        Self { name: id.to_string(), uid: id, gid: id, groups: Vec::new() }
    }

    /// A user whose name can be looked up, in the group of this one: `initdb` and single-user mode ask for the name of whoever runs them.
    #[must_use]
    pub fn with_a_name(&self) -> Self {
        let has_name = matches!(User::from_uid(Uid::from_raw(self.uid)), Ok(Some(_)));
        let named = if has_name { None } else { Self::unprivileged() };
        named.map_or_else(|| self.clone(), |named| Self { gid: self.gid, ..named })
    }

    /// An unprivileged user with a name: `None` when we are not root; otherwise the distribution's `postgres` user, or `nobody`.
    #[must_use]
    pub fn unprivileged() -> Option<Self> {
        if !geteuid().is_root() {
            return None;
        }
        for name in ["postgres", "nobody"] {
            if let Ok(Some(user)) = User::from_name(name) {
                return Some(Self { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw(), groups: Vec::new() });
            }
        }
        Some(Self::alone(65_534))
    }

    /// Somebody who is neither this user nor root.
    #[must_use]
    pub fn another(than: Option<&Self>) -> Self {
        let nobody = 65_534;
        Self::alone(if than.is_some_and(|user| user.uid == nobody) { nobody - 1 } else { nobody })
    }

    /// Root, in the group of this user: as whom Kubernetes mounts the files of a volume with an fsGroup. Without a user, in our own group.
    #[must_use]
    pub fn root_with_group_of(user: Option<&Self>) -> Self {
        Self { name: "root".to_owned(), gid: user.map_or_else(|| nix::unistd::getegid().as_raw(), |user| user.gid), ..Self::alone(0) }
    }

    /// User and group as chown(2) takes them.
    #[must_use]
    pub fn ids(&self) -> (Uid, Gid) {
        (Uid::from_raw(self.uid), Gid::from_raw(self.gid))
    }

    /// The ids as an argument of a program, for [`RunAs::from_str`].
    #[must_use]
    pub fn argument(&self) -> String {
        let groups: Vec<String> = self.groups.iter().map(u32::to_string).collect();
        let more = if groups.is_empty() { String::new() } else { format!(":{}", groups.join(",")) };
        format!("{}:{}{more}", self.uid, self.gid)
    }

    /// Makes this whole process one of this user for good. It still ends with its parent.
    ///
    /// # Errors
    /// [`BecomeError`]: those of setgroups(2), setresgid(2), setresuid(2) and prctl(2).
    pub fn become_it(&self) -> Result<(), BecomeError> {
        let (uid, gid) = self.ids();
        let become_it = || {
            let with_parent = prctl::get_pdeathsig()?;
            setgroups(&self.group_ids())?;
            setresgid(gid, gid, gid)?;
            setresuid(uid, uid, uid)?;
            // The kernel forgets it with the user.
            prctl::set_pdeathsig(with_parent)
        };
        become_it().map_err(|source| BecomeError { user: self.uid, source: source.into() })
    }

    /// Has a command run as this user.
    pub fn runs(&self, command: &mut Command) {
        if self.groups.is_empty() {
            // The standard library leaves all other groups.
            command.uid(self.uid).gid(self.gid);
        } else {
            self.runs_in_groups(command);
        }
    }

    #[expect(unsafe_code, reason = "setgroups, setgid and setuid are async-signal-safe, which is all that pre_exec asks for")]
    fn runs_in_groups(&self, command: &mut Command) {
        let ((uid, gid), groups) = (self.ids(), self.group_ids());
        // SAFETY: the closure only makes system calls.
        unsafe {
            command.pre_exec(move || {
                setgroups(&groups)?;
                setgid(gid)?;
                Ok(setuid(uid)?)
            });
        }
    }

    fn group_ids(&self) -> Vec<Gid> {
        self.groups.iter().copied().map(Gid::from_raw).collect()
    }
}

/// Who a process runs as, for a person: this user, or ourselves.
#[must_use]
pub fn shown(user: Option<&RunAs>) -> String {
    let (uid, is_ours) = user.map_or_else(|| (geteuid().as_raw(), true), |user| (user.uid, false));
    match User::from_uid(Uid::from_raw(uid)) {
        _ if uid == 0 => "root".to_owned(),
        Ok(None) if !is_ours => format!("user {uid}, who is nobody else"),
        Ok(Some(user)) if !is_ours => format!("user {uid} ({})", user.name),
        // Whose account the harness ran under says more of a machine than a report needs.
        _ => format!("user {uid}"),
    }
}

/// An id that neither a user nor a group nor a process has, that this user namespace can give away, and that is not among these.
fn unused_id(taken: &[u32]) -> Option<u32> {
    let range = UNUSED.into_iter().find(is_mapped_here)?;
    let of_processes = users_of_processes();
    let random = RandomState::new();
    let span = u64::from(range.end() - range.start()) + 1;
    (0..TRIES).map(|attempt| range.start() + u32::try_from(random.hash_one(attempt) % span).unwrap_or(0)).find(|id| {
        let has_user = !matches!(User::from_uid(Uid::from_raw(*id)), Ok(None));
        let has_group = !matches!(Group::from_gid(Gid::from_raw(*id)), Ok(None));
        !has_user && !has_group && !of_processes.contains(id) && !taken.contains(id)
    })
}

/// Whether this user namespace has all these ids, for users and for groups.
fn is_mapped_here(ids: &RangeInclusive<u32>) -> bool {
    ["/proc/self/uid_map", "/proc/self/gid_map"].iter().all(|map| is_mapped(&std::fs::read_to_string(map).unwrap_or_default(), ids))
}

/// Whether one line of a map (user_namespaces(7): first id inside, first id outside, how many) has all these ids.
fn is_mapped(map: &str, ids: &RangeInclusive<u32>) -> bool {
    map.lines().any(|line| {
        let fields: Vec<u64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        let [first, _, count] = fields[..] else { return false };
        first <= u64::from(*ids.start()) && u64::from(*ids.end()) < first + count
    })
}

fn users_of_processes() -> BTreeSet<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok().map(|status| status.uid())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_root_run_as_a_user_that_nobody_else_is() {
        let Some(user) = RunAs::of_this_run() else {
            assert!(!geteuid().is_root());
            return;
        };
        assert_eq!(RunAs::of_this_run(), Some(user.clone()), "it stays the same");
        let all_ids = std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| is_mapped(&map, &UNUSED[0]));
        if all_ids {
            assert!(UNUSED[0].contains(&user.uid) && user.uid == user.gid, "{user:?}");
            assert!(matches!(User::from_uid(Uid::from_raw(user.uid)), Ok(None)), "{user:?}");
            let named = user.with_a_name();
            assert_eq!((named.gid, Some(named.uid)), (user.gid, RunAs::unprivileged().map(|user| user.uid)));
        }
        assert_eq!(user.with_a_name().with_a_name(), user.with_a_name());
    }

    #[test]
    fn clients_of_root_are_neither_root_nor_the_servers_and_may_enter_what_is_for_the_servers_group() {
        let Some(clients) = RunAs::of_clients() else {
            assert!(!geteuid().is_root());
            return;
        };
        let servers = RunAs::of_this_run().expect("root");
        assert_eq!(RunAs::of_clients(), Some(clients.clone()), "it stays the same");
        assert!(![0, servers.uid, servers.gid].contains(&clients.uid) && clients.gid == clients.uid, "{clients:?} {servers:?}");
        assert_eq!(clients.groups, [servers.gid]);
    }

    #[test]
    fn an_argument_names_the_ids() {
        for (text, user) in
            [("7:8", RunAs { uid: 7, gid: 8, ..RunAs::alone(7) }), ("7:7:9,10", RunAs { groups: vec![9, 10], ..RunAs::alone(7) })]
        {
            assert_eq!((text.parse(), user.argument().as_str()), (Ok(user.clone()), text));
        }
        for text in ["", "7", "7:", "a:7", "7:7:", "7:7:x"] {
            assert_eq!(text.parse::<RunAs>(), Err(RunAsError), "{text:?}");
        }
    }

    #[test]
    fn a_command_runs_with_the_user_the_group_and_the_further_groups_alone() {
        let Some(clients) = RunAs::of_clients() else { return };
        let ids = |user: &RunAs| {
            let mut command = Command::new("sh");
            user.runs(command.args(["-c", "id -u; id -g; id -G"]));
            String::from_utf8(command.output().expect("it runs").stdout).expect("numbers").lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let (id, group) = (clients.uid.to_string(), clients.groups[0]);
        assert_eq!(ids(&clients), [id.clone(), id.clone(), format!("{id} {group}")]);
        assert_eq!(ids(&RunAs::alone(clients.uid)), [id.clone(), id.clone(), id]);
    }

    #[test]
    fn a_user_namespace_may_have_all_ids_or_some() {
        let host = "         0          0 4294967295\n";
        let rootless = "         0       1000          1\n         1     100000      65535\n";
        assert!(is_mapped(host, &UNUSED[0]) && is_mapped(host, &UNUSED[1]));
        assert!(!is_mapped(rootless, &UNUSED[0]) && is_mapped(rootless, &UNUSED[1]));
        assert!(!is_mapped("         0       1000          1\n", &UNUSED[1]));
        assert!(!is_mapped("", &UNUSED[1]));
    }

    #[test]
    fn another_user_is_nobody_of_those_who_run_something() {
        let nobody = RunAs::another(None);
        assert_ne!(RunAs::another(Some(&nobody)).uid, nobody.uid);
        assert_ne!(RunAs::another(RunAs::unprivileged().as_ref()).uid, RunAs::unprivileged().map_or(0, |user| user.uid));
    }

    #[test]
    fn servers_never_run_as_root() {
        match RunAs::unprivileged() {
            None => assert!(!geteuid().is_root()),
            Some(user) => assert!(geteuid().is_root() && user.uid != 0 && user.gid != 0, "{user:?}"),
        }
    }
}
