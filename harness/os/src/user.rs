//! The user that servers run as: PostgreSQL refuses to run as root.

use nix::unistd::{Gid, Uid, User, geteuid};
use serde::{Deserialize, Serialize};

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
    /// The unprivileged user for servers: `None` when we are not root and servers run as ourselves;
    /// otherwise the distribution's `postgres` user, or `nobody`.
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

#[cfg(test)]
mod tests {
    use super::*;

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
