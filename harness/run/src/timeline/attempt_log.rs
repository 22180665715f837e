//! The attempts of a timeline's clients, as they come in.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::super::not_run::NotRun;
use check::timeline::{Attempt, ClientSeen};
use model::driver::Family;
use model::timeline::plan::ClientPlan;

/// How long a query is without an answer before its client counts as waiting: some hundred times what an answer takes.
pub(super) const SILENCE: Duration = Duration::from_millis(500);

/// What the clients have seen so far.
pub(super) struct AttemptLog {
    start: Instant,
    clients: Mutex<Clients>,
    /// Wakes those who wait in [`AttemptLog::wait_until`].
    news: Notify,
}

struct Clients {
    /// In the order of the plan's clients; each in the order in which attempts ended.
    attempts: Vec<Vec<Arc<Attempt>>>,
    /// When a held session was found to be gone.
    lost: Vec<Option<Duration>>,
    /// Whether a query is under way that has been without an answer for [`SILENCE`].
    waits: Vec<bool>,
    /// The first client that could not be used at all.
    not_run: Option<NotRun>,
}

/// A client's attempts in a stretch of time, in order of their beginnings.
pub(super) struct ClientAttempts<'a> {
    pub(super) client: &'a ClientPlan,
    pub(super) family: Family,
    pub(super) attempts: Vec<Arc<Attempt>>,
    pub(super) lost: bool,
    pub(super) waits: bool,
}

impl ClientAttempts<'_> {
    pub(super) fn as_seen(&self) -> ClientSeen<'_> {
        ClientSeen {
            name: &self.client.name,
            kind: self.client.kind,
            family: self.family,
            attempts: self.attempts.iter().map(AsRef::as_ref).collect(),
            lost: self.lost,
            waits: self.waits,
        }
    }
}

impl AttemptLog {
    /// An empty log of so many clients; times in it are counted from now on.
    pub(super) fn new(clients: usize) -> Self {
        Self {
            start: Instant::now(),
            clients: Mutex::new(Clients {
                attempts: vec![Vec::new(); clients],
                lost: vec![None; clients],
                waits: vec![false; clients],
                not_run: None,
            }),
            news: Notify::new(),
        }
    }

    /// Time since the beginning.
    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// A moment as time since the beginning.
    pub(super) fn at(&self, moment: Instant) -> Duration {
        moment.saturating_duration_since(self.start)
    }

    pub(super) fn add(&self, client: usize, attempt: Attempt) {
        {
            let mut clients = self.clients();
            if let Some(attempts) = clients.attempts.get_mut(client) {
                attempts.push(Arc::new(attempt));
            }
            if let Some(waits) = clients.waits.get_mut(client) {
                *waits = false;
            }
        }
        self.news.notify_waiters();
    }

    /// The held session is gone.
    pub(super) fn lose(&self, client: usize) {
        if let Some(lost) = self.clients().lost.get_mut(client) {
            *lost = Some(self.now());
        }
        self.news.notify_waiters();
    }

    /// Whether the held session was gone by `to`.
    pub(super) fn lost(&self, client: usize, to: Option<Duration>) -> bool {
        let lost = self.clients().lost.get(client).copied().flatten();
        lost.is_some_and(|lost| to.is_none_or(|to| lost <= to))
    }

    /// A query has been without an answer for [`SILENCE`], and goes on waiting until its attempt is added.
    pub(super) fn wait(&self, client: usize) {
        if let Some(waits) = self.clients().waits.get_mut(client) {
            *waits = true;
        }
        self.news.notify_waiters();
    }

    /// Whether a query waits like that, or waited at `to`.
    pub(super) fn waits(&self, client: usize, to: Option<Duration>) -> bool {
        let clients = self.clients();
        match to {
            None => clients.waits.get(client).copied().unwrap_or_default(),
            Some(to) => {
                let mut attempts = clients.attempts.get(client).into_iter().flatten();
                attempts.any(|attempt| !attempt.fresh && attempt.from + SILENCE <= to && to < attempt.to)
            }
        }
    }

    /// A client could not be used: the timeline says nothing.
    pub(super) fn fail(&self, not_run: NotRun) {
        self.clients().not_run.get_or_insert(not_run);
        self.news.notify_waiters();
    }

    /// The first failure of a client, given once.
    pub(super) fn not_run(&self) -> Option<NotRun> {
        self.clients().not_run.take()
    }

    /// All attempts of a client, in order of their beginnings.
    pub(super) fn attempts(&self, client: usize) -> Vec<Arc<Attempt>> {
        self.between(client, Duration::ZERO, None)
    }

    /// The attempts that began at `from` or later and ended by `to`.
    pub(super) fn between(&self, client: usize, from: Duration, to: Option<Duration>) -> Vec<Arc<Attempt>> {
        let clients = self.clients();
        let all = clients.attempts.get(client).into_iter().flatten();
        let mut chosen: Vec<Arc<Attempt>> =
            all.filter(|attempt| attempt.from >= from && to.is_none_or(|to| attempt.to <= to)).cloned().collect();
        chosen.sort_by_key(|attempt| attempt.from);
        chosen
    }

    /// Waits until `condition` holds, looking at it whenever something was added; at once where a client could not be used.
    pub(super) async fn wait_until(&self, condition: impl Fn() -> bool) {
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            // From here on nothing is missed.
            news.as_mut().enable();
            if condition() || self.clients().not_run.is_some() {
                return;
            }
            news.await;
        }
    }

    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
