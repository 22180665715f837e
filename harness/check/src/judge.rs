//! One observation against one expectation.

use super::agree::{in_short, log_has, log_in_short};
use model::case::{Expectation, Expected, SessionExpectation};
use model::driver::Family;
use model::observation::{ClientOutcome, Observation, Refused, Session};
use model::outcome::{Mismatch, Witness};
use model::refusal::Refusal;

/// What judging needs to know beside expectation and observation.
pub struct Context<'a> {
    /// Which step, from 0.
    pub step: usize,
    /// The driver's family: `text` is asserted for clients that give OpenSSL's and the server's texts: libpq, psycopg2, redis-py. Where a
    /// failure has no class it is asserted for all.
    pub family: Family,
    /// SHA-256 of an identity's certificate, lower-case hex.
    pub certificate_sha256: &'a dyn Fn(&str) -> Option<String>,
}

/// Every difference between expectation and observation; empty if it holds.
#[must_use]
pub fn judge(expectation: &Expectation, observation: &Observation, context: &Context<'_>) -> Vec<Mismatch> {
    let mut judgement = Judgement { step: context.step, mismatches: Vec::new() };
    match (&expectation.expected, &observation.client.outcome) {
        (Expected::Session(expected), ClientOutcome::Session(session)) => judgement.session(expected, session, context),
        (Expected::Refused(classes), ClientOutcome::Refused(refused)) => judgement.refused(classes, expectation, refused, context),
        (expected @ Expected::Objection(_), outcome) => {
            judgement.add(Witness::Server, "objection", describe(expected), format!("it started, and the client saw {}", short(outcome)));
        }
        (expected, outcome) => judgement.add(Witness::Client, "outcome", describe(expected), short(outcome)),
    }
    for (name, expected) in &expectation.settings {
        judgement.compare(
            Witness::Client,
            &format!("setting {name}"),
            expected.as_deref(),
            observation.client.settings.get(name).map(String::as_str),
        );
    }
    for text in &expectation.server_log {
        if !log_has(&observation.server_log, text) {
            judgement.add(Witness::ServerLog, "server_log", format!("a line with `{text}`"), log_in_short(&observation.server_log));
        }
    }
    if let (Some(events), Some(wire)) = (&expectation.wire, &observation.wire)
        && *events != wire.events()
    {
        judgement.add(Witness::Wire, "wire", in_short(events), in_short(&wire.events()));
    }
    judgement.mismatches
}

/// Every difference between an expectation and a server that did not start with its configuration; `said` is what it wrote.
#[must_use]
pub fn judge_objection(expectation: &Expectation, said: &str, step: usize) -> Vec<Mismatch> {
    let mut judgement = Judgement { step, mismatches: Vec::new() };
    match &expectation.expected {
        Expected::Objection(texts) => {
            for text in texts.iter().filter(|text| !said.contains(text.as_str())) {
                judgement.add(Witness::ServerLog, "objection", format!("a line with `{text}`"), said.to_owned());
            }
        }
        other => judgement.add(Witness::Server, "start", describe(other), format!("the server did not start: {said}")),
    }
    judgement.mismatches
}

/// Whether session or refusal class are as expected, whatever else differs.
#[must_use]
pub fn same_class(expectation: &Expectation, outcome: &ClientOutcome) -> bool {
    match (&expectation.expected, outcome) {
        (Expected::Session(expected), ClientOutcome::Session(session)) => expected.tls == session.tls,
        (Expected::Refused(classes), ClientOutcome::Refused(refused)) => classes.contains(&refused.refusal),
        _ => false,
    }
}

struct Judgement {
    step: usize,
    mismatches: Vec<Mismatch>,
}

impl Judgement {
    fn add(&mut self, witness: Witness, what: &str, expected: String, observed: String) {
        self.mismatches.push(Mismatch { step: self.step, witness, what: what.to_owned(), expected, observed });
    }

    fn compare(&mut self, witness: Witness, what: &str, expected: Option<&str>, observed: Option<&str>) {
        if expected != observed {
            self.add(witness, what, expected.unwrap_or("none").to_owned(), observed.unwrap_or("none").to_owned());
        }
    }

