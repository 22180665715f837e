//! A small hand-built run with a case of every outcome, for the tests of reporters.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use super::spool::{Spool, SpooledCases};
use check::timeline::Outages;
use latency::Latencies;
use model::claim::{Subject, Verdict};
use model::connect::TlsVersion;
use model::driver::{DriverInfo, Family};
use model::network::{Network, NetworkName, Networks};
use model::observation::{ClientObservation, ClientOutcome, LogLine, Observation, Phases, Refused, ServerView, Session};
use model::outcome::{ErrorKind, Mismatch, Outcome, OutcomeKind, SkipReason, Witness};
use model::refusal::{AuthRefusal, Refusal, Stage};
use model::report::{
    CaseRecord, ClaimRecord, Component, DivergenceRecord, EnvironmentRecord, RunUsers, SCHEMA_VERSION, StepRecord, Summary, Totals,
};
use model::server::Service;
use model::timeline::ClientKind;
use model::timeline::record::{ClientRecord as TimelineClient, Outage, PhaseRecord, TimelineRecord};
use model::wire::{WireConnection, WireEvent, WireTrace};
use os::redact::Redactor;
use run::event::Event;

pub(crate) const STARTED: &str = "2026-11-24T08:00:00Z";

fn phases() -> Phases {
    Phases { tcp_ns: Some(61_000), tls_ns: Some(752_000), connect_ns: Some(2_560_000), ..Phases::default() }
}

fn wire(events: &[WireEvent]) -> Option<WireTrace> {
    Some(WireTrace { connections: vec![WireConnection { events: events.to_vec(), ..WireConnection::default() }], error: None })
}

pub(crate) fn session(tls: bool) -> Observation {
    let view = ServerView { ssl: tls, client_dn: tls.then(|| "CN=app".to_owned()), user: Some("app".to_owned()), ..ServerView::default() };
    let session = Session {
        tls,
        version: tls.then_some(TlsVersion::V1_3),
        cipher: None,
        alpn: None,
        server_certificate: None,
        server_view: Some(view),
    };
    Observation {
        client: ClientObservation { outcome: ClientOutcome::Session(session), phases: phases(), settings: BTreeMap::new() },
        server_log: vec![],
        wire: wire(&[WireEvent::Connect, WireEvent::SslAccepted, WireEvent::ServerHello]),
    }
}

pub(crate) fn refused() -> Observation {
    let text = "connection to server at \"127.0.0.1\", port 5432 failed: FATAL:  connection requires a valid client certificate\n";
    let refused = Refused {
        refusal: Refusal::Auth(AuthRefusal::ClientCertificateRequired),
        stage: Some(Stage::Authentication),
        sqlstate: Some("28000".to_owned()),
        text: text.to_owned(),
    };
    let line = |severity: &str, code: &str, message: &str, detail: Option<&str>| LogLine {
        severity: severity.to_owned(),
        sqlstate: Some(code.to_owned()),
        message: message.to_owned(),
        detail: detail.map(str::to_owned),
        peer: None,
    };
    // As PostgreSQL 17 writes them.
    let rule = "/dev/shm/mtls-conformance-x1/postgres-17-documented/data/pg_hba.conf\" line 7: \"hostssl all all 0.0.0.0/0 cert map=apps\"";
    let log = vec![
        line("LOG", "00000", "connection received: host=127.0.0.1 port=40000", None),
        line("LOG", "00000", "SSLRequest accepted", None),
        line("LOG", "00000", "connection authenticated: identity=\"CN=app\" method=cert", None),
        line("LOG", "00000", "no match in usermap \"apps\" for user \"app\" authenticated as \"CN=app\"", None),
        line("FATAL", "28000", "certificate authentication failed for user \"app\"", Some(&format!("Connection matched file \"{rule}"))),
    ];
    Observation {
        client: ClientObservation { outcome: ClientOutcome::Refused(refused), phases: Phases::default(), settings: BTreeMap::new() },
        server_log: log,
        wire: wire(&[WireEvent::Connect, WireEvent::SslAccepted, WireEvent::ServerHello]),
    }
}

