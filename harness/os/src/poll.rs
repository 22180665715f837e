//! Waiting for a condition: never a bare sleep.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

/// A condition did not come true in time.
#[derive(Debug, thiserror::Error)]
#[error("waited {waited:?} for {what}; last seen: {last}")]
pub struct PollTimeout {
    /// The condition, in words.
    pub what: String,
    /// The time from the first try to the last.
    pub waited: Duration,
    /// What the last try gave, in words.
    pub last: String,
}

/// Asks `probe` every `interval` until it gives `Ok`, at most for `limit`; what it gives as `Err` is the status so far, for [`PollTimeout`].
///
/// # Errors
/// [`PollTimeout`] with the last status.
pub async fn until<T, S, F, Fut>(what: &str, limit: Duration, interval: Duration, mut probe: F) -> Result<T, PollTimeout>
where
    S: fmt::Display,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, S>>,
{
    let start = Instant::now();
    loop {
        let last = match tokio::time::timeout(limit.saturating_sub(start.elapsed()).max(interval), probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(status)) => status.to_string(),
            Err(_) => "a try without an answer".to_owned(),
        };
        if start.elapsed() >= limit {
            return Err(PollTimeout { what: what.to_owned(), waited: start.elapsed(), last });
        }
        tokio::time::sleep(interval).await;
    }
}

/// Asks `probe` once, and every `interval` for as long as `grace`, until it finds something. One that is under way is waited for.
pub async fn find<T, F, Fut>(grace: Duration, interval: Duration, mut probe: F) -> Option<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let start = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return Some(found);
        }
        if start.elapsed() >= grace {
            return None;
        }
        tokio::time::sleep(interval).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_within_the_grace_is_found_also_by_a_probe_that_takes_longer() {
        let (grace, interval) = (Duration::from_millis(100), Duration::from_millis(10));
        let start = Instant::now();
        let after = |when: u64, takes: u64| async move {
            let due = start.elapsed() >= Duration::from_millis(when);
            tokio::time::sleep(Duration::from_millis(if due { takes } else { 0 })).await;
            due.then_some(when)
        };
        assert_eq!(find(grace, interval, || after(50, 500)).await, Some(50));
        assert_eq!(find(Duration::ZERO, interval, || after(50, 0)).await, Some(50), "asked once in any case");
        let start = Instant::now();
        assert_eq!(find(grace, interval, || async { None::<()> }).await, None);
        assert!(start.elapsed() >= grace);
    }

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
