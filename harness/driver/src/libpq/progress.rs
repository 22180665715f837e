//! How far a connection has come, told from what libpq shows between two calls of `PQconnectPoll`.
//!
//! libpq may give up an attempt and start another within one call (`allow`, `prefer`): the socket's local address tells. Durations are
//! those of the last attempt, except for the whole. Times are nanoseconds since the first call.

use model::observation::Phases;
use model::refusal::Stage;

use super::library::Status;

/// What is seen after a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct PollSample<'a> {
    /// Just before the call.
    pub(super) before_ns: u64,
    /// Just after the call.
    pub(super) after_ns: u64,
    /// What `PQstatus` gives after it.
    pub(super) status: Status,
    /// What `PQsslInUse` gives after it.
    pub(super) tls: bool,
    /// The socket's local address, which tells one attempt from the next.
    pub(super) local: &'a str,
}

/// How far a connection has come, and when it had come that far.
#[derive(Debug)]
pub(super) struct Progress {
    /// TLS begins without an SSLRequest, which then has no answer to wait for.
    direct: bool,
    /// Over TCP: a unix socket has no connect phase.
    tcp: bool,
    status: Status,
    tls: bool,
    local: String,
    attempt: Attempt,
}

/// Times of the attempt under way.
#[derive(Debug, Clone, Copy, Default)]
struct Attempt {
    started_ns: u64,
    connected_ns: Option<u64>,
    /// The answer to SSLRequest: its first byte, and when it was there.
    answer: Option<(u8, u64)>,
    tls_ns: Option<u64>,
}

impl Progress {
    /// Before the first call.
    pub(super) fn new(direct: bool, tcp: bool) -> Self {
        Self { direct, tcp, status: Status::Started, tls: false, local: String::new(), attempt: Attempt::default() }
    }

    /// Whether the server's answer to SSLRequest is what comes next.
    pub(super) fn awaits_answer(&self) -> bool {
        self.status == Status::SslStartup && !self.direct && self.attempt.answer.is_none()
    }

    /// The socket became ready: in the connect phase this is its end.
    pub(super) fn ready(&mut self, now_ns: u64) {
        if self.status == Status::Started {
            self.attempt.connected_ns.get_or_insert(now_ns);
        }
    }

    /// The first byte that answers SSLRequest.
    pub(super) fn answered(&mut self, byte: u8, now_ns: u64) {
        self.attempt.answer.get_or_insert((byte, now_ns));
    }

    /// Takes in what one call of `PQconnectPoll` (or `PQconnectStart`) has changed.
    pub(super) fn step(&mut self, seen: &PollSample<'_>) {
        let reconnected = !self.local.is_empty() && !seen.local.is_empty() && self.local != seen.local;
        if reconnected {
            self.attempt = Attempt { started_ns: seen.before_ns, ..Attempt::default() };
        }
        if seen.status != Status::Started {
            self.attempt.connected_ns.get_or_insert(seen.after_ns);
        }
        if seen.tls && seen.status != Status::SslStartup {
            self.attempt.tls_ns.get_or_insert(seen.after_ns);
        }
        self.status = seen.status;
        self.tls = seen.tls && seen.status != Status::SslStartup;
        seen.local.clone_into(&mut self.local);
    }

    /// How far the last attempt has come.
    pub(super) fn stage(&self) -> Stage {
        match self.status {
            Status::Started | Status::Bad => Stage::Connect,
            Status::SslStartup if self.direct || matches!(self.attempt.answer, Some((b'S', _))) => Stage::Handshake,
            Status::SslStartup => Stage::SslRequest,
            // libpq reads the server's first message, or its alert, in this state.
            Status::Made | Status::AwaitingResponse if self.tls => Stage::PostHandshake,
            Status::Made if self.attempt.answer.is_none() => Stage::Connect,
            Status::Made | Status::AwaitingResponse | Status::Later => Stage::Authentication,
        }
    }

