//! The texts of errors, a snapshot for each kind of file or part of one: what was written in place of what, and what is said of it.

use std::path::Path;

use super::{catalogue, set_of};
use crate::expand;
use load::LoadError;
use load::images::{ImageFile, ImageSettings, Images, from_variables};

const CLAIMS: &str = "claims:\n  - {id: rule.name, statement: a, document: b.md, section: c, subject: [postgres]}\n";
const CREDENTIALS: &str = "identities:\n  app: {certificate: app}\n  other: {certificate: other}\ntrusts:\n  mtls-ca: {secret: ca}\n";
const STEPS: &str = r#"id: a/case
title: A case
claims: [rule.name]
deployment: documented
postgres: [17]
matrix:
  driver: [rustls]
  identity: [app, other]
server:
  settings: {work_mem: 1MB}
control:
  - connect: {identity: app}
steps:
  - connect: {sslmode: verify-full, identity: "${identity}"}
    expect:
      - when: {identity: app}
        session: {tls: true, user: app}
      - refused: {auth: certificate-user}
        text: certificate authentication failed
"#;
const REDIS: &str = r#"id: a/case
title: A case
claims: [rule.name]
service: redis
deployment: documented
matrix:
  driver: [redis-rs]
server:
  settings: {timeout: 1}
steps:
  - connect: {tls: verify-full}
    expect:
      - session: {tls: true}
"#;
const TIMELINE: &str = r#"id: a/case
title: A timeline
claims: [rule.name]
deployment: documented
postgres: [17]
timeline:
  clients:
    held: {kind: held, connect: {driver: rustls}}
    pool: {kind: pool, max_age: 100ms, connect: {driver: rustls}}
  phases:
    - title: before
      expect:
        - clients: {held: ok, pool: ok}
    - title: after
      do:
        - restart: postgres
      expect:
        - clients: {held: lost, pool: recovers}
  outages:
    - clients: {held: open}
"#;
const DEVIATIONS: &str = r#"deviations:
  - id: it-differs
    cases: ["a/case:*identity=other"]
    observed: {session: {tls: true}}
    refutes: [rule.name]
    summary: differs
    reason: none
    reference: none
    review: 2027-06-30
"#;
const IMAGES: &str = "default: [mine]\nsets:\n  mine:\n    postgres-17: postgres:17\n    redis: [redis:7, redis:8]\n";

/// What stands in a good file, and what a bad one has in its place.
type Edit<'a> = (&'a str, &'a str);

