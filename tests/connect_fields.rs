//! Every field of `connect` with every driver: what is said is done, and seen to be, or the case is skipped with the reason. None is dropped
//! in silence.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use driver::catalogue;
use model::outcome::{Outcome, SkipReason};
use model::scenario::Connect;
use model::server::Service;

use crate::support::{REPORT, Ran, harness, harness_says, ran, skipped, toolchain, write};

/// A field, said so that what comes of it shows that it was followed.
struct Way {
    service: Service,
    field: &'static str,
    /// The fields of the step; without this one it would end otherwise.
    connect: &'static str,
    /// What the control changes, where the step is refused.
    control: &'static str,
    /// The server, where the deployment's own won't do.
    server: &'static str,
    /// The rows of `expect`, in one line.
    expect: &'static str,
    /// The drivers that follow it this way. Those that follow it in none can't, and are to say so.
    follows: fn(&str) -> bool,
}

const fn postgres(field: &'static str, connect: &'static str, expect: &'static str, follows: fn(&str) -> bool) -> Way {
    Way { service: Service::Postgres, field, connect, control: "", server: "", expect, follows }
}

const fn redis(field: &'static str, connect: &'static str, expect: &'static str, follows: fn(&str) -> bool) -> Way {
    Way { service: Service::Redis, ..postgres(field, connect, expect, follows) }
}

impl Way {
    const fn control(self, control: &'static str) -> Self {
        Self { control, ..self }
    }

    const fn server(self, server: &'static str) -> Self {
        Self { server, ..self }
    }

    /// The field alone, without those that show what comes of it.
    fn alone(&self) -> &'static str {
        let said = |text: &&str| text.strip_prefix(self.field).is_some_and(|rest| rest.starts_with(':'));
        self.connect.split(", ").find(said).expect("the field is said")
    }

    /// Lets everybody in, in every way: the field alone decides.
    fn server_or_default(&self) -> &'static str {
        match (self.server, self.service) {
            ("", Service::Postgres) => {
                "{pg_hba: [local all all trust, host all all all trust, host replication streaming_replica all trust]}"
            }
            ("", Service::Redis) => "{}",
            (server, _) => server,
        }
    }
}

fn all(_: &str) -> bool {
    true
}

fn configured(driver: &str) -> bool {
    driver.starts_with("nautobot-")
}

fn not_configured(driver: &str) -> bool {
    !configured(driver)
}

const SESSION: &str = "[{session: {tls: true}}]";
const VERIFY: &str = "[{refused: [{verify: unknown-ca}, {verify: certificate}]}]";
const HOST: &str = "[{refused: {verify: host-name}}]";
const OLD_SERVER: &str = "{pg_hba: [host all all all trust], settings: {ssl_max_protocol_version: TLSv1.2}}";