fn case(scenario: &str, values: &[(&str, &str)], outcome: Outcome, observed: Option<Observation>) -> CaseRecord {
    let text: Vec<String> = values.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
    let id = format!("{scenario}:{}", text.join(","));
    CaseRecord {
        repro: format!("mtls-conformance run '{id}'"),
        id,
        scenario: scenario.to_owned(),
        values: values.iter().map(|(axis, value)| ((*axis).to_owned(), (*value).to_owned())).collect(),
        deployment: "documented".to_owned(),
        outcome,
        claims: vec!["postgres.tls-and-cert-required".to_owned(), "config.require".to_owned()],
        timeline: None,
        client: None,
        phases: observed.as_ref().map(|_| phases()),
        steps: vec![StepRecord { expected: serde_json::json!({"session": {"tls": true}}), observed, command: None, output: None }],
        connections: 2,
        control: None,
        duration_ms: 12.5,
        evidence: None,
        evidence_error: None,
    }
}

/// One case of every outcome, and two more that pass.
pub(crate) fn cases() -> Vec<CaseRecord> {
    let sslmode = |driver: &str, mode: &str, outcome: Outcome, observed: Option<Observation>| {
        case("postgres/sslmode", &[("driver", driver), ("sslmode", mode), ("postgres", "17")], outcome, observed)
    };
    let mismatch = |witness: Witness, what: &str, expected: &str, observed: &str| Mismatch {
        step: 0,
        witness,
        what: what.to_owned(),
        expected: expected.to_owned(),
        observed: observed.to_owned(),
    };
    let mismatches = vec![
        mismatch(Witness::Client, "session", "tls session", "auth: client-certificate-required"),
        mismatch(Witness::ServerLog, "text", "connection authenticated: identity=\"CN=app\"", "no such line"),
    ];
    let mut failed = sslmode("rustls", "require", Outcome::Fail(mismatches), Some(refused()));
    failed.evidence = Some("/tmp/mtls-conformance-x1/postgres-17".to_owned());
    let mut errored = sslmode(
        "psycopg2-2.9.12",
        "require",
        Outcome::Errored { kind: ErrorKind::Harness, text: "the positive control failed\nsee its log".to_owned() },
        None,
    );
    errored.evidence_error = Some("could not write reports/evidence/x/server.log: No space left on device (os error 28)".to_owned());
    let mut openssl = case("openssl/inspect", &[("certificate", "server")], Outcome::Pass, None);
    openssl.steps[0].output = Some("X509v3 Extended Key Usage: TLS Web Client Authentication".to_owned());
    vec![
        sslmode("libpq-17", "require", Outcome::Pass, Some(session(true))),
        sslmode("libpq-17", "unset", Outcome::Deviates { deviation: "libpq.unset-prefers-tls".to_owned() }, Some(session(true))),
        failed,
        sslmode("rustls", "unset", Outcome::UnexpectedPass { deviation: "rustls.prefer".to_owned() }, Some(session(true))),
        errored,
        sslmode("libpq-17", "disable", Outcome::TimedOut("10 s, while waiting for the server's log".to_owned()), None),
        sslmode(
            "libpq-16",
            "require",
            Outcome::Skipped(SkipReason::DriverMissing("libpq-16 is not installed: `make setup` brings it".to_owned())),
            None,
        ),
        openssl,
        case("redis/tls", &[("driver", "redis-rs"), ("tls", "verify-full")], Outcome::Pass, Some(session(true))),
        rotation(),
    ]
}