    /// The durations of the phases that are complete; `ready_ns` is when the session was ready.
    pub(super) fn phases(&self, ready_ns: Option<u64>) -> Phases {
        let attempt = &self.attempt;
        let since = |start: Option<u64>, end: Option<u64>| Some(end?.saturating_sub(start?));
        let answered_ns = attempt.answer.map(|(_, at)| at);
        Phases {
            tcp_ns: since(Some(attempt.started_ns), attempt.connected_ns).filter(|_| self.tcp),
            sslrequest_ns: since(attempt.connected_ns, answered_ns),
            tls_ns: since(answered_ns.or(attempt.connected_ns), attempt.tls_ns),
            auth_ns: since(attempt.tls_ns.or(answered_ns).or(attempt.connected_ns), ready_ns),
            query_ns: None,
            connect_ns: ready_ns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(at: u64, status: Status, tls: bool, local: &str) -> PollSample<'_> {
        PollSample { before_ns: at - 1, after_ns: at, status, tls, local }
    }

    fn to_ssl_request(direct: bool) -> Progress {
        let mut progress = Progress::new(direct, true);
        progress.step(&seen(10, Status::Started, false, "127.0.0.1:1"));
        assert_eq!(progress.stage(), Stage::Connect);
        progress.ready(20);
        progress.step(&seen(21, Status::Made, false, "127.0.0.1:1"));
        progress.step(&seen(30, Status::SslStartup, false, "127.0.0.1:1"));
        progress
    }

    #[test]
    fn each_phase_of_a_tls_connection_is_told_apart() {
        let mut progress = to_ssl_request(false);
        assert!(progress.awaits_answer());
        assert_eq!(progress.stage(), Stage::SslRequest);
        progress.answered(b'S', 50);
        assert_eq!(progress.stage(), Stage::Handshake);
        progress.step(&seen(60, Status::SslStartup, true, "127.0.0.1:1"));
        assert_eq!(progress.stage(), Stage::Handshake);
        progress.step(&seen(90, Status::Made, true, "127.0.0.1:1"));
        progress.step(&seen(95, Status::AwaitingResponse, true, "127.0.0.1:1"));
        assert_eq!(progress.stage(), Stage::PostHandshake);
        let phases = progress.phases(Some(150));
        assert_eq!(phases.tcp_ns, Some(20));
        assert_eq!(phases.sslrequest_ns, Some(30));
        assert_eq!(phases.tls_ns, Some(40));
        assert_eq!(phases.auth_ns, Some(60));
        assert_eq!(phases.connect_ns, Some(150));
    }

    #[test]
    fn direct_negotiation_has_no_sslrequest_phase() {
        let mut progress = to_ssl_request(true);
        assert!(!progress.awaits_answer());
        assert_eq!(progress.stage(), Stage::Handshake);
        progress.step(&seen(80, Status::Made, true, "127.0.0.1:1"));
        let phases = progress.phases(None);
        assert_eq!((phases.sslrequest_ns, phases.tls_ns, phases.auth_ns), (None, Some(60), None));
    }

    #[test]
    fn a_reconnect_forgets_the_phases_of_the_first_attempt() {
        let mut progress = to_ssl_request(false);
        progress.answered(b'S', 50);
        progress.step(&seen(90, Status::Made, true, "127.0.0.1:1"));
        progress.step(&seen(95, Status::AwaitingResponse, true, "127.0.0.1:1"));
        progress.step(&seen(100, Status::Started, false, "127.0.0.1:2"));
        assert_eq!(progress.stage(), Stage::Connect);
        progress.ready(110);
        progress.step(&seen(111, Status::AwaitingResponse, false, "127.0.0.1:2"));
        assert_eq!(progress.stage(), Stage::Authentication);
        let phases = progress.phases(Some(130));
        assert_eq!((phases.tcp_ns, phases.sslrequest_ns, phases.tls_ns), (Some(11), None, None));
        assert_eq!((phases.auth_ns, phases.connect_ns), (Some(20), Some(130)));
    }

    #[test]
    fn a_server_without_tls_refuses_in_the_sslrequest_stage_or_goes_on_in_plaintext() {
        let mut progress = to_ssl_request(false);
        progress.answered(b'N', 50);
        assert_eq!(progress.stage(), Stage::SslRequest);
        progress.step(&seen(60, Status::Made, false, "127.0.0.1:1"));
        progress.step(&seen(65, Status::AwaitingResponse, false, "127.0.0.1:1"));
        assert_eq!(progress.stage(), Stage::Authentication);
        assert_eq!(progress.phases(Some(80)).auth_ns, Some(30));
    }

    #[test]
    fn a_unix_socket_has_no_connect_phase() {
        let mut progress = Progress::new(false, false);
        progress.step(&seen(10, Status::Made, false, ""));
        progress.step(&seen(20, Status::AwaitingResponse, false, ""));
        let phases = progress.phases(Some(40));
        assert_eq!((phases.tcp_ns, phases.auth_ns), (None, Some(30)));
    }
}