const WAYS: &[Way] = &[
    postgres("sslmode", "sslmode: disable", "[{session: {tls: false}}]", not_configured),
    postgres(
        "sslnegotiation",
        "sslmode: require, sslnegotiation: direct",
        "[{when: {family: libpq, libpq: <17}, refused: {option: unknown-option}}, \
         {session: {tls: true}, wire: [connect, direct-tls, server-hello]}]",
        not_configured,
    )
    .control("sslnegotiation: unset"),
    postgres("identity", "sslmode: require, identity: none", "[{session: {tls: true, client_dn: none}}]", not_configured),
    postgres("identity", "identity: none, env: {NAUTOBOT_DB_SSLMODE: verify-ca}", "[{refused: {config: file-missing}}]", configured)
        .control("identity: app"),
    postgres("trust", "sslmode: verify-ca, trust: other-ca", VERIFY, not_configured).control("trust: mtls-ca"),
    postgres("trust", "trust: other-ca, env: {NAUTOBOT_DB_SSLMODE: verify-ca}", VERIFY, configured).control("trust: mtls-ca"),
    postgres("host", "sslmode: verify-full, host: db.other.example.com", HOST, not_configured)
        .control("host: nautobot-cluster-rw.nautobot.svc"),
    postgres("host", "host: db.other.example.com, env: {NAUTOBOT_DB_SSLMODE: verify-full}", HOST, configured)
        .control("host: nautobot-cluster-rw.nautobot.svc"),
    postgres("user", "user: postgres", "[{session: {tls: true, user: postgres}}]", all),
    postgres("database", "database: postgres", "[{session: {tls: true}, server_log: database=postgres}]", all),
    postgres("password", "password: wrong", "[{refused: {auth: password}}]", all)
        .control("password: right")
        .server("{pg_hba: [host all all all scram-sha-256]}"),
    postgres("source", "source: sites", "[{session: {tls: true}, server_log: \"host=${address:sites}\"}]", all),
    postgres("transport", "transport: unix", "[{session: {tls: false}}]", not_configured),
    postgres("min_tls", "sslmode: require, min_tls: TLSv1.3", "[{refused: {alert: protocol-version}}]", not_configured)
        .control("min_tls: unset")
        .server(OLD_SERVER),
    postgres("max_tls", "sslmode: require, max_tls: TLSv1.2", "[{session: {tls: true, version: TLSv1.2}}]", not_configured),
    // An empty list, which is something said too.
    postgres("alpn", "alpn: none", "[{session: {tls: true, alpn: none}}]", |driver| driver == "rustls"),
    // The gateway routes by the ClientHello's name, and takes no SSLRequest.
    postgres("via", "via: gateway", "[{refused: {closed: ssl-request}}]", all).control("via: server"),
    postgres("env", "env: {NAUTOBOT_DB_SSLMODE: require}", "[{session: {tls: true}, settings: {sslmode: require}}]", configured),
    postgres(
        "replication",
        "replication: true, user: streaming_replica",
        "[{session: {tls: true}, server_log: replication connection authorized}]",
        |driver| driver.starts_with("libpq-"),
    ),
    redis("tls", "tls: no-verify, host: db.other.example.com", "[{session: {tls: true}}]", not_configured),
    redis("identity", "identity: none", "[{refused: {alert: certificate-required}}]", not_configured).control("identity: app"),
    redis("identity", "identity: none, env: {NAUTOBOT_REDIS_SSL: \"true\"}", "[{refused: {file: certificate-missing}}]", configured)
        .control("identity: app"),
    redis("trust", "trust: other-ca", VERIFY, not_configured).control("trust: mtls-ca"),
    redis("trust", "trust: other-ca, env: {NAUTOBOT_REDIS_SSL: \"true\"}", VERIFY, configured).control("trust: mtls-ca"),
    redis("host", "host: db.other.example.com", HOST, not_configured).control("host: nautobot-redis-master.nautobot.svc"),
    redis("host", "host: db.other.example.com, env: {NAUTOBOT_REDIS_SSL: \"true\"}", HOST, configured)
        .control("host: nautobot-redis-master.nautobot.svc"),
    redis("password", "password: wrong", "[{refused: {auth: redis-wrong-password}}]", not_configured).control("password: right"),
    redis("password", "password: wrong, env: {NAUTOBOT_REDIS_SSL: \"true\"}", "[{refused: {auth: redis-wrong-password}}]", configured)
        .control("password: right"),
    redis("source", "source: sites", "[{session: {tls: true}, server_log: \"Accepted ${address:sites}:\"}]", not_configured),
    redis(
        "source",
        "source: sites, env: {NAUTOBOT_REDIS_SSL: \"true\"}",
        "[{session: {tls: true}, server_log: \"Accepted ${address:sites}:\"}]",
        configured,
    ),
    redis("min_tls", "min_tls: TLSv1.3", "[{refused: {alert: protocol-version}}]", not_configured)
        .control("min_tls: unset")
        .server("{settings: {tls-protocols: TLSv1.2}}"),
    redis("max_tls", "max_tls: TLSv1.2", "[{session: {tls: true, version: TLSv1.2}}]", |driver| driver == "redis-rs"),
    redis("port", "port: plaintext, tls: \"off\"", "[{session: {tls: false}}]", not_configured).server("{settings: {port: \"6379\"}}"),
    // The shipped file wants TLS, and so its clients wait there for a ServerHello that never comes.
    redis("port", "port: plaintext, env: {NAUTOBOT_REDIS_SSL: \"true\"}", "[{refused: {timed-out: handshake}}]", configured)
        .control("port: tls")
        .server("{settings: {port: \"6379\"}}"),
    redis("via", "via: gateway", "[{session: {tls: true}, server_log: \"Accepted ${address:gateway}:\"}]", not_configured),
    redis(
        "via",
        "via: gateway, env: {NAUTOBOT_REDIS_SSL: \"true\"}",
        "[{session: {tls: true}, server_log: \"Accepted ${address:gateway}:\"}]",
        configured,
    ),
    redis("env", "env: {NAUTOBOT_REDIS_SSL: \"true\"}", "[{session: {tls: true}, settings: {scheme: rediss}}]", configured),
];

/// Who does it at all: every case has one.
const CHOOSES_THE_DRIVER: &str = "driver";

/// A version that every way above is for.
const POSTGRES: u16 = 17;

/// The names of all fields, as they are written.
fn fields() -> Vec<String> {
    let serde_json::Value::Object(fields) = serde_json::to_value(Connect::default()).expect("written") else { panic!("no object") };
    fields.into_iter().map(|(name, _)| name).filter(|name| name != CHOOSES_THE_DRIVER).collect()
}

fn ways(service: Service, field: &str) -> impl Iterator<Item = (usize, &'static Way)> {
    WAYS.iter().enumerate().filter(move |(_, way)| way.service == service && way.field == field)
}

