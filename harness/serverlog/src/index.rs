//! Log lines by connection, and waiting for them.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::record::{LinePosition, Record};
use model::observation::LogLine;

/// How many connections are remembered: far more than are ever in use at once, a few hundred bytes each.
const CONNECTIONS: usize = 4096;

/// How many of the server's own lines are remembered: a start and a reload write some tens.
const SERVER_LINES: usize = 512;

/// A bound on one connection's lines; a session that logs on and on keeps its first ones.
const LINES_OF_A_CONNECTION: usize = 256;

/// Whether these lines are all that the caller waits for.
pub type LogCondition<'a> = &'a (dyn Fn(&[LogLine]) -> bool + Send + Sync);

impl LinePosition {
    /// The session of a line whose format doesn't tell it: the address's latest connection.
    pub(super) const LATEST: u64 = u64::MAX;
}

/// The lines of one server's log by connection. Shared by the tailer that fills it and those who wait.
#[derive(Debug)]
pub struct LogIndex {
    entries: Mutex<Entries>,
    /// The number of lines so far, for those who wait.
    lines: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Entries {
    /// The number of lines so far: each line's number is its place in the log.
    next: u64,
    connections: HashMap<SocketAddr, Connection>,
    /// Addresses with the number of their connection's first line, oldest first.
    order: VecDeque<(SocketAddr, u64)>,
    server: VecDeque<(u64, LogLine)>,
}

#[derive(Debug)]
struct Connection {
    session: u64,
    first: u64,
    lines: Vec<(u64, LogLine)>,
    ended: bool,
    /// Somebody was given the lines. A later question for the same address that finds an ended connection is about the next one.
    told: bool,
}

impl Default for LogIndex {
    fn default() -> Self {
        Self { entries: Mutex::default(), lines: watch::Sender::new(0) }
    }
}

impl LogIndex {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        // The entries are consistent after every statement that can panic.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds lines in the order of the log and wakes those who wait.
    pub fn add(&self, records: impl IntoIterator<Item = Record>) {
        let next = {
            let mut entries = self.entries();
            for record in records {
                entries.add(record);
            }
            entries.next
        };
        self.lines.send_if_modified(|lines| std::mem::replace(lines, next) != next);
    }

    /// The number of the next line: a mark for [`Self::server_lines_since`].
    pub fn mark(&self) -> u64 {
        self.entries().next
    }

    /// The lines of the connections from these addresses, as soon as `enough` holds for them, and at `limit` at the latest.
    pub async fn lines_of(&self, peers: &[SocketAddr], enough: LogCondition<'_>, limit: Duration) -> Vec<LogLine> {
        let mut news = self.lines.subscribe();
        let deadline = Instant::now() + limit;
        let mut seen = None;
        loop {
            news.borrow_and_update();
            let (lines, numbers) = self.entries().fresh(peers);
            if seen.as_ref() != Some(&numbers) {
                if enough(&lines) {
                    self.entries().tell(peers);
                    return lines;
                }
                seen = Some(numbers);
            }
            if !matches!(tokio::time::timeout_at(deadline, news.changed()).await, Ok(Ok(()))) {
                // An ended connection that was told before is better than nothing: nobody reused its address.
                let mut entries = self.entries();
                let lines = entries.all(peers);
                entries.tell(peers);
                return lines;
            }
        }
    }

    /// The server's own lines from number `mark` on.
    pub fn server_lines_since(&self, mark: u64) -> Vec<LogLine> {
        self.entries().server_between(mark, u64::MAX)
    }

    /// All lines from number `mark` on that are remembered, in order, as soon as `enough` holds for them, and at `limit` at the latest.
    pub async fn all_since(&self, mark: u64, enough: LogCondition<'_>, limit: Duration) -> Vec<LogLine> {
        let found = self.until(|entries| Some(entries.all_from(mark)).filter(|lines| enough(lines)));
        match tokio::time::timeout(limit, found).await {
            Ok(lines) => lines,
            Err(_) => self.entries().all_from(mark),
        }
    }

    /// Waits until `found` gives something for the server's own lines from number `mark` on; for ever, if it never does.
    pub async fn find_since<T>(&self, mark: u64, found: impl Fn(&[LogLine]) -> Option<T>) -> T {
        self.until(|entries| found(&entries.server_between(mark, u64::MAX))).await
    }

    /// Waits until a connection from `peer` is logged that was opened at number `mark` or later; for ever, if none is.
    /// The server's own lines between the mark and that connection.
    pub async fn server_lines_before(&self, mark: u64, peer: SocketAddr) -> Vec<LogLine> {
        self.until(|entries| {
            let first = entries.connections.get(&peer).map(|connection| connection.first).filter(|first| *first >= mark)?;
            Some(entries.server_between(mark, first))
        })
        .await
    }