    fn session(&mut self, expected: &SessionExpectation, session: &Session, context: &Context<'_>) {
        let kind = |tls| if tls { "TLS" } else { "plaintext" };
        if expected.tls != session.tls {
            self.add(Witness::Client, "tls", kind(expected.tls).to_owned(), kind(session.tls).to_owned());
        }
        if let Some(view) = &session.server_view {
            if expected.tls != view.ssl {
                self.add(Witness::Server, "pg_stat_ssl.ssl", kind(expected.tls).to_owned(), kind(view.ssl).to_owned());
            }
            if let Some(dn) = &expected.client_dn {
                self.compare(Witness::Server, "client_dn", dn.as_deref(), view.client_dn.as_deref());
            }
            if let Some(user) = &expected.user {
                self.compare(Witness::Server, "user", Some(user), view.user.as_deref());
            }
        }
        if let Some(version) = expected.version {
            self.compare(Witness::Client, "version", Some(version.name()), session.version.map(model::connect::TlsVersion::name));
        }
        // Not every library tells: absent is no contradiction there, but rustls and redis-rs always tell.
        if let Some(alpn) = &expected.alpn
            && (session.alpn.is_some() || context.family == Family::Rustls)
        {
            self.compare(Witness::Client, "alpn", alpn.as_deref(), session.alpn.as_deref());
        }
        if let (Some(identity), Some(seen)) = (&expected.server_certificate, &session.server_certificate) {
            let issued = (context.certificate_sha256)(identity);
            if issued.as_deref() != Some(seen.sha256.as_str()) {
                let expected = format!("the certificate of {identity} ({})", issued.as_deref().unwrap_or("not issued"));
                let observed = match issue(identity, &seen.sha256, context.certificate_sha256) {
                    Some(name) => format!("that of {name} ({})", seen.sha256),
                    None => format!("another one ({})", seen.sha256),
                };
                self.add(Witness::Client, "server_certificate", expected, observed);
            }
        }
    }

    fn refused(&mut self, classes: &[Refusal], expectation: &Expectation, refused: &Refused, context: &Context<'_>) {
        if !classes.contains(&refused.refusal) {
            self.add(Witness::Client, "refused", describe(&expectation.expected), format!("{} ({})", refused.refusal, refused.text.trim()));
        }
        if let (Some(expected), Some(stage)) = (expectation.stage, refused.stage)
            && expected != stage
        {
            self.add(Witness::Client, "stage", format!("{expected:?}"), format!("{stage:?}"));
        }
        if let Some(text) = &expectation.text
            && (matches!(context.family, Family::Libpq | Family::RedisPy) || matches!(refused.refusal, Refusal::Unclassified(_)))
            && !refused.text.contains(text.as_str())
        {
            self.add(Witness::Client, "text", format!("a message with `{text}`"), refused.text.trim().to_owned());
        }
    }
}

/// An expectation in a few words.
#[must_use]
pub fn describe(expected: &Expected) -> String {
    match expected {
        Expected::Session(session) if session.tls => "a TLS session".to_owned(),
        Expected::Session(_) => "a plaintext session".to_owned(),
        Expected::Refused(classes) => {
            let names: Vec<String> = classes.iter().map(ToString::to_string).collect();
            format!("refused ({})", names.join(" or "))
        }
        Expected::Objection(texts) => format!("the server does not start, and says {}", texts.join(", ")),
        Expected::Output { lines, status } => format!("exit status {status} and output with {}", lines.join(", ")),
    }
}

fn short(outcome: &ClientOutcome) -> String {
    match outcome {
        ClientOutcome::Session(session) if session.tls => "a TLS session".to_owned(),
        ClientOutcome::Session(_) => "a plaintext session".to_owned(),
        ClientOutcome::Refused(refused) => format!("refused ({}): {}", refused.refusal, refused.text.trim()),
    }
}

