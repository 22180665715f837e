//! Waiting for a condition: never a bare sleep.

use std::time::Duration;

use tokio::time::Instant;

/// A condition did not come true in time.
#[derive(Debug, thiserror::Error)]
#[error("waited {waited:?} for {what}; last seen: {last}")]
pub struct PollTimeout {
    /// The condition, in words.
    pub what: String,
    /// How long.
    pub waited: Duration,
    /// The last status.
    pub last: String,
}

/// Asks `probe` every `interval` until it gives `Ok`, at most for `limit`; `Err` holds the status so far.
///
/// # Errors
/// [`PollTimeout`] with the last status.
pub async fn until<T, F, Fut>(what: &str, limit: Duration, interval: Duration, mut probe: F) -> Result<T, PollTimeout>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, String>>,
{
    let start = Instant::now();
    loop {
        let last = match probe().await {
            Ok(value) => return Ok(value),
            Err(status) => status,
        };
        if start.elapsed() >= limit {
            return Err(PollTimeout { what: what.to_owned(), waited: start.elapsed(), last });
        }
        tokio::time::sleep(interval).await;
    }
}
