//! What the sessions of our own two clients have in common: a library that is driven only while somebody waits for it.

use std::pin::{Pin, pin};
use std::time::Duration;

use async_trait::async_trait;

use super::{DriverError, HeldSession, Queried};
use model::observation::Refused;
use model::refusal::{Refusal, Stage};

/// How long closing may take: a peer that reads nothing any more must not hold us up.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// A session of a client library.
#[async_trait]
pub(super) trait LibrarySession: Send + 'static {
    /// Asks the server something small. A refusal is its end.
    async fn query(&mut self) -> Result<(), Refused>;

    /// Closes it in order, as the protocol has it.
    async fn close(self);
}

/// A [`HeldSession`] from a [`LibrarySession`].
pub(super) struct Held<C: LibrarySession>(State<C>);

enum State<C> {
    Open(C),
    Over(Refused),
}

impl<C: LibrarySession> Held<C> {
    pub(super) fn new(opened: C) -> Self {
        Self(State::Open(opened))
    }

    /// The session, if it goes on: to be closed.
    fn take(&mut self) -> Option<C> {
        let closed = Refused {
            refusal: Refusal::Closed(Stage::Query),
            stage: Some(Stage::Query),
            sqlstate: None,
            text: "the session was closed by this side".to_owned(),
        };
        match std::mem::replace(&mut self.0, State::Over(closed)) {
            State::Open(opened) => Some(opened),
            State::Over(_) => None,
        }
    }
}

#[async_trait]
impl<C: LibrarySession> HeldSession for Held<C> {
    async fn query(&mut self, limit: Duration) -> Result<Queried, DriverError> {
        let opened = match &mut self.0 {
            State::Open(opened) => opened,
            State::Over(refused) => return Ok(Queried::Ended(refused.clone())),
        };
        let refused = match tokio::time::timeout(limit, opened.query()).await {
            Ok(Ok(())) => return Ok(Queried::Answered),
            Ok(Err(refused)) => refused,
            Err(_) => Refused {
                refusal: Refusal::TimedOut(Stage::Query),
                stage: Some(Stage::Query),
                sqlstate: None,
                text: format!("nothing came within {limit:?}"),
            },
        };
        self.0 = State::Over(refused.clone());
        Ok(Queried::Ended(refused))
    }

    async fn close(mut self: Box<Self>) {
        if let Some(opened) = self.take() {
            let _ = tokio::time::timeout(CLOSE_LIMIT, opened.close()).await;
        }
    }
}

impl<C: LibrarySession> Drop for Held<C> {
    fn drop(&mut self) {
        // Outside a runtime nothing is left but to close the socket without a word.
        if let (Some(opened), Ok(runtime)) = (self.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(tokio::time::timeout(CLOSE_LIMIT, opened.close()));
        }
    }
}

/// The half of a client library that moves bytes. It is polled by whoever waits for an answer, in the same task: a task of its own would add
/// the time to wake it to every answer.
pub(super) struct Background<T>(Option<Pin<Box<dyn Future<Output = T> + Send>>>);

impl<T> Background<T> {
    pub(super) fn new(half: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Some(Box::pin(half)))
    }

    /// Waits for an answer; with the other half's end, if that came first. The answer may have come with it all the same.
    pub(super) async fn drive<A>(&mut self, answer: impl Future<Output = A>) -> (A, Option<T>) {
        let mut answer = pin!(answer);
        let Some(half) = &mut self.0 else { return (answer.await, None) };
        let end = tokio::select! {
            biased;
            answer = &mut answer => return (answer, None),
            end = half => end,
        };
        // Whoever waits for this half is told, by its being dropped, that there is nothing to wait for.
        self.0 = None;
        (answer.await, Some(end))
    }

    /// Waits for its end, which comes once the other half is dropped.
    pub(super) async fn end(self) {
        if let Some(half) = self.0 {
            half.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_that_comes_with_the_end_of_the_connection_is_not_lost() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let mut background = Background::new(async move {
            sender.send("the answer").expect("somebody listens");
            "closed"
        });
        let (answer, end) = background.drive(receiver).await;
        assert_eq!((answer.expect("it was sent"), end), ("the answer", Some("closed")));
        // And afterwards nothing waits for ever.
        let (nobody, receiver) = tokio::sync::oneshot::channel::<()>();
        drop(nobody);
        assert!(matches!(background.drive(receiver).await, (Err(_), None)));
    }

    /// Answers as often as it is told to, and then never.
    struct Silent {
        answers: u32,
        closed: std::sync::Arc<tokio::sync::Notify>,
    }

    #[async_trait]
    impl LibrarySession for Silent {
        async fn query(&mut self) -> Result<(), Refused> {
            match self.answers.checked_sub(1) {
                Some(left) => self.answers = left,
                None => std::future::pending().await,
            }
            Ok(())
        }

        async fn close(self) {
            self.closed.notify_one();
        }
    }

    #[tokio::test]
    async fn a_query_without_an_answer_ends_the_session_and_every_later_query_says_so() {
        let mut held = Held::new(Silent { answers: 1, closed: std::sync::Arc::default() });
        let limit = Duration::from_millis(50);
        assert_eq!(held.query(limit).await.expect("a result"), Queried::Answered);
        let ended = held.query(limit).await.expect("a result");
        assert!(matches!(&ended, Queried::Ended(refused) if refused.refusal == Refusal::TimedOut(Stage::Query)), "{ended:?}");
        assert_eq!(held.query(limit).await.expect("a result"), ended);
    }

    #[tokio::test]
    async fn a_session_that_is_dropped_is_closed_in_order_too() {
        let closed = std::sync::Arc::<tokio::sync::Notify>::default();
        drop(Held::new(Silent { answers: 0, closed: std::sync::Arc::clone(&closed) }));
        closed.notified().await;
    }
}
