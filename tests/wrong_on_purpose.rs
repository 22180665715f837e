//! Scenarios made wrong on purpose: each fails, by exactly the witness that was given a wrong expectation, and beside it the same case as
//! it stands in our scenarios passes.

use std::path::Path;

use model::outcome::{Outcome, Witness};
use model::report::{CaseRecord, Report};

use crate::support::{REPORT, Ran, harness, ran, repository, skipped, toolchain, write};

/// One expectation of one scenario, changed.
struct Wrong {
    name: &'static str,
    /// The scenario that it is made from.
    scenario: &'static str,
    from: &'static str,
    to: &'static str,
    /// A case that reaches the row, without scenario, deployment and version.
    case: &'static str,
    mismatches: &'static [(Witness, &'static str)],
}

const WRONG: &[Wrong] = &[
    Wrong {
        name: "class",
        scenario: "postgres/client-certificate",
        from: "- when: {identity: wrong-cn}\n        refused: {auth: certificate-user}",
        to: "- when: {identity: wrong-cn}\n        refused: {auth: hba-reject}",
        case: "driver=rustls,identity=wrong-cn",
        mismatches: &[(Witness::Client, "refused")],
    },
    Wrong {
        name: "session-refused",
        scenario: "postgres/host-name",
        from: "- session: {tls: true, user: app, server_certificate: server}",
        to: "- when: {sslmode: verify-full, host: external}\n        refused: {verify: host-name}\n      - session: {tls: true}",
        case: "driver=rustls,sslmode=verify-full,host=external",
        mismatches: &[(Witness::Client, "outcome")],
    },
    Wrong {
        name: "wire",
        scenario: "postgres/documented-rule",
        from: "wire: [connect, auth-refused]\n",
        to: "wire: [connect, ssl-accepted]\n",
        case: "driver=rustls,sslmode=disable,identity=app,password=none",
        mismatches: &[(Witness::Wire, "wire")],
    },
    Wrong {
        name: "log",
        scenario: "postgres/client-certificate",
        from: "server_log: provided user name (app)",
        to: "server_log: provided user name (somebody)",
        case: "driver=rustls,identity=wrong-cn",
        mismatches: &[(Witness::ServerLog, "server_log")],
    },
    Wrong {
        name: "client-dn",
        scenario: "postgres/client-certificate",
        from: "client_dn: /CN=app,",
        to: "client_dn: /CN=other,",
        case: "driver=rustls,identity=app",
        mismatches: &[(Witness::Server, "client_dn")],
    },
    Wrong {
        name: "user",
        scenario: "postgres/client-certificate",
        from: "user: app, client_dn: /CN=app,",
        to: "user: postgres, client_dn: /CN=app,",
        case: "driver=rustls,identity=app",
        mismatches: &[(Witness::Server, "user")],
    },
    Wrong {
        name: "tls",
        scenario: "postgres/client-certificate",
        from: "session: {tls: true, user: app, client_dn: /CN=app,",
        to: "session: {tls: false, user: app, client_dn: /CN=app,",
        case: "driver=rustls,identity=app",
        mismatches: &[(Witness::Client, "tls"), (Witness::Server, "pg_stat_ssl.ssl")],
    },
    Wrong {
        name: "server-certificate",
        scenario: "postgres/client-certificate",
        from: "client_dn: /CN=app, server_certificate: server}",
        to: "client_dn: /CN=app, server_certificate: redis-server}",
        case: "driver=rustls,identity=app",
        mismatches: &[(Witness::Client, "server_certificate")],
    },
    // The documented text is asserted for clients that speak it.
    Wrong {
        name: "text",
        scenario: "postgres/client-certificate",
        from: "text: connection requires a valid client certificate",
        to: "text: connection requires a client certificate",
        case: "driver=libpq-15,identity=none",
        mismatches: &[(Witness::Client, "text")],
    },
    Wrong {
        name: "redis-class",
        scenario: "redis/client-certificate",
        from: "refused: {alert: certificate-required}",
        to: "refused: {alert: handshake-failure}",
        case: "driver=redis-rs,identity=none,password=right",
        mismatches: &[(Witness::Client, "refused")],
    },
    Wrong {
        name: "redis-server-certificate",
        scenario: "redis/client-certificate",
        from: "session: {tls: true, server_certificate: redis-server}",
        to: "session: {tls: true, server_certificate: server}",
        case: "driver=redis-rs,identity=app,password=right",
        mismatches: &[(Witness::Client, "server_certificate")],
    },
    Wrong {
        name: "setting",
        scenario: "nautobot/sslmode",
        from: "sslrootcert: \"${mount}/ca.crt\"",
        to: "sslrootcert: \"${mount}/tls.crt\"",
        case: "driver=nautobot-django,mode=verify-ca",
        mismatches: &[(Witness::Client, "setting sslrootcert")],
    },
    Wrong {
        name: "setting-that-is-not-set",
        scenario: "nautobot/sslmode",
        from: "settings: {sslmode: require, sslcert: none,",
        to: "settings: {sslmode: none, sslcert: /etc/nautobot/mtls/tls.crt,",
        case: "driver=nautobot-django,mode=require",
        mismatches: &[(Witness::Client, "setting sslcert"), (Witness::Client, "setting sslmode")],
    },
    Wrong {
        name: "configuration",
        scenario: "nautobot/files",
        from: "required by NAUTOBOT_DB_SSLKEY not found",
        to: "required by NAUTOBOT_DB_SSLCERT not found",
        case: "driver=nautobot-django,mode=verify-ca,identity=key-missing,trust=mtls-ca",
        mismatches: &[(Witness::Client, "text")],
    },
    Wrong {
        name: "redis-setting",
        scenario: "nautobot/broker-without-options",
        from: "settings: {scheme: rediss, ssl_cert_reqs: none}",
        to: "settings: {scheme: redis, ssl_cert_reqs: required}",
        case: "driver=nautobot-kombu",
        mismatches: &[(Witness::Client, "setting scheme"), (Witness::Client, "setting ssl_cert_reqs")],
    },
    Wrong {
        name: "site",
        scenario: "site/filter",
        from: "refused: {file: key-unusable}",
        to: "refused: {file: key-missing}",
        case: "driver=libpq-15,site=site-pkcs8",
        mismatches: &[(Witness::Client, "refused")],
    },
    Wrong {
        name: "output",
        scenario: "openssl/issued-certificates",
        from: "- output: [",
        to: "- output: [\"what openssl never prints\", ",
        case: "",
        mismatches: &[(Witness::Command, "output")],
    },
];

