//! Gateways that are no passthrough, made on purpose: a real HAProxy that ends TLS. The scenarios of `gateway.end-to-end` must tell.
//!
//! Everything goes through the binary. `haproxy` is a script on the `PATH` that changes the configuration and runs the real one with it.

use std::os::unix::fs::PermissionsExt as _;

use model::outcome::{ErrorKind, Outcome, Witness};
use model::report::{CaseRecord, Report};

use crate::support::{REPORT, Ran, harness, ran, skipped, toolchain};

/// A folder with a `haproxy` of its own, the harness working in it, and a PostgreSQL that takes direct negotiation.
struct Gateway {
    directory: tempfile::TempDir,
    version: String,
}

/// Makes the `haproxy.cfg` of one that ends TLS with the certificate and key in `$pem` and begins it anew towards the server.
const ENDS_TLS: &str = r#"sed -e "s|^\( *bind .*\)|\1 ssl crt $pem alpn postgresql|" -e '/req.ssl_hello_type/d' -e 's/req\.ssl_sni/ssl_fc_sni/' \
  -e 's|^\( *server .*\)|\1 ssl verify none alpn postgresql|' "$cfg" > "$own/haproxy.cfg"
"#;

impl Gateway {
    /// `script` is what `haproxy -db -f "$cfg"` does: `$own` is a folder that it may write to, `$run` the run's folder, `REAL` the real one,
    /// `VERSION` that of PostgreSQL.
    fn new(script: &str) -> Option<Self> {
        let toolchain = toolchain();
        let Some(real) = &toolchain.haproxy else {
            skipped("HAProxy is not installed; `make setup` brings it");
            return None;
        };
        let Some(version) = [17, 18].into_iter().find(|major| toolchain.postgres(*major).is_some()) else {
            skipped("no PostgreSQL of 17 or later is installed; `make setup` brings it");
            return None;
        };
        let directory = tempfile::tempdir().expect("a directory");
        let own = directory.path().join("own");
        std::fs::create_dir_all(directory.path().join("bin")).expect("makes");
        std::fs::create_dir(&own).expect("makes");
        // The gateway runs as another user.
        for (folder, mode) in [(directory.path(), 0o755), (&own, 0o777)] {
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode)).expect("chmod");
        }
        let real = real.path.display().to_string();
        let text = format!(
            "#!/bin/sh\ncase \"$1\" in -v) exec {real} -v;; esac\nfor cfg; do :; done\nown={}\nrun=${{cfg%/*/haproxy.cfg}}\nset -e\n# Of the run before, which had another user.\nrm -f \"$own\"/*\n{}\n",
            own.display(),
            script.replace("REAL", &real).replace("VERSION", &version.to_string())
        );
        let program = directory.path().join("bin/haproxy");
        std::fs::write(&program, text).expect("writes");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        Some(Self { directory, version: version.to_string() })
    }

    /// One that ends TLS; `pem` makes the file that it presents.
    fn that_ends_tls(pem: &str) -> Option<Self> {
        Self::new(&format!("pem=$own/gateway.pem\n{pem}\n{ENDS_TLS}exec REAL -db -f \"$own/haproxy.cfg\""))
    }

    /// Runs cases of our scenarios and of those written to `set`; exit code and report.
    fn run(&self, case: &str) -> (i32, Report) {
        let directory = self.directory.path();
        let path = format!("{}:{}", directory.join("bin").display(), std::env::var("PATH").unwrap_or_default());
        let mut args = vec!["run", case, "--postgres", &self.version, "--driver", "rustls,libpq-17", "--start-timeout", "5"];
        args.extend(REPORT);
        if directory.join("set").exists() {
            args.extend(["--scenarios", "set"]);
        }
        let mut command = harness(directory, &args);
        command.env("PATH", path);
        let Ran { code, report, said } = ran(directory, command);
        assert!(!report.cases.is_empty(), "{said}");
        (code, report)
    }
}