    async fn until<T>(&self, found: impl Fn(&Entries) -> Option<T>) -> T {
        let mut news = self.lines.subscribe();
        loop {
            news.borrow_and_update();
            if let Some(value) = found(&self.entries()) {
                return value;
            }
            // The sender is ours, so this can't fail while we are borrowed.
            let _ = news.changed().await;
        }
    }
}

impl Entries {
    fn add(&mut self, record: Record) {
        let number = self.next;
        self.next += 1;
        let Some(place) = record.connection else {
            if self.server.len() == SERVER_LINES {
                self.server.pop_front();
            }
            self.server.push_back((number, record.line));
            return;
        };
        let known = self.connections.get_mut(&place.peer).filter(|known| !place.opens && place.session_is(known.session));
        if let Some(connection) = known {
            connection.ended |= place.ends;
            if connection.lines.len() < LINES_OF_A_CONNECTION {
                connection.lines.push((number, record.line));
            }
            return;
        }
        if !place.opens && self.connections.contains_key(&place.peer) {
            // A late line of an earlier connection from the same address.
            return;
        }
        let connection =
            Connection { session: place.session, first: number, lines: vec![(number, record.line)], ended: place.ends, told: false };
        self.connections.insert(place.peer, connection);
        self.order.push_back((place.peer, number));
        while self.order.len() > CONNECTIONS {
            if let Some((peer, first)) = self.order.pop_front()
                && self.connections.get(&peer).is_some_and(|connection| connection.first == first)
            {
                self.connections.remove(&peer);
            }
        }
    }

    /// The lines of these addresses' connections, but for those that were told and have ended, and the lines' numbers.
    fn fresh(&self, peers: &[SocketAddr]) -> (Vec<LogLine>, Vec<u64>) {
        self.collect(peers, |connection| !(connection.told && connection.ended))
    }

    fn all(&self, peers: &[SocketAddr]) -> Vec<LogLine> {
        self.collect(peers, |_| true).0
    }

    fn collect(&self, peers: &[SocketAddr], wanted: impl Fn(&Connection) -> bool) -> (Vec<LogLine>, Vec<u64>) {
        let mut lines: Vec<&(u64, LogLine)> = peers
            .iter()
            .filter_map(|peer| self.connections.get(peer))
            .filter(|connection| wanted(connection))
            .flat_map(|connection| &connection.lines)
            .collect();
        lines.sort_by_key(|(number, _)| *number);
        (lines.iter().map(|(_, line)| line.clone()).collect(), lines.iter().map(|(number, _)| *number).collect())
    }

    fn tell(&mut self, peers: &[SocketAddr]) {
        for peer in peers {
            if let Some(connection) = self.connections.get_mut(peer) {
                connection.told = true;
            }
        }
    }

    fn all_from(&self, from: u64) -> Vec<LogLine> {
        let of_connections = self.connections.values().flat_map(|connection| &connection.lines);
        let mut lines: Vec<&(u64, LogLine)> = self.server.iter().chain(of_connections).filter(|(number, _)| *number >= from).collect();
        lines.sort_by_key(|(number, _)| *number);
        lines.into_iter().map(|(_, line)| line.clone()).collect()
    }