impl Wrong {
    fn id(&self) -> String {
        format!("wrong/{}", self.name)
    }

    /// The scenario's text with its new id and the change.
    fn text(&self) -> String {
        let file = repository().join("scenarios").join(self.scenario).with_extension("yaml");
        let text = std::fs::read_to_string(&file).expect("readable");
        assert!(text.contains(self.from), "{} no longer holds {:?}: change another expectation", file.display(), self.from);
        text.replacen(self.from, self.to, 1).replacen(&format!("id: {}\n", self.scenario), &format!("id: {}\n", self.id()), 1)
    }

    /// Whether an id is that of the case, of our scenario or of the wrong one.
    fn is_meant(&self, scenario: &str, case: &str) -> bool {
        case.strip_prefix(scenario).is_some_and(|values| values.starts_with(":deployment=documented") && values.ends_with(self.case))
    }

    fn glob(&self, scenario: &str) -> String {
        format!("{scenario}:deployment=documented*{}", self.case)
    }
}

/// A version that the scenarios above are for, oldest first: all of them are for 15.
const VERSIONS: [u16; 2] = [15, 17];

/// The PostgreSQL to run on, for `--postgres`; `None` where none of these is installed.
fn version() -> Option<String> {
    let toolchain = toolchain();
    let version = VERSIONS.into_iter().find(|major| toolchain.postgres(*major).is_some());
    if version.is_none() {
        skipped(&format!("none of PostgreSQL {VERSIONS:?} is installed; `make setup` brings them"));
    }
    version.map(|major| major.to_string())
}

/// Runs these cases of our scenarios and those in `directory`; exit code, report and standard error.
fn run(directory: &Path, cases: &[String], version: &str) -> (i32, Report, String) {
    let mut args = vec!["run", "--scenarios", "set", "--postgres", version];
    args.extend(REPORT.into_iter().chain(cases.iter().map(String::as_str)));
    let Ran { code, report, said } = ran(directory, harness(directory, &args));
    (code, report, said)
}

fn did_run(record: &CaseRecord) -> bool {
    !matches!(record.outcome, Outcome::Skipped(_))
}

