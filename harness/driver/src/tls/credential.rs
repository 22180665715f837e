//! Loaded credentials by content.
//!
//! Loading an RSA key costs aws-lc a millisecond of checks, a third of a whole connection. Files are read and their modes looked at for
//! every connection all the same; only the same bytes are not loaded again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::sign::CertifiedKey;

/// A certificate chain with its key.
pub type ClientCredential = Arc<CertifiedKey>;

/// More than the identities of a run; a long-lived process whose certificates keep being renewed starts over when it is reached.
const CAPACITY: usize = 256;

/// The bytes of a certificate file and of a key file.
type Content = (Vec<u8>, Vec<u8>);

/// Credentials that were loaded before, up to [`CAPACITY`].
#[derive(Default)]
pub(super) struct CredentialCache(Mutex<HashMap<Content, ClientCredential>>);

impl std::fmt::Debug for CredentialCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its keys hold private keys.
        f.write_str("CredentialCache")
    }
}

impl CredentialCache {
    /// The credential of these bytes, loaded by `load` if they are new. What can't be loaded is not kept.
    pub(super) fn get_or_load<E>(
        &self,
        content: Content,
        load: impl FnOnce(&Content) -> Result<ClientCredential, E>,
    ) -> Result<ClientCredential, E> {
        if let Some(credential) = self.lock().get(&content) {
            return Ok(ClientCredential::clone(credential));
        }
        // Not under the lock: two connections may load the same credential at once, which only costs the time.
        let credential = load(&content)?;
        let mut known = self.lock();
        if known.len() >= CAPACITY {
            known.clear();
        }
        known.insert(content, ClientCredential::clone(&credential));
        Ok(credential)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Content, ClientCredential>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
