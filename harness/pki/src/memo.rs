//! Values made at their first use, once, by whichever thread comes first; others wait for that name alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::error::PkiError;

type Cell<T> = Arc<OnceLock<Result<Arc<T>, PkiError>>>;

/// Values by name; an error is kept, too, and given again.
#[derive(Debug)]
pub(super) struct Memo<T> {
    cells: Mutex<HashMap<String, Cell<T>>>,
}

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self { cells: Mutex::default() }
    }
}

impl<T> Memo<T> {
    /// The value of that name, made now if it is the first call. `make` must not ask for the same name again.
    pub(super) fn get(&self, name: &str, make: impl FnOnce() -> Result<T, PkiError>) -> Result<Arc<T>, PkiError> {
        let cell = {
            // A panic elsewhere leaves the map as it was: every insertion is complete.
            let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(cells.entry(name.to_owned()).or_default())
        };
        cell.get_or_init(|| make().map(Arc::new)).clone()
    }
}
