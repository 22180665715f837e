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
        let last = match tokio::time::timeout(limit.saturating_sub(start.elapsed()).max(interval), probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(status)) => status,
            Err(_) => "a try without an answer".to_owned(),
        };
        if start.elapsed() >= limit {
            return Err(PollTimeout { what: what.to_owned(), waited: start.elapsed(), last });
        }
        tokio::time::sleep(interval).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_condition_that_comes_true_gives_its_value() {
        let mut tries = 0;
        let value = until("the third try", Duration::from_secs(10), Duration::from_millis(1), || {
            tries += 1;
            let answer = if tries == 3 { Ok(tries) } else { Err(format!("try {tries}")) };
            async move { answer }
        })
        .await;
        assert_eq!(value.expect("it comes true"), 3);
    }

    #[tokio::test]
    async fn a_condition_that_does_not_is_told_with_its_last_status() {
        let error = until("never", Duration::from_millis(5), Duration::from_millis(1), || async { Err::<(), _>("still not".to_owned()) })
            .await
            .expect_err("it can't come true");
        assert!(error.to_string().contains("for never; last seen: still not"), "{error}");
    }
}