    fn server_between(&self, from: u64, to: u64) -> Vec<LogLine> {
        self.server.iter().filter(|(number, _)| (from..to).contains(number)).map(|(_, line)| line.clone()).collect()
    }
}

impl LinePosition {
    fn session_is(&self, session: u64) -> bool {
        self.session == session || self.session == Self::LATEST
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn line(message: &str, connection: Option<LinePosition>) -> Record {
        let line = LogLine {
            severity: "LOG".to_owned(),
            sqlstate: None,
            message: message.to_owned(),
            detail: None,
            peer: connection.map(|place| place.peer),
        };
        Record { line, connection }
    }

    fn of(port: u16, session: u64, message: &str) -> Record {
        let place = LinePosition { peer: peer(port), session, opens: message == "received", ends: message == "end" };
        line(message, Some(place))
    }

    fn messages(lines: &[LogLine]) -> Vec<&str> {
        lines.iter().map(|line| line.message.as_str()).collect()
    }

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn lines_of_several_peers_come_in_the_order_of_the_log() {
        let index = LogIndex::default();
        index.add([of(1, 1, "received"), of(2, 2, "received"), of(3, 3, "received"), of(2, 2, "b"), of(1, 1, "a")]);
        let lines = index.lines_of(&[peer(1), peer(2)], &|lines| lines.len() == 4, LONG).await;
        assert_eq!(messages(&lines), ["received", "received", "b", "a"]);
    }

    #[tokio::test]
    async fn waiting_ends_with_the_line_and_not_with_the_limit() {
        let index = Arc::new(LogIndex::default());
        index.add([of(1, 1, "received")]);
        let waiter = {
            let index = Arc::clone(&index);
            tokio::spawn(async move { index.lines_of(&[peer(1)], &|lines| lines.iter().any(|line| line.contains("end")), LONG).await })
        };
        tokio::task::yield_now().await;
        index.add([of(2, 2, "received")]);
        index.add([of(1, 1, "end")]);
        let start = Instant::now();
        assert_eq!(messages(&waiter.await.expect("no panic")), ["received", "end"]);
        assert!(start.elapsed() < LONG / 2);
    }

    #[tokio::test]
    async fn at_the_limit_what_is_there_is_given() {
        let index = LogIndex::default();
        index.add([of(1, 1, "received")]);
        assert_eq!(messages(&index.lines_of(&[peer(1)], &|_| false, SHORT).await), ["received"]);
        assert!(index.lines_of(&[peer(9)], &|_| false, SHORT).await.is_empty());
    }

    #[tokio::test]
    async fn a_reused_address_starts_anew_and_late_lines_of_the_old_connection_are_left_out() {
        let index = LogIndex::default();
        index.add([of(1, 1, "received"), of(1, 1, "old"), of(1, 2, "received"), of(1, 1, "end"), of(1, 2, "new")]);
        let lines = index.lines_of(&[peer(1)], &|lines| lines.len() == 2, LONG).await;
        assert_eq!(messages(&lines), ["received", "new"]);
    }

    #[tokio::test]
    async fn an_ended_connection_that_was_told_does_not_answer_for_the_next_one() {
        let index = Arc::new(LogIndex::default());
        index.add([of(1, 1, "received"), of(1, 1, "end")]);
        let ended: LogCondition<'_> = &|lines| lines.iter().any(|line| line.contains("end"));
        assert_eq!(index.lines_of(&[peer(1)], ended, LONG).await.len(), 2);
        let second = {
            let index = Arc::clone(&index);
            tokio::spawn(async move { index.lines_of(&[peer(1)], &|lines| lines.iter().any(|line| line.contains("end")), LONG).await })
        };
        tokio::task::yield_now().await;
        index.add([of(1, 2, "received"), of(1, 2, "other"), of(1, 2, "end")]);
        assert_eq!(messages(&second.await.expect("no panic")), ["received", "other", "end"]);
        // Asked again with nothing new, it is given once more, at the limit.
        assert_eq!(index.lines_of(&[peer(1)], ended, SHORT).await.len(), 3);
    }

    #[tokio::test]
    async fn an_open_session_can_be_asked_about_again_and_again() {
        let index = LogIndex::default();
        index.add([of(1, 1, "received")]);
        for _ in 0..2 {
            assert_eq!(index.lines_of(&[peer(1)], &|lines| lines.len() == 1, LONG).await.len(), 1);
        }
    }

    #[tokio::test]
    async fn server_lines_are_found_between_a_mark_and_a_probe() {
        let index = LogIndex::default();
        index.add([line("before", None), of(7, 1, "received")]);
        let mark = index.mark();
        index.add([line("generation changed", None), line("not reloaded", None), of(7, 2, "received"), line("after", None)]);
        index.find_since(mark, |lines| lines.iter().any(|line| line.contains("generation")).then_some(())).await;
        assert_eq!(messages(&index.server_lines_before(mark, peer(7)).await), ["generation changed", "not reloaded"]);
        assert_eq!(messages(&index.server_lines_since(mark)), ["generation changed", "not reloaded", "after"]);
    }

    #[tokio::test]
    async fn a_mark_is_the_number_of_the_next_line() {
        let index = LogIndex::default();
        assert_eq!(index.mark(), 0);
        index.add([line("first", None), of(1, 1, "received"), line("second", None)]);
        assert_eq!(index.mark(), 3);
        assert_eq!(messages(&index.server_lines_since(0)), ["first", "second"]);
        assert_eq!(messages(&index.server_lines_since(1)), ["second"]);
        assert_eq!(messages(&index.server_lines_since(3)), Vec::<&str>::new());
        assert_eq!(messages(&index.all_since(1, &|_| true, LONG).await), ["received", "second"]);
        assert_eq!(messages(&index.all_since(0, &|lines| lines.len() > 3, SHORT).await), ["first", "received", "second"], "at the limit");
    }

    #[tokio::test]
    async fn a_probe_from_before_the_mark_does_not_count() {
        let index = LogIndex::default();
        index.add([of(7, 1, "received")]);
        let mark = index.mark();
        assert!(tokio::time::timeout(SHORT, index.server_lines_before(mark, peer(7))).await.is_err());
    }

    #[test]
    fn memory_is_bounded() {
        let index = LogIndex::default();
        for number in 0..3 * CONNECTIONS {
            let address =
                SocketAddr::from(([127, 0, u8::try_from(number >> 12).expect("small"), 1], u16::try_from(number % 4096).expect("small")));
            let place = LinePosition { peer: address, session: number as u64, opens: true, ends: false };
            index.add([line("received", Some(place)), line("server", None)]);
        }
        for _ in 0..2 * LINES_OF_A_CONNECTION {
            index.add([of(1, 1, "more")]);
        }
        let entries = index.entries();
        assert_eq!(entries.order.len(), CONNECTIONS);
        assert!(entries.connections.len() <= CONNECTIONS);
        assert_eq!(entries.server.len(), SERVER_LINES);
        assert_eq!(entries.connections[&peer(1)].lines.len(), LINES_OF_A_CONNECTION);
    }
}
