//! The user that servers run as: PostgreSQL refuses to run as root, and a server that somebody takes over must reach nothing of another user.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt as _;
use std::sync::OnceLock;

use nix::unistd::{Gid, Group, Uid, User, geteuid};
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
    /// The id of its primary group; children have no other.
    pub gid: u32,
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
            Some(unused_id().map_or(named, |id| Self { name: id.to_string(), uid: id, gid: id }))
        };
        CHOSEN.get_or_init(choose).clone()
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
                return Some(Self { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() });
            }
        }
        Some(Self { name: "65534".to_owned(), uid: 65534, gid: 65534 })
    }

    /// Somebody who is neither this user nor root.
    #[must_use]
    pub fn another(than: Option<&Self>) -> Self {
        let nobody = 65_534;
        let uid = if than.is_some_and(|user| user.uid == nobody) { nobody - 1 } else { nobody };
        Self { name: uid.to_string(), uid, gid: uid }
    }

    /// User and group as chown(2) takes them.
    #[must_use]
    pub fn ids(&self) -> (Uid, Gid) {
        (Uid::from_raw(self.uid), Gid::from_raw(self.gid))
    }
}

/// An id that neither a user nor a group nor a process has, and that this user namespace can give away.
fn unused_id() -> Option<u32> {
    let maps = ["/proc/self/uid_map", "/proc/self/gid_map"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let range = UNUSED.into_iter().find(|range| maps.iter().all(|map| is_mapped(map, range)))?;
    let of_processes = users_of_processes();
    let random = RandomState::new();
    let span = u64::from(range.end() - range.start()) + 1;
    (0..TRIES).map(|attempt| range.start() + u32::try_from(random.hash_one(attempt) % span).unwrap_or(0)).find(|id| {
        let has_user = !matches!(User::from_uid(Uid::from_raw(*id)), Ok(None));
        let has_group = !matches!(Group::from_gid(Gid::from_raw(*id)), Ok(None));
        !has_user && !has_group && !of_processes.contains(id)
    })
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