/// The witnesses that a failed case fails by.
fn mismatches(case: &CaseRecord) -> Vec<(Witness, &str)> {
    let Outcome::Fail(mismatches) = &case.outcome else { panic!("{}: {:?}", case.id, case.outcome) };
    mismatches.iter().map(|mismatch| (mismatch.witness, mismatch.what.as_str())).collect()
}

fn verdict<'a>(report: &'a Report, claim: &str) -> &'a str {
    let record = report.claims.iter().find(|record| record.id == claim).expect("a claim");
    check::ledger::name(record.verdict)
}

/// A self-signed certificate for the route's name.
const SELF_SIGNED: &str = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -keyout \"$own/key\" -out \"$own/crt\" -subj /CN=gateway \
    -addext subjectAltName=DNS:nautobot-db.dc.example.com 2> /dev/null\ncat \"$own/crt\" \"$own/key\" > \"$pem\"";

#[test]
fn a_gateway_that_ends_tls_with_the_servers_own_key_is_told_by_the_server_that_sees_no_client_certificate() {
    let stolen = "(cd \"$run/postgres-VERSION-documented/certificates\" && cat server.crt server.key) > \"$pem\"";
    let Some(gateway) = Gateway::that_ends_tls(stolen) else { return };
    let (code, report) = gateway.run("gateway/end-to-end:*sslmode=verify-full,identity=app");
    assert_eq!(code, 1);
    for case in &report.cases {
        let Outcome::Fail(mismatches) = &case.outcome else { panic!("{}: {:?}", case.id, case.outcome) };
        assert!(mismatches.iter().any(|mismatch| mismatch.observed.contains("client-certificate-required")), "{mismatches:?}");
    }
    assert_eq!(verdict(&report, "gateway.end-to-end"), "refuted");
}

#[test]
fn a_gateway_that_ends_tls_with_a_certificate_of_its_own_is_refused_by_clients_that_verify() {
    let Some(gateway) = Gateway::that_ends_tls(SELF_SIGNED) else { return };
    let (code, report) = gateway.run("gateway/end-to-end:*sslmode=verify-ca,identity=app");
    assert_eq!(code, 1);
    for case in &report.cases {
        let Outcome::Fail(mismatches) = &case.outcome else { panic!("{}: {:?}", case.id, case.outcome) };
        assert!(mismatches.iter().any(|mismatch| mismatch.observed.contains("verify:")), "{mismatches:?}");
    }
}

#[test]
fn a_gateway_that_ends_tls_is_told_by_the_certificate_that_clients_are_shown_where_nobody_verifies() {
    let Some(gateway) = Gateway::that_ends_tls(SELF_SIGNED) else { return };
    let folder = gateway.directory.path().join("set/trusting");
    std::fs::create_dir_all(&folder).expect("makes");
    let scenario = "id: trusting/gateway\ntitle: Nobody looks\nclaims: [gateway.end-to-end]\ndeployment: documented\npostgres: [17, 18]\n\
        matrix: {driver: [rustls, libpq-17]}\nserver: {pg_hba: [hostssl all all all trust]}\nsteps:\n  - connect: {via: gateway, sslmode: \
        require, trust: none, identity: none, sslnegotiation: direct}\n    expect:\n      - session: {tls: true, user: app, \
        server_certificate: server}\n";
    std::fs::write(folder.join("gateway.yaml"), scenario).expect("writes");
    let (code, report) = gateway.run("trusting/gateway");
    assert_eq!(code, 1);
    // libpq gives nobody the certificate that it was shown.
    let rustls = report.cases.iter().find(|case| case.id.ends_with("driver=rustls")).expect("a case");
    assert_eq!(mismatches(rustls), [(Witness::Client, "server_certificate")], "{:?}", rustls.outcome);
}

#[test]
fn the_same_cases_pass_where_the_script_changes_nothing() {
    let Some(gateway) = Gateway::new("exec REAL -db -f \"$cfg\"") else { return };
    let (code, report) = gateway.run("gateway/end-to-end:*identity=app");
    assert_eq!(code, 0);
    assert!(report.cases.iter().any(|case| case.outcome == Outcome::Pass));
    assert_eq!(verdict(&report, "gateway.end-to-end"), "confirmed");
}

