//! What clients mount: a directory, and the Secret whose content it gets.

use std::path::Path;
use std::sync::Arc;

use super::mount::Mount;
use super::site::Site;
use super::state::State;
use crate::error::{ChangeError, InstallError};

/// A mount, and what is in it.
pub(super) struct Mounted {
    pub(super) mount: Mount,
    secret: Mountable,
}

/// A Secret that pods mount.
pub(super) enum Mountable {
    /// That of a Certificate.
    Of(String),
    /// The one that External Secrets makes at the site.
    Site,
}

impl Mounted {
    pub(super) fn make(state: &State, site: Option<&Site>, directory: &Path, secret: Mountable) -> Result<Self, InstallError> {
        let mount = Mount::make(directory).map_err(InstallError::directory(directory.to_path_buf()))?;
        let mut mounted = Self { mount, secret };
        mounted.sync(state, site)?;
        Ok(mounted)
    }

    pub(super) fn sync(&mut self, state: &State, site: Option<&Site>) -> Result<(), ChangeError> {
        let (secret, swapped) = match &self.secret {
            Mountable::Of(certificate) => {
                let data = state.cert_manager.secret_of(certificate).and_then(|name| state.cert_manager.secret(name))?.data();
                (format!("Certificate `{certificate}`"), self.mount.swap(data))
            }
            Mountable::Site => ("the site".to_owned(), self.mount.swap(&site.map(Site::data).unwrap_or_default())),
        };
        swapped.map_err(|error| ChangeError::Mount { secret, source: Arc::new(error) })
    }
}