#[test]
fn each_wrong_expectation_fails_by_its_own_witness_and_the_right_one_passes() {
    let Some(version) = version() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    for wrong in WRONG {
        write(directory.path(), &format!("set/{}.yaml", wrong.id()), &wrong.text());
    }
    let cases: Vec<String> = WRONG.iter().flat_map(|wrong| [wrong.glob(wrong.scenario), wrong.glob(&wrong.id())]).collect();
    let (code, report, said) = run(directory.path(), &cases, &version);
    assert_eq!(code, 1, "{said}");
    let mut failed = 0;
    for wrong in WRONG {
        let of = |scenario: &str| report.cases.iter().find(|record| wrong.is_meant(scenario, &record.id) && did_run(record));
        let (right, changed) = match (of(wrong.scenario), of(&wrong.id())) {
            (Some(right), Some(changed)) => (right, changed),
            (None, None) => {
                skipped(&format!("{} is not for PostgreSQL {version}, or something is not installed", wrong.name));
                continue;
            }
            (right, changed) => panic!("{}: {right:?} {changed:?}", wrong.name),
        };
        assert_eq!(right.outcome, Outcome::Pass, "{}", right.id);
        let Outcome::Fail(mismatches) = &changed.outcome else { panic!("{}: {:?}", changed.id, changed.outcome) };
        let seen: Vec<(Witness, &str)> = mismatches.iter().map(|mismatch| (mismatch.witness, mismatch.what.as_str())).collect();
        assert_eq!(seen, wrong.mismatches, "{}", changed.id);
        assert!(said.contains(&format!("FAIL {}", changed.id)), "{} is told\n{said}", changed.id);
        failed += 1;
    }
    assert!(failed >= 7, "only {failed} could be tried\n{said}");
}

/// The scenario below with its deviation: `dn` is what the case expects, `observed` what the deviation says is seen, reviewed by `review`.
fn with_deviation(dn: &str, observed: &str, review: &str) -> Option<(i32, Report, String)> {
    let version = version()?;
    let directory = tempfile::tempdir().expect("a directory");
    let scenario = format!(
        "id: deviant/dn\ntitle: A client\nclaims: [postgres.cn-is-user]\ndeployment: documented\nmatrix: {{driver: [rustls]}}\nsteps:\n  \
         - connect: {{sslmode: verify-full}}\n    expect:\n      - session: {{tls: true, client_dn: {dn}}}\n"
    );
    write(directory.path(), "set/deviant/dn.yaml", &scenario);
    let deviation = format!(
        "deviations:\n  - id: another-dn\n    cases: [\"deviant/dn:*\"]\n    observed: {{session: {{tls: true, client_dn: {observed}}}}}\n    \
         refutes: [postgres.cn-is-user]\n    summary: another DN\n    reason: made for a test\n    reference: none\n    review: {review}\n"
    );
    write(directory.path(), "set/deviations.yaml", &deviation);
    Some(run(directory.path(), &["deviant/dn".to_owned()], &version))
}

#[test]
fn a_deviation_seen_as_described_and_looked_at_in_time_is_conformant() {
    let Some((code, report, said)) = with_deviation("/CN=other", "/CN=app", "2999-01-01") else { return };
    assert_eq!((code, &report.problems[..]), (0, &[][..]), "{said}");
    assert_eq!(report.cases[0].outcome, Outcome::Deviates { deviation: "another-dn".to_owned() });
}

#[test]
fn a_deviation_that_nobody_has_looked_at_in_time_fails_the_run() {
    let Some((code, report, said)) = with_deviation("/CN=other", "/CN=app", "2020-01-01") else { return };
    assert_eq!(code, 1, "{said}");
    assert_eq!(report.cases[0].outcome, Outcome::Deviates { deviation: "another-dn".to_owned() });
    let problem = "set/deviations.yaml:9:13: deviation `another-dn` was to be reviewed by 2020-01-01";
    assert_eq!(report.problems, [problem]);
    assert!(said.contains(problem), "{said}");
}

#[test]
fn a_deviation_that_passes_fails_the_run() {
    let Some((code, report, said)) = with_deviation("/CN=app", "/CN=other", "2999-01-01") else { return };
    assert_eq!(code, 1, "{said}");
    assert_eq!(report.cases[0].outcome, Outcome::UnexpectedPass { deviation: "another-dn".to_owned() });
}

#[test]
fn a_deviation_that_is_seen_differently_fails_by_the_expectation_of_the_scenario() {
    let Some((code, report, said)) = with_deviation("/CN=other", "/CN=third", "2999-01-01") else { return };
    assert_eq!(code, 1, "{said}");
    let Outcome::Fail(mismatches) = &report.cases[0].outcome else { panic!("{:?}", report.cases[0].outcome) };
    let seen: Vec<_> = mismatches.iter().map(|mismatch| (mismatch.witness, &*mismatch.expected, &*mismatch.observed)).collect();
    assert_eq!(seen, [(Witness::Server, "/CN=other", "/CN=app")]);
}