#[test]
fn a_gateway_that_ends_early_is_an_error_of_the_cases_that_need_it_with_its_last_words_and_its_log() {
    let Some(gateway) = Gateway::new("echo 'out of sockets' >&2; exit 3") else { return };
    let (code, report) = gateway.run("gateway/addresses");
    assert_eq!(code, 3);
    // Straight to the server, with a control that goes there too.
    let (straight, through): (Vec<_>, Vec<_>) = report.cases.iter().partition(|case| case.id.ends_with("via=server,rule=sites"));
    assert!(!straight.is_empty() && straight.iter().all(|case| case.outcome == Outcome::Pass));
    for case in through {
        let Outcome::Errored { kind: ErrorKind::Start, text: message } = &case.outcome else { panic!("{}: {:?}", case.id, case.outcome) };
        assert!(message.contains("ended early with exit status: 3") && message.contains("out of sockets"), "{message}");
        let (_, log) = message.rsplit_once("its log: ").expect("a log is named");
        let log = std::fs::read_to_string(gateway.directory.path().join(log)).expect("it is there after the run");
        assert!(log.contains("out of sockets"), "{log}");
    }
    assert_eq!(verdict(&report, "gateway.end-to-end"), "not-exercised");
}

#[test]
fn a_case_that_fails_behind_a_gateway_keeps_the_gateways_log() {
    let Some(gateway) = Gateway::that_ends_tls(SELF_SIGNED) else { return };
    let (_, report) = gateway.run("gateway/end-to-end:*driver=rustls,sslmode=verify-ca,identity=app");
    let evidence = report.cases[0].evidence.as_deref().expect("evidence");
    let log = std::fs::read_to_string(gateway.directory.path().join(evidence).join("gateway.log")).expect("the gateway's log");
    assert!(log.contains("nautobot-db/1: SSL handshake failure"), "{log}");
}

#[test]
fn a_gateway_that_lets_everything_through_is_told_by_the_scenarios_of_routing() {
    let routes_all =
        "sed -e '/content reject/d' -e 's/ if routed$//' \"$cfg\" > \"$own/haproxy.cfg\"\nexec REAL -db -f \"$own/haproxy.cfg\"";
    let Some(gateway) = Gateway::new(routes_all) else { return };
    let (code, report) = gateway.run("gateway/host-names:*driver=rustls,host=inside,sslmode=verify-full");
    assert_eq!(code, 1);
    assert_eq!(mismatches(&report.cases[0]), [(Witness::Client, "outcome"), (Witness::Wire, "wire")]);
    // The deviation says that nothing gets through without direct negotiation: here it does.
    let (code, report) = gateway.run("gateway/negotiation:*driver=libpq-17,sslnegotiation=unset");
    assert_eq!(code, 1);
    let id = "gateway-needs-direct-negotiation".to_owned();
    assert_eq!(report.cases[0].outcome, Outcome::UnexpectedPass { deviation: id });
}

#[test]
fn timelines_with_a_gateway_are_skipped_where_there_is_no_haproxy() {
    if toolchain().redis.is_none() {
        skipped("no Redis is installed; `make setup` brings it");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let program = directory.path().join("bin/haproxy");
    std::fs::create_dir(directory.path().join("bin")).expect("makes");
    std::fs::write(&program, "#!/bin/sh\nexit 1\n").expect("writes");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let args: Vec<&str> = ["run", "gateway/restart-redis", "--driver", "redis-rs"].into_iter().chain(REPORT).collect();
    let mut command = harness(directory.path(), &args);
    command.env("PATH", format!("{}:{}", directory.path().join("bin").display(), std::env::var("PATH").unwrap_or_default()));
    let Ran { report, said, .. } = ran(directory.path(), command);
    assert!(!report.cases.is_empty(), "{said}");
    for case in report.cases {
        let Outcome::Skipped(reason) = &case.outcome else { panic!("{}: {:?}", case.id, case.outcome) };
        assert!(reason.to_string().contains("HAProxy is not installed"), "{reason}");
    }
}