/// A timeline that fails: its pool has no service, where the scenario says that it has.
fn rotation() -> CaseRecord {
    let mismatch = Mismatch {
        step: 1,
        witness: Witness::Client,
        what: "pool: outcome".to_owned(),
        expected: "every attempt is served".to_owned(),
        observed: "alert: unknown-ca (SSL error: tlsv1 alert unknown ca)".to_owned(),
    };
    let mut record = case("renewal/trust-first", &[("driver", "libpq-17")], Outcome::Fail(vec![mismatch]), None);
    record.steps = Vec::new();
    let phase = |title: &str, from_ms: f64, changes: &[&str], pool: &str| PhaseRecord {
        title: title.to_owned(),
        from_ms,
        changed_ms: Some(from_ms + 12.0),
        to_ms: Some(from_ms + 300.0),
        changes: changes.iter().map(|change| (*change).to_owned()).collect(),
        expected: serde_json::json!({"clients": [["pool", "ok"]]}),
        objection: None,
        observed: [("held".to_owned(), vec!["ok".to_owned()]), ("pool".to_owned(), vec![pool.to_owned()])].into(),
    };
    let client = |name: &str, kind, outages: Vec<Outage>| TimelineClient {
        name: name.to_owned(),
        kind,
        driver: Some("libpq-17".to_owned()),
        attempts: 24,
        failures: outages.iter().map(|outage| outage.failures).sum(),
        connections: 1,
        outages,
        resolution_ms: Some(25.4),
        latency: None,
    };
    let outage = Outage {
        from_ms: 331.0,
        to_ms: Some(431.5),
        known_to_ms: 25.1,
        failures: 4,
        refusals: [("alert: unknown-ca".to_owned(), 4)].into(),
        text: "SSL error: tlsv1 alert unknown ca".to_owned(),
    };
    record.timeline = Some(TimelineRecord {
        phases: vec![
            phase("before", 0.0, &[], "ok"),
            phase("the CA is re-keyed", 300.0, &["rekey mtls-ca", "sync client"], "alert: unknown-ca"),
        ],
        clients: vec![client("held", ClientKind::Held, Vec::new()), client("pool", ClientKind::Pool, vec![outage])],
    });
    record
}

fn claim(id: &str, statement: &str, verdict: Verdict, reason: Option<&str>) -> ClaimRecord {
    ClaimRecord {
        id: id.to_owned(),
        statement: statement.to_owned(),
        source: "guide.md, Modes".to_owned(),
        verdict,
        reason: reason.map(str::to_owned),
        by_deployment: BTreeMap::new(),
        subjects_not_real: vec![],
        outcomes: [(OutcomeKind::Pass, 2)].into(),
        cases: vec!["a:x=1".to_owned(), "a:x=2".to_owned()],
    }
}

pub(crate) fn environment() -> EnvironmentRecord {
    let component = |name: &str, version: Option<&str>, missing: Option<&str>| Component {
        name: name.to_owned(),
        version: version.map(str::to_owned),
        tls_library: version.map(|_| "OpenSSL 3.0.17".to_owned()),
        origin: version.map(|_| "distribution".to_owned()),
        missing: missing.map(str::to_owned),
    };
    let driver = |name: &str, family, version: &str| DriverInfo {
        name: name.to_owned(),
        service: Service::Postgres,
        family,
        libpq: None,
        version: version.to_owned(),
        tls_library: None,
    };
    EnvironmentRecord {
        name: "local".to_owned(),
        harness: "0.1.0".to_owned(),
        platform: "linux x86_64".to_owned(),
        cpus: 2,
        real_subjects: vec![Subject::Postgres, Subject::Libpq, Subject::Redis],
        components: vec![
            component("postgres-17", Some("17.6"), None),
            component("redis", Some("7.0.15"), None),
            component("postgres-18", None, Some("its cases are skipped: `make setup` brings it")),
        ],
        drivers: vec![driver("libpq-17", Family::Libpq, "libpq 17.6"), driver("rustls", Family::Rustls, "rustls 0.23.46")],
        networks: Networks(BTreeMap::from([(
            NetworkName::Pods,
            Network { range: "10.0.0.0/8".to_owned(), client: "10.1.0.7".parse().expect("an address") },
        )])),
        users: Some(RunUsers {
            harness: "root".to_owned(),
            servers: "user 1879048193, who is nobody else".to_owned(),
            clients: "user 1879048194, who is nobody else".to_owned(),
        }),
    }
}

