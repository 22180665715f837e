//! The child's open sessions, by the ids of the requests that opened them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::protocol::{Operation, Outcome};
use model::connect::ConnectRequest;

use super::library::Libpq;
use super::session::Held;

/// Sessions that are kept. A session belongs to no thread: each request of it is served by the one that takes it.
pub(super) struct Sessions<'a> {
    library: &'a Libpq,
    open: Mutex<HashMap<u64, Arc<Mutex<Held<'a>>>>>,
}

impl<'a> Sessions<'a> {
    pub(super) fn new(library: &'a Libpq) -> Self {
        Self { library, open: Mutex::default() }
    }

    /// Does what one request asks for. Blocks until that is done, or `limit` is over.
    pub(super) fn serve(&self, id: u64, operation: Operation, limit: Duration) -> Outcome {
        match operation {
            Operation::Connect(request) => self.connect(&request, limit, drop),
            Operation::Open(request) => self.connect(&request, limit, |held| {
                self.open().insert(id, Arc::new(Mutex::new(held)));
            }),
            Operation::Query(session) => {
                let Some(held) = self.open().get(&session).cloned() else { return unknown(session) };
                let outcome = locked(&held).query(limit);
                if outcome != Outcome::Answered {
                    self.open().remove(&session);
                }
                outcome
            }
            Operation::Close(session) => {
                let Some(held) = self.open().remove(&session) else { return unknown(session) };
                // After the query that may still be under way.
                drop(locked(&held));
                drop(held);
                Outcome::Closed
            }
        }
    }

    fn connect(&self, request: &ConnectRequest, limit: Duration, then: impl FnOnce(Held<'a>)) -> Outcome {
        let ConnectRequest::Postgres(request) = request else {
            return Outcome::Unable("libpq connects to PostgreSQL only".to_owned());
        };
        match Held::open(self.library, request, limit) {
            Ok((observation, held)) => {
                then(held);
                Outcome::Observation(observation)
            }
            Err(outcome) => *outcome,
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<Mutex<Held<'a>>>>> {
        locked(&self.open)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unknown(session: u64) -> Outcome {
    Outcome::Error(format!("no session {session} is open here: it was never opened, is closed, or had ended"))
}
