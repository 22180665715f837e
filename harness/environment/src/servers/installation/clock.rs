//! Moments of the wall clock: certificates end at one.

use std::time::SystemTime;

/// Waits until the wall clock has come to `end`, also where somebody sets it meanwhile.
pub(super) async fn sleep_until(end: SystemTime) {
    while let Ok(left) = end.duration_since(SystemTime::now()) {
        // A clock that is exactly there leaves nothing.
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left).await;
    }
}