/// Which of the certificates that were issued for a Certificate (`NAME` or `NAME@2`) has this SHA-256: `NAME@1` is the first.
fn issue(certificate: &str, sha256: &str, sha256_of: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let name = certificate.split_once('@').map_or(certificate, |(name, _)| name);
    let mut issued = (1..).map(|number| format!("{name}@{number}")).map_while(|issue| sha256_of(&issue).map(|known| (issue, known)));
    issued.find(|(_, known)| known == sha256).map(|(issue, _)| issue)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use model::observation::{ClientObservation, LogLine, Phases, ServerView};
    use model::refusal::{Alert, Stage};
    use model::wire::{WireConnection, WireEvent, WireTrace};

    fn observed(outcome: ClientOutcome, log: &[&str], events: &[WireEvent]) -> Observation {
        Observation {
            client: ClientObservation { outcome, phases: Phases::default(), settings: BTreeMap::new() },
            server_log: log
                .iter()
                .map(|message| LogLine { severity: "LOG".into(), sqlstate: None, message: (*message).into(), detail: None, peer: None })
                .collect(),
            wire: Some(WireTrace {
                connections: vec![WireConnection { events: events.to_vec(), ..WireConnection::default() }],
                ..WireTrace::default()
            }),
        }
    }

    fn session(tls: bool, dn: Option<&str>) -> ClientOutcome {
        ClientOutcome::Session(Session {
            tls,
            version: None,
            cipher: None,
            alpn: None,
            server_certificate: None,
            server_view: Some(ServerView { ssl: tls, client_dn: dn.map(str::to_owned), user: Some("app".into()), ..ServerView::default() }),
        })
    }

    fn expect_session(tls: bool, dn: Option<Option<&str>>) -> Expectation {
        Expectation {
            expected: Expected::Session(SessionExpectation {
                tls,
                user: Some("app".into()),
                client_dn: dn.map(|dn| dn.map(str::to_owned)),
                version: None,
                alpn: None,
                server_certificate: None,
            }),
            stage: None,
            text: None,
            server_log: Vec::new(),
            wire: None,
            settings: BTreeMap::new(),
        }
    }

    fn context() -> Context<'static> {
        Context { step: 0, family: Family::Libpq, certificate_sha256: &|_| None }
    }

    fn refused(refusal: Refusal, text: &str) -> ClientOutcome {
        ClientOutcome::Refused(Refused { refusal, stage: Some(Stage::PostHandshake), sqlstate: None, text: text.into() })
    }

    #[test]
    fn a_session_with_the_expected_certificate_holds_and_another_dn_does_not() {
        let observation = observed(session(true, Some("/CN=app")), &[], &[]);
        assert!(judge(&expect_session(true, Some(Some("/CN=app"))), &observation, &context()).is_empty());
        let mismatches = judge(&expect_session(true, Some(Some("/CN=other"))), &observation, &context());
        assert_eq!(mismatches.len(), 1);
        assert_eq!((mismatches[0].witness, mismatches[0].what.as_str()), (Witness::Server, "client_dn"));
        assert_eq!(judge(&expect_session(true, Some(None)), &observation, &context()).len(), 1, "`none` must not accept a certificate");
    }

    #[test]
    fn another_certificate_than_expected_is_named_where_it_was_issued_for_the_same_name() {
        let sha256 = |name: &str| {
            let known = [("server", "bb"), ("server@1", "aa"), ("server@2", "bb"), ("client@1", "cc")];
            known.iter().find(|(known, _)| *known == name).map(|(_, sha256)| (*sha256).to_owned())
        };
        let context = Context { certificate_sha256: &sha256, ..context() };
        let told = |expected: &str, seen: &str| {
            let mut outcome = session(true, None);
            if let ClientOutcome::Session(session) = &mut outcome {
                session.server_certificate = Some(model::observation::SeenCertificate { sha256: seen.to_owned() });
            }
            let mut expectation = expect_session(true, None);
            if let Expected::Session(session) = &mut expectation.expected {
                session.server_certificate = Some(expected.to_owned());
            }
            let mismatches = judge(&expectation, &observed(outcome, &[], &[]), &context);
            mismatches.into_iter().map(|mismatch| format!("{}, not {}", mismatch.observed, mismatch.expected)).collect::<Vec<_>>()
        };
        assert_eq!(told("server", "bb"), [""; 0]);
        assert_eq!(told("server", "aa"), ["that of server@1 (aa), not the certificate of server (bb)"]);
        assert_eq!(told("server@1", "bb"), ["that of server@2 (bb), not the certificate of server@1 (aa)"]);
        assert_eq!(told("server@2", "cc"), ["another one (cc), not the certificate of server@2 (bb)"]);
    }

    #[test]
    fn plaintext_is_never_taken_for_tls() {
        let observation = observed(session(false, None), &[], &[]);
        assert!(!judge(&expect_session(true, None), &observation, &context()).is_empty());
    }

    #[test]
    fn a_refusal_compares_by_class_text_log_and_wire() {
        let outcome = refused(Refusal::Alert(Alert::UnknownCa), "SSL error: tlsv1 alert unknown ca");
        let observation = observed(outcome, &["could not accept SSL connection: certificate verify failed"], &[WireEvent::Connect]);
        let mut expectation = Expectation {
            expected: Expected::Refused(vec![Refusal::Alert(Alert::UnknownCa)]),
            stage: None,
            text: Some("tlsv1 alert unknown ca".into()),
            server_log: vec!["certificate verify failed".into()],
            wire: Some(vec![WireEvent::Connect]),
            settings: BTreeMap::new(),
        };
        assert!(judge(&expectation, &observation, &context()).is_empty());
        expectation.text = Some("another text".into());
        expectation.server_log = vec!["another line".into()];
        expectation.wire = Some(vec![WireEvent::Connect, WireEvent::SslAccepted]);
        expectation.stage = Some(Stage::Handshake);
        expectation.expected = Expected::Refused(vec![Refusal::Alert(Alert::BadCertificate)]);
        let what: Vec<String> = judge(&expectation, &observation, &context()).into_iter().map(|mismatch| mismatch.what).collect();
        assert_eq!(what, ["refused", "stage", "text", "server_log", "wire"]);
    }

    #[test]
    fn a_failure_without_a_class_is_told_from_others_by_its_text_whatever_the_family() {
        let expectation = Expectation {
            expected: Expected::Refused(vec![Refusal::Unclassified(Stage::Authentication)]),
            stage: None,
            text: Some("could not find digest".into()),
            server_log: Vec::new(),
            wire: None,
            settings: BTreeMap::new(),
        };
        for family in [Family::Libpq, Family::Rustls, Family::RedisRs, Family::Other] {
            let context = Context { family, ..context() };
            let told = |refusal: Refusal, text: &str| {
                let mismatches = judge(&expectation, &observed(refused(refusal, text), &[], &[]), &context);
                mismatches.into_iter().map(|mismatch| mismatch.what).collect::<Vec<_>>()
            };
            assert_eq!(told(Refusal::Unclassified(Stage::Authentication), "could not find digest for NID UNDEF"), [""; 0], "{family:?}");
            assert_eq!(told(Refusal::Unclassified(Stage::Authentication), "out of memory"), ["text"], "{family:?}");
            assert_eq!(told(Refusal::Unclassified(Stage::Handshake), "could not find digest for NID UNDEF"), ["refused"], "{family:?}");
        }
    }

    #[test]
    fn settings_are_compared_by_name_whether_set_or_not() {
        let mut observation = observed(session(true, Some("/CN=app")), &[], &[]);
        observation.client.settings = BTreeMap::from([("sslmode".to_owned(), "verify-ca".to_owned()), ("x".to_owned(), "y".to_owned())]);
        let mut expectation = expect_session(true, None);
        expectation.settings = BTreeMap::from([("sslmode".to_owned(), Some("verify-ca".to_owned())), ("sslcert".to_owned(), None)]);
        assert_eq!(judge(&expectation, &observation, &context()), []);
        expectation.settings = BTreeMap::from([
            ("sslmode".to_owned(), Some("require".to_owned())),
            ("sslkey".to_owned(), Some("k".to_owned())),
            ("x".to_owned(), None),
        ]);
        let found: Vec<_> = judge(&expectation, &observation, &context())
            .into_iter()
            .map(|mismatch| (mismatch.what, mismatch.expected, mismatch.observed))
            .collect();
        let expected = [("setting sslkey", "k", "none"), ("setting sslmode", "require", "verify-ca"), ("setting x", "none", "y")];
        let expected = expected.map(|(what, expected, observed)| (what.to_owned(), expected.to_owned(), observed.to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn libpq_texts_are_not_asked_of_other_clients() {
        let observation = observed(refused(Refusal::Alert(Alert::UnknownCa), "received fatal alert"), &[], &[]);
        let expectation = Expectation {
            expected: Expected::Refused(vec![Refusal::Alert(Alert::UnknownCa)]),
            stage: None,
            text: Some("tlsv1 alert unknown ca".into()),
            server_log: Vec::new(),
            wire: None,
            settings: BTreeMap::new(),
        };
        assert!(judge(&expectation, &observation, &Context { family: Family::Rustls, ..context() }).is_empty());
        assert_eq!(judge(&expectation, &observation, &context()).len(), 1);
    }

    #[test]
    fn a_protocol_that_is_not_told_contradicts_nothing_unless_the_library_always_tells() {
        let judged = |expected: Option<&str>, seen: Option<&str>, family| {
            let mut expectation = expect_session(true, None);
            if let Expected::Session(session) = &mut expectation.expected {
                session.alpn = Some(expected.map(str::to_owned));
            }
            let mut outcome = session(true, None);
            if let ClientOutcome::Session(session) = &mut outcome {
                session.alpn = seen.map(str::to_owned);
            }
            let found = judge(&expectation, &observed(outcome, &[], &[]), &Context { family, ..context() });
            found.into_iter().map(|mismatch| mismatch.what).collect::<Vec<_>>()
        };
        let (postgresql, other) = (Some("postgresql"), Some("h2"));
        for family in [Family::Libpq, Family::Rustls] {
            assert_eq!(judged(postgresql, postgresql, family), Vec::<String>::new());
            assert_eq!(judged(postgresql, other, family), ["alpn"]);
            assert_eq!(judged(None, other, family), ["alpn"]);
        }
        assert_eq!(judged(postgresql, None, Family::Libpq), Vec::<String>::new());
        assert_eq!(judged(postgresql, None, Family::Rustls), ["alpn"]);
    }

    #[test]
    fn an_outcome_is_of_the_expected_class_whatever_else_differs() {
        let expectation = expect_session(true, Some(Some("/CN=other")));
        assert!(same_class(&expectation, &session(true, None)));
        assert!(!same_class(&expectation, &session(false, None)));
        assert!(!same_class(&expectation, &refused(Refusal::Alert(Alert::UnknownCa), "")));
        let refusal = Expectation { expected: Expected::Refused(vec![Refusal::Alert(Alert::UnknownCa)]), ..expectation };
        assert!(same_class(&refusal, &refused(Refusal::Alert(Alert::UnknownCa), "")));
        assert!(!same_class(&refusal, &refused(Refusal::Alert(Alert::BadCertificate), "")));
        assert!(!same_class(&refusal, &session(true, None)));
    }

    #[test]
    fn an_objection_needs_every_text_and_a_server_that_started_is_none() {
        let objection = |texts: &[&str]| Expectation {
            expected: Expected::Objection(texts.iter().map(|text| (*text).to_owned()).collect()),
            ..expect_session(true, None)
        };
        let said = "FATAL: private key file \"server.key\" has group or world access\nLOG: database system is shut down";
        let found = |expectation: &Expectation| {
            judge_objection(expectation, said, 2)
                .into_iter()
                .map(|mismatch| (mismatch.step, mismatch.witness, mismatch.what))
                .collect::<Vec<_>>()
        };
        assert_eq!(found(&objection(&["has group or world access", "shut down"])), []);
        assert_eq!(found(&objection(&["has group or world access", "must be owned"])), [(2, Witness::ServerLog, "objection".to_owned())]);
        assert_eq!(found(&expect_session(true, None)), [(2, Witness::Server, "start".to_owned())]);
        let started = judge(&objection(&["has group"]), &observed(session(true, None), &[], &[]), &context());
        assert_eq!(started.len(), 1);
        assert_eq!((started[0].witness, started[0].observed.as_str()), (Witness::Server, "it started, and the client saw a TLS session"));
    }

    #[test]
    fn what_was_expected_and_what_was_seen_is_said_in_a_few_words() {
        let mismatch = |expectation: &Expectation, outcome| {
            let found = judge(expectation, &observed(outcome, &[], &[]), &context());
            found.into_iter().next().map(|mismatch| (mismatch.expected, mismatch.observed)).expect("a mismatch")
        };
        let said = |expected: &str, observed: &str| (expected.to_owned(), observed.to_owned());
        assert_eq!(
            mismatch(&expect_session(true, None), refused(Refusal::Alert(Alert::UnknownCa), " no \n")),
            said("a TLS session", &format!("refused ({}): no", Refusal::Alert(Alert::UnknownCa)))
        );
        let classes = vec![Refusal::Alert(Alert::UnknownCa), Refusal::Alert(Alert::BadCertificate)];
        let names = format!("refused ({} or {})", classes[0], classes[1]);
        let refusal = Expectation { expected: Expected::Refused(classes), ..expect_session(true, None) };
        assert_eq!(mismatch(&refusal, session(true, None)), said(&names, "a TLS session"));
        assert_eq!(mismatch(&refusal, session(false, None)), said(&names, "a plaintext session"));
        assert_eq!(describe(&expect_session(false, None).expected), "a plaintext session");
    }
}
