//! Whose the files are that clients are given.

use model::credential::KeyOwner;
use os::user::RunAs;

/// The users that files of clients can belong to.
#[derive(Debug, Clone, Default)]
pub struct FileUsers {
    /// The one that clients run as; `None`: ourselves.
    pub client: Option<RunAs>,
    /// Somebody else; `None`: we can't give files away, and all are our own.
    pub other: Option<RunAs>,
}

impl FileUsers {
    /// Those of a run: [`RunAs::of_clients`], and the distribution's unprivileged user.
    #[must_use]
    pub fn of_this_run() -> Self {
        Self { client: RunAs::of_clients(), other: RunAs::unprivileged() }
    }

    /// Those of clients that run as ourselves.
    #[must_use]
    pub fn of_ourselves() -> Self {
        Self { client: None, other: RunAs::unprivileged() }
    }

    /// Whether files can have this owner.
    pub(super) fn has(&self, owner: KeyOwner) -> bool {
        owner == KeyOwner::Own || self.other.is_some()
    }

    /// Who is to get a file; `None`: it is theirs already, or can't be given away.
    pub(super) fn owner(&self, owner: KeyOwner) -> Option<RunAs> {
        match owner {
            KeyOwner::Own => self.client.clone(),
            KeyOwner::Other => self.other.clone().map(|other| RunAs { gid: RunAs::root_with_group_of(self.client.as_ref()).gid, ..other }),
            KeyOwner::Root => self.other.as_ref().map(|_| RunAs::root_with_group_of(self.client.as_ref())),
        }
    }
}