/// The drivers of this machine, by name.
fn drivers(service: Service) -> Vec<String> {
    let known = catalogue::known().into_iter().filter(|info| info.service == service);
    known.map(|info| info.name).filter(|name| catalogue::in_container(name).is_none()).collect()
}

fn service_name(service: Service) -> &'static str {
    match service {
        Service::Postgres => "postgres",
        Service::Redis => "redis",
    }
}

fn scenario(id: &str, way: &Way, connect: &str, expect: &str, drivers: &[&str]) -> String {
    let service = match way.service {
        Service::Postgres => format!("postgres: [{POSTGRES}]"),
        Service::Redis => "service: redis".to_owned(),
    };
    let server = way.server_or_default();
    let control = if way.control.is_empty() { String::new() } else { format!("control:\n  - connect: {{{}}}\n", way.control) };
    format!(
        "id: {id}\ntitle: \"{}\"\nclaims: []\ndeployment: documented\n{service}\nmatrix: {{driver: [{}]}}\nserver: {server}\n{control}\
         steps:\n  - connect: {{{connect}}}\n    expect: {expect}\n",
        way.field,
        drivers.join(", ")
    )
}

/// Writes a scenario a way, and one for the drivers that follow the field in none. Gives the ids of cases without version, each with whether
/// it is followed.
fn write_scenarios(directory: &Path) -> BTreeMap<(String, String), bool> {
    let mut planned = BTreeMap::new();
    for service in [Service::Postgres, Service::Redis] {
        let drivers = drivers(service);
        for field in fields() {
            for (number, way) in ways(service, &field) {
                let any_follows = |driver: &str| ways(service, &field).any(|(_, way)| (way.follows)(driver));
                for followed in [true, false] {
                    let meant = |driver: &&String| if followed { (way.follows)(driver) } else { !any_follows(driver) };
                    let names: Vec<&str> = drivers.iter().filter(meant).map(String::as_str).collect();
                    if names.is_empty() {
                        continue;
                    }
                    let (kind, connect, expect) =
                        if followed { ("followed", way.connect, way.expect) } else { ("unable", way.alone(), SESSION) };
                    let id = format!("field/{}-{}-{number}-{kind}", service_name(service), field.replace('_', "-"));
                    write(directory, &format!("set/{id}.yaml"), &scenario(&id, way, connect, expect, &names));
                    planned.extend(names.into_iter().map(|name| ((id.clone(), name.to_owned()), followed)));
                }
            }
        }
    }
    planned
}

#[test]
fn what_a_driver_does_not_do_is_skipped_with_its_reason_and_all_else_is_seen_to_be_done() {
    if toolchain().postgres(POSTGRES).is_none() {
        return skipped(&format!("PostgreSQL {POSTGRES} is not installed; `make setup` brings it"));
    }
    let directory = tempfile::tempdir().expect("a directory");
    let planned = write_scenarios(directory.path());
    let args: Vec<&str> = ["run", "--scenarios", "set", "field/*"].into_iter().chain(REPORT).collect();
    let Ran { report, said, .. } = ran(directory.path(), harness(directory.path(), &args));
    let mut wrong = String::new();
    let mut seen = 0;
    for case in &report.cases {
        let driver = case.values.iter().find(|(axis, _)| *axis == "driver").map(|(_, value)| value.clone()).expect("an axis");
        let followed = planned[&(case.scenario.clone(), driver)];
        seen += 1;
        match (&case.outcome, followed) {
            (Outcome::Pass, true) | (Outcome::Skipped(SkipReason::DriverUnable(_)), false) => {}
            (Outcome::Skipped(SkipReason::DriverMissing(reason) | SkipReason::EnvironmentUnable(reason)), _) => skipped(reason),
            (outcome, _) => writeln!(wrong, "{}: followed should be {followed}: {outcome:?}", case.id).expect("written"),
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert_eq!(seen, planned.len(), "{said}");
}

#[test]
fn a_field_without_meaning_for_a_service_is_refused_with_its_place() {
    for service in [Service::Postgres, Service::Redis] {
        for field in fields().iter().filter(|field| ways(service, field).next().is_none()) {
            let directory = tempfile::tempdir().expect("a directory");
            let driver = drivers(service).remove(0);
            let way = Way { service, ..postgres("none", "", SESSION, all) };
            let text = scenario("field/none", &way, &format!("{field}: x"), SESSION, &[&driver]);
            write(directory.path(), "set/field/none.yaml", &text);
            let (code, _, said) = harness_says(directory.path(), &["list", "--scenarios", "set", "field/*"]);
            let name = if service == Service::Postgres { "Redis" } else { "PostgreSQL" };
            let expected = format!("this field is only for a {name} scenario");
            assert!(code == 2 && said.contains("field/none.yaml:") && said.contains(&expected), "{service:?} {field}: {code} {said}");
        }
    }
}