/// Every edit of a file with the errors that it gives.
fn told(file: &str, good: &str, edits: &[Edit<'_>], errors: impl Fn(&str) -> Vec<String>) -> String {
    assert_eq!(errors(good), Vec::<String>::new(), "{file} is good before it is edited");
    let told = edits.iter().map(|(old, new)| {
        assert_eq!(good.matches(old).count(), 1, "{old:?} stands once in {file}");
        let errors = errors(&good.replace(old, new));
        assert!(!errors.is_empty(), "{new:?} in place of {old:?} is an error");
        let lines = |sign: &str, text: &str| text.trim_end().lines().map(|line| format!("{sign} {line}\n")).collect::<String>();
        format!("{}{}{}", lines("-", old), lines("+", new), errors.iter().map(|error| format!("= {error}\n")).collect::<String>())
    });
    told.collect::<Vec<_>>().join("\n")
}

/// The errors of a set in which one file has this text.
fn errors_of_set(file: &str, text: &str) -> Vec<String> {
    let good = [("a/case.yaml", STEPS), ("claims.yaml", CLAIMS), ("credentials.yaml", CREDENTIALS)];
    let others = good.into_iter().filter(|(name, _)| *name != file);
    let files: Vec<(&str, &str)> = others.chain([(file, text)]).collect();
    let (directory, set) = set_of(&files);
    let told = set.and_then(|set| expand(&set, &catalogue())).err().unwrap_or_default();
    told.iter().map(|error: &LoadError| error.to_string().replace(&format!("{}/", directory.path().display()), "")).collect()
}

fn of_set(file: &str, good: &str, edits: &[Edit<'_>]) -> String {
    told(file, good, edits, |text| errors_of_set(file, text))
}

#[test]
fn of_yaml_that_can_not_be_read() {
    let told = of_set(
        "a/case.yaml",
        STEPS,
        &[
            ("title: A case", "title: [A case"),
            ("title: A case", "\ttitle: A case"),
            ("title: A case", "title: A case\ntitle: Again"),
            ("title: A case", "titel: A case"),
            ("title: A case\n", ""),
            ("claims: [rule.name]", "claims: rule.name"),
            ("postgres: [17]", "postgres: [seventeen]"),
            ("tls: true", "tls: maybe"),
            ("text: certificate authentication failed", "server_log: off"),
            ("id: a/case", "apiVersion: v1\nkind: Secret\nid: a/case"),
        ],
    );
    insta::assert_snapshot!(told);
}

#[test]
fn of_a_scenario_and_its_matrix() {
    let told = of_set(
        "a/case.yaml",
        STEPS,
        &[
            ("id: a/case", "id: a/other"),
            ("deployment: documented", "deployment: kind"),
            ("postgres: [17]", "postgres: [9]"),
            ("claims: [rule.name]", "claims: [rule.nam]"),
            ("claims: [rule.name]", "claims: [rule.name, entirely.new]"),
            ("driver: [rustls]", "driver: [rustsl]"),
            ("driver: [rustls]", "driver: [rustls]\n  family: [libpq]"),
            ("identity: [app, other]", "identity: [app, other, app]"),
            ("identity: [app, other]", "identity: [\"app, other\"]"),
            ("identity: [app, other]", "identity: [app, 1.5]"),
            ("identity: [app, other]", "identity: [app, no]"),
            ("when: {identity: app}", "when: {identity: apt}"),
            ("when: {identity: app}", "when: {identity: on}"),
            ("when: {identity: app}", "when: {person: app}"),
            ("when: {identity: app}", "when: {identity: [app, other]}"),
            ("      - refused: {auth: certificate-user}\n        text: certificate authentication failed\n", ""),
        ],
    );
    insta::assert_snapshot!(told);
}

#[test]
fn of_a_step_and_its_expectation() {
    let told = of_set(
        "a/case.yaml",
        STEPS,
        &[
            ("sslmode: verify-full", "sslmode: verify-fully"),
            ("sslmode: verify-full", "sslmode: off"),
            ("sslmode: verify-full", "tls: verify-full"),
            ("sslmode: verify-full", "min_tls: TLSv1.4"),
            ("sslmode: verify-full", "source: pod"),
            ("sslmode: verify-full", "source: gateway"),
            ("sslmode: verify-full", "source: 10.0.0.1"),
            ("sslmode: verify-full", "driver: libpq-16"),
            ("sslmode: verify-full", "trust: mtls-cas"),
            ("sslmode: verify-full", "host: \"${address:pods}\""),
            ("\"${identity}\"", "\"${identities}\""),
            ("\"${identity}\"", "\"${identity\""),
            ("  - connect: {identity: app}", "  - connect: {identity: none}\n    when: {identity: app}"),
            (
                "  - connect: {identity: app}",
                "  - connect: {sslmode: verify-full}\n    when: {identity: other}\n  - connect: {identity: nobody}",
            ),
            ("refused: {auth: certificate-user}", "refused: {auth: certificate-users}"),
            (
                "refused: {auth: certificate-user}\n        text: certificate authentication failed",
                "refused: {unclassified: query}\n        text: \" \"",
            ),
            ("refused: {auth: certificate-user}", "refused: []"),
            ("refused: {auth: certificate-user}", "session: {tls: true}"),
            ("text: certificate authentication failed", "text: from ${range:pod}"),
            ("text: certificate authentication failed", "status: 1"),
            ("session: {tls: true, user: app}", "session: {tls: true, server_certificate: servers}"),
            ("settings: {work_mem: 1MB}", "certificate: servers"),
            ("settings: {work_mem: 1MB}", "client_ca: mtls"),
            ("settings: {work_mem: 1MB}", "crl: revoked"),
            ("settings: {work_mem: 1MB}", "settings: {fsync: off}"),
            ("settings: {work_mem: 1MB}", "pg_hba: [\"host all all ${range:nowhere} cert\"]"),
        ],
    );
    insta::assert_snapshot!(told);
}

#[test]
fn of_a_redis_scenario() {
    let told = of_set(
        "a/case.yaml",
        REDIS,
        &[
            ("tls: verify-full", "tls: off"),
            ("tls: verify-full", "sslmode: verify-full"),
            ("settings: {timeout: 1}", "settings: {tls-auth-clients: No}"),
            ("settings: {timeout: 1}", "pg_hba: []"),
            ("deployment: documented", "deployment: documented\npostgres: [17]"),
        ],
    );
    insta::assert_snapshot!(told);
}

#[test]
fn of_a_timeline() {
    let told = of_set(
        "a/case.yaml",
        TIMELINE,
        &[
            ("held: {kind: held,", "held: {kind: hold,"),
            ("kind: pool, max_age: 100ms,", "kind: pool,"),
            ("max_age: 100ms", "max_age: 100"),
            ("max_age: 100ms", "max_age: -1s"),
            ("max_age: 100ms", "max_age: 100ms, limit: 0"),
            ("kind: held,", "kind: held, max_age: 100ms,"),
            ("max_age: 100ms, connect: {", "max_age: 100ms, connect: {identity: app, "),
            ("max_age: 100ms, connect: {", "max_age: 100ms, connect: {identity: site, "),
            ("max_age: 100ms, connect: {", "max_age: 100ms, connect: {via: gateway, "),
            ("    - title: before\n", "    - title: before\n      do: [reconcile]\n"),
            ("restart: postgres", "restart: redis"),
            ("restart: postgres", "restart: replica"),
            ("restart: postgres", "restart: client"),
            ("restart: postgres", "resume: postgres"),
            ("restart: postgres", "mend: postgres"),
            ("- restart: postgres", "- pause: postgres\n        - pause: postgres"),
            ("- restart: postgres", "- cut: postgres\n        - cut: postgres"),
            ("- restart: postgres", "- pause: postgres\n        - reload: postgres"),
            ("restart: postgres", "reboot: postgres"),
            ("held: lost, pool: recovers", "held: lost"),
            ("held: lost, pool: recovers", "held: lost, pool: lost"),
            ("held: lost, pool: recovers", "held: recovers, pool: recovers"),
            ("held: lost, pool: recovers", "held: lost, pool: {refused: []}"),
            ("held: lost, pool: recovers", "held: lost, pool: {away: {unclassified: query}}"),
            ("clients: {held: open}", "clients: {hold: open}"),
            ("  outages:", "  with: [postgres]\n  outages:"),
        ],
    );
    insta::assert_snapshot!(told);
}

#[test]
fn of_claims() {
    let second = "  - {id: rule.two, statement: a, document: b.md, section: c, subject: [postgres]}\n";
    let twice = format!("{CLAIMS}{}", second.replace("rule.two", "rule.name"));
    let unnamed = format!("{CLAIMS}{second}");
    let told = of_set(
        "claims.yaml",
        CLAIMS,
        &[
            (CLAIMS, &twice),
            (CLAIMS, &unnamed),
            ("subject: [postgres]", "subject: []"),
            ("subject: [postgres]", "subject: [postgresql]"),
            ("subject: [postgres]", "subject: [postgres], awaits: {needs: kind, reason: none}"),
            ("id: rule.name", "id: rule.certificate"),
        ],
    );
    insta::assert_snapshot!(told);
}

#[test]
fn of_deviations() {
    let told = of_set(
        "deviations.yaml",
        DEVIATIONS,
        &[
            ("identity=other", "identity=others"),
            ("identity=other", "identity=[other"),
            ("session: {tls: true}", "when: {identity: app}, session: {tls: true}"),
            ("session: {tls: true}", "stage: query"),
            ("refutes: [rule.name]", "refutes: [rule.names]"),
            ("summary: differs", "deployment: kind\n    summary: differs"),
            ("review: 2027-06-30", "review: next year"),
            (
                "review: 2027-06-30\n",
                "review: 2027-06-30\n  - id: it-differs\n    cases: [\"b/*\"]\n    observed: {session: {tls: true}}\n    refutes: []\n    summary: a\n    reason: b\n    reference: c\n    review: 2027-06-30\n",
            ),
        ],
    );
    insta::assert_snapshot!(told);
}

#[test]
fn of_several_deviations_in_their_order() {
    let deviation = |id: &str, cases: &str, review: &str| {
        let one = DEVIATIONS.strip_prefix("deviations:\n").expect("its first line");
        one.replace("it-differs", id).replace(r#"["a/case:*identity=other"]"#, cases).replace("2027-06-30", review)
    };
    let deviations = [
        deviation("stale", r#"["a/case:*identity=other", "a/case:*identity=none", "a/case:*"]"#, "2027-06-30"),
        deviation("undated", r#"["a/case:*"]"#, "next year"),
        deviation("twin", r#"["b/*", "a/case:*identity=app"]"#, "2027-06-30"),
    ];
    let errors = errors_of_set("deviations.yaml", &format!("deviations:\n{}", deviations.concat()));
    let expected = [
        "deviations.yaml:3:39: deviation `stale` matches no case with this pattern",
        "deviations.yaml:17:13: `next year` is no date such as 2027-06-30",
        "deviations.yaml:19:20: case a/case:deployment=documented,postgres=17,driver=rustls,identity=app has deviation `stale` already",
    ];
    assert_eq!(errors, expected, "one for each, at its own pattern");
}

#[test]
fn of_credentials() {
    let told = of_set(
        "credentials.yaml",
        CREDENTIALS,
        &[
            ("other: {certificate: other}", "other: {certificat: other}"),
            ("other: {certificate: other}", "other: {certificate: other, key_usage: [signing]}"),
            ("other: {certificate: other}", "app: {certificate: other}"),
            ("mtls-ca: {secret: ca}", "mtls-ca: {secrets: ca}"),
            ("mtls-ca: {secret: ca}", "ca: {secret: ca}"),
        ],
    );
    insta::assert_snapshot!(told);
}

#[test]
fn of_images() {
    let errors = |text: &str| {
        let file = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file");
        std::fs::write(file.path(), text).expect("writes");
        let told = ImageFile::load(file.path()).err();
        told.iter().map(|error| error.to_string().replace(&file.path().display().to_string(), "images.yaml")).collect()
    };
    let edits = [
        ("default: [mine]", "default: [others]"),
        ("postgres-17: postgres:17", "postgres: postgres:17"),
        ("postgres-17: postgres:17", "postgres-17: []"),
        ("postgres-17: postgres:17", "postgres-17: https://registry.example/postgres"),
        ("redis: [redis:7, redis:8]", "redis: [redis:7, Redis:8]"),
        ("redis: [redis:7, redis:8]", "redis: 7"),
    ];
    let told = told("images.yaml", IMAGES, &edits, errors);
    insta::assert_snapshot!(told);
}

#[test]
fn of_options_for_images() {
    let variables = |name: &str, value: &str| from_variables([(name.to_owned(), value.to_owned())]);
    let set = ImageSettings { set: Some("mirrors".to_owned()), ..ImageSettings::default() };
    let none = Images::resolve(&ImageSettings::default()).expect("the default images");
    let missing = Path::new("missing/images.yaml");
    let told = [
        variables("MTLS_CONFORMANCE_IMAGE_POSTGRESQL", "postgres:17").expect_err("no use").to_string(),
        variables("MTLS_CONFORMANCE_IMAGE_REDIS", "redis 7").expect_err("no image").to_string(),
        Images::resolve(&set).expect_err("no set").to_string(),
        none.candidates("postgres-9".parse().expect("a use")).expect_err("no image").to_string(),
        ImageFile::load(missing).expect_err("no file").to_string(),
    ]
    .join("\n");
    insta::assert_snapshot!(told);
}