pub(crate) fn summary() -> Summary {
    let mut outcomes: BTreeMap<OutcomeKind, usize> = OutcomeKind::ALL.into_iter().map(|kind| (kind, 0)).collect();
    for case in cases() {
        *outcomes.entry(case.outcome.kind()).or_default() += 1;
    }
    let mut latencies = Latencies::new().expect("constants fit");
    for (driver, mode, negotiation) in [("libpq-17", "require", "postgres"), ("rustls", "verify-full", "direct")] {
        for milliseconds in 1..=20_u64 {
            latencies.record(driver, mode, negotiation, &Phases { connect_ns: Some(milliseconds * 100_000), ..phases() });
        }
    }
    let mut outages = Outages::default();
    cases().iter().for_each(|case| outages.add(case));
    let mut refuted = claim(
        "config.unset",
        "no SSL options: plain TCP, refused",
        Verdict::Refuted,
        Some("libpq prefers TLS when sslmode is unset, and gets a session"),
    );
    refuted.by_deployment = [("cnpg".to_owned(), Verdict::Refuted), ("documented".to_owned(), Verdict::Confirmed)].into();
    let mut mixed = claim("cnpg.server-tls-secret", "serverTLSSecret is what clients are shown", Verdict::Confirmed, None);
    mixed.subjects_not_real = vec![Subject::Cnpg];
    let emulated = Some("cert-manager is emulated by the local environment: needs kind");
    let claims = vec![
        claim("postgres.cn-is-user", "the CN is the database user", Verdict::Confirmed, None),
        mixed,
        refuted,
        claim("pki.ca-hierarchy", "a self-signed issuer, a CA, leaves", Verdict::NotExercised, emulated),
        claim("pki.resources", "nine resources", Verdict::NotExercised, emulated),
        claim("redis.tls", "TLS only", Verdict::NotExercised, Some("redis is not installed")),
    ];
    Summary {
        schema_version: SCHEMA_VERSION,
        started_at: STARTED.to_owned(),
        command: vec!["mtls-conformance".to_owned(), "run".to_owned()],
        environment: environment(),
        totals: Totals {
            cases: cases().len(),
            outcomes,
            claims: check::ledger::count(&claims),
            connections: 18,
            compared_situations: 2,
            slow_cases: vec!["postgres/restart:postgres=17".to_owned()],
            wall_seconds: 4.0,
            timeline_seconds: 1.5,
            peak_memory_bytes: 48 * 1024 * 1024,
        },
        warnings: vec!["database.yaml:31:9: no client of this run is in 10.0.0.0/8".to_owned()],
        problems: vec!["deviation `rustls.prefer` is past its review date 2026-11-01".to_owned()],
        left_behind: vec![
            "the volume mtls-conformance-a1-harness is left of the run: its removal was tried 2 times: it is in use".to_owned(),
        ],
        claims,
        divergence: vec![DivergenceRecord {
            situation: "postgres/sslmode:sslmode=require,postgres=17".to_owned(),
            mode: Some("require".to_owned()),
            observed: [("libpq-17", "tls session"), ("rustls", "auth: client-certificate-required")]
                .map(|(driver, short)| (driver.to_owned(), short.to_owned()))
                .into(),
            divergent: vec!["rustls".to_owned()],
        }],
        latency: latencies.finish().expect("encodes"),
        outages: outages.finish(),
    }
}

/// All that reporters are told of a run of [`cases`], in order.
pub(crate) fn events() -> Vec<Event> {
    let mut events = vec![
        Event::RunStarted { environment: Box::new(environment()), planned: cases().len(), started_at: STARTED.to_owned() },
        Event::ServerReady { name: "postgres-17 documented".to_owned(), took: Duration::from_millis(310) },
    ];
    for case in cases() {
        events.push(Event::CaseStarted { id: case.id.clone() });
        events.push(Event::CaseFinished(Box::new(case)));
    }
    events.extend(summary().warnings.into_iter().map(Event::Warning));
    events.extend(summary().problems.into_iter().map(Event::Problem));
    events.extend(summary().left_behind.into_iter().map(Event::LeftBehind));
    events.push(Event::RunFinished(Box::new(summary())));
    events
}

/// What a report's `write` makes of these cases and of [`summary`].
pub(crate) fn written(cases: &[CaseRecord], write: fn(&mut dyn Write, &Summary, SpooledCases<'_>) -> io::Result<()>) -> String {
    let mut spool = Spool::create(Redactor::default()).expect("makes a file");
    for case in cases {
        spool.push(case).expect("spools");
    }
    let mut out = Vec::new();
    write(&mut out, &summary(), spool.cases().expect("flushes")).expect("writes");
    String::from_utf8(out).expect("is text")
}
