//! The refresh of an ExternalSecret at its interval.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval_at};

use super::{SiteDistribution, SiteSecret, SyncError};

/// How refreshes went so far.
#[derive(Debug, Clone)]
struct State {
    /// Refreshes that have begun.
    begun: u64,
    /// Refreshes that have ended.
    ended: u64,
    /// The Secret as it is: what the last refresh that succeeded made.
    secret: Option<Arc<SiteSecret>>,
    /// Why the last refresh failed, if it did.
    error: Option<SyncError>,
}

/// Refreshes a site's Secret at an interval, until it is dropped.
#[derive(Debug)]
pub struct Refresher {
    state: watch::Receiver<State>,
    task: JoinHandle<()>,
}

impl Refresher {
    /// Makes the Secret once, and again at every `interval` from now. Must be called in a tokio runtime.
    #[must_use]
    pub fn start(site: Arc<SiteDistribution>, interval: Duration) -> Self {
        let mut first = State { begun: 1, ended: 1, secret: None, error: None };
        take(&mut first, site.sync());
        let (to_state, state) = watch::channel(first);
        let task = tokio::spawn(async move {
            let mut ticks = interval_at(tokio::time::Instant::now() + interval, interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                to_state.send_modify(|state| state.begun += 1);
                // Three small files: too little for a thread of its own.
                let result = site.sync();
                to_state.send_modify(|state| {
                    state.ended += 1;
                    take(state, result);
                });
            }
        });
        Self { state, task }
    }

    /// The Secret as it is now; `None` before the first refresh that succeeded.
    #[must_use]
    pub fn secret(&self) -> Option<Arc<SiteSecret>> {
        self.state.borrow().secret.clone()
    }

    /// Waits until a refresh that begins after this call has ended.
    ///
    /// # Errors
    /// [`SyncError`] if that refresh failed: the Secret is then as it was.
    pub async fn next(&self) -> Result<(), SyncError> {
        let mut state = self.state.clone();
        let begun = state.borrow().begun;
        // The task ends only with `self`.
        match state.wait_for(|state| state.ended > begun).await {
            Ok(state) => state.error.clone().map_or(Ok(()), Err),
            Err(_) => Ok(()),
        }
    }
}

impl Drop for Refresher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn take(state: &mut State, result: Result<SiteSecret, SyncError>) {
    match result {
        Ok(secret) => (state.secret, state.error) = (Some(Arc::new(secret)), None),
        Err(error) => state.error = Some(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::ProviderSecrets;
    use super::super::tests::shipped;
    use super::*;
    use model::credential::{ProviderText, SecretFile};

    const KEY: &str = "-----BEGIN EC PRIVATE KEY-----\na2V5\n-----END EC PRIVATE KEY-----\n";
    const ONE: &str = "-----BEGIN CERTIFICATE-----\nMQ==\n-----END CERTIFICATE-----\n";
    const TWO: &str = "-----BEGIN CERTIFICATE-----\nMg==\n-----END CERTIFICATE-----\n";

    fn certificate(refresher: &Refresher) -> Option<String> {
        refresher.secret().and_then(|secret| secret.content(SecretFile::Certificate).map(str::to_owned))
    }

    fn push(site: &SiteDistribution, certificate: &str) {
        site.push(ProviderSecrets { certificate, key: KEY, ca: ONE }).expect("pushed");
    }

    #[tokio::test]
    async fn a_push_reaches_the_secret_at_the_next_refresh_and_not_before() {
        let (_directory, site) = shipped(ProviderText::Unchanged);
        let site = Arc::new(site);
        push(&site, ONE);
        let hourly = Refresher::start(Arc::clone(&site), Duration::from_secs(3600));
        let frequent = Refresher::start(Arc::clone(&site), Duration::from_millis(50));
        push(&site, TWO);
        frequent.next().await.expect("refreshed");
        assert_eq!(certificate(&frequent).as_deref(), Some(TWO));
        assert_eq!(certificate(&hourly).as_deref(), Some(ONE), "its interval is not over");
    }

    #[tokio::test]
    async fn a_refresh_that_fails_leaves_the_secret_as_it_was_and_the_next_good_one_mends_it() {
        let (_directory, site) = shipped(ProviderText::Unchanged);
        let site = Arc::new(site);
        let refresher = Refresher::start(Arc::clone(&site), Duration::from_millis(50));
        assert_eq!(certificate(&refresher), None, "nothing was pushed yet");
        push(&site, ONE);
        refresher.next().await.expect("refreshed");
        site.push(ProviderSecrets { certificate: TWO, key: "no PEM", ca: "no PEM" }).expect("pushed");
        assert!(matches!(refresher.next().await, Err(SyncError::Filter { key, .. }) if key == "ca.crt"));
        assert_eq!(certificate(&refresher).as_deref(), Some(ONE));
        push(&site, TWO);
        refresher.next().await.expect("refreshed");
        assert_eq!(certificate(&refresher).as_deref(), Some(TWO));
    }
}
