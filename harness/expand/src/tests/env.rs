//! Variables in `env` that would be overridden, or override what the scenario says elsewhere.

use super::{catalogue, set_of};
use crate::expand;

const CREDENTIALS: &str = "identities:\n  app: {certificate: app}\ntrusts:\n  mtls-ca: {secret: ca}\n";

/// What is said of a connection with these fields, without the directory.
fn said(service: &str, driver: &str, connect: &str) -> Option<String> {
    let postgres = if service == "postgres" { "postgres: [17]\n" } else { "" };
    let scenario = format!(
        "id: a/case\ntitle: A\nclaims: []\nservice: {service}\ndeployment: documented\n{postgres}matrix:\n  driver: [{driver}]\nsteps:\n  \
         - connect: {{{connect}}}\n    expect:\n      - session: {{tls: true}}\n"
    );
    let (directory, set) = set_of(&[("a/case.yaml", &scenario), ("credentials.yaml", CREDENTIALS)]);
    let errors = set.and_then(|set| expand(&set, &catalogue())).err()?;
    let [error] = &errors[..] else { panic!("{errors:?}") };
    Some(error.to_string().replace(&format!("{}/", directory.path().display()), ""))
}

#[test]
fn what_the_harness_sets_or_another_field_says_is_an_error_with_its_place() {
    let postgres = |connect: &str| said("postgres", "nautobot-django", connect);
    for (variable, field, with_field) in [
        ("NAUTOBOT_DB_HOST", "host", "host: db.example.com"),
        ("NAUTOBOT_DB_NAME", "database", "database: other"),
        ("NAUTOBOT_DB_USER", "user", "user: other"),
        ("NAUTOBOT_DB_PASSWORD", "password", "password: right"),
        ("PGHOST", "host", "host: db.example.com"),
        ("PGDATABASE", "database", "database: other"),
        ("PGUSER", "user", "user: other"),
        ("PGPASSWORD", "password", "password: wrong"),
    ] {
        let env = format!("env: {{{variable}: x}}");
        for connect in [env.clone(), format!("{with_field}, {env}")] {
            let said = postgres(&connect).unwrap_or_else(|| panic!("{connect} is accepted"));
            let column = "  - connect: {".len() + connect.find(": x").expect("its value") + 3;
            assert!(said.starts_with(&format!("a/case.yaml:10:{column}: `{variable}` can't stand in `env`")), "{connect}: {said}");
            assert!(said.contains(&format!("write `{field}: ...`")), "{said}");
        }
        assert_eq!(postgres(with_field), None);
    }
    for variable in ["NAUTOBOT_DB_PORT", "PGPORT", "PGHOSTADDR"] {
        let said = postgres(&format!("env: {{{variable}: '1'}}")).unwrap_or_else(|| panic!("{variable} is accepted"));
        assert!(said.contains("which leads the client to its relay"), "{said}");
    }
    assert!(postgres("env: {PGGSSENCMODE: prefer}").expect("an error").contains("gssencmode=disable"));
    for (variable, field, value) in [
        ("PGSSLMODE", "sslmode", "require"),
        ("PGSSLNEGOTIATION", "sslnegotiation", "direct"),
        ("PGSSLMINPROTOCOLVERSION", "min_tls", "TLSv1.2"),
        ("PGSSLMAXPROTOCOLVERSION", "max_tls", "TLSv1.3"),
    ] {
        let env = format!("env: {{{variable}: {value}}}");
        let said = postgres(&format!("{field}: {value}, {env}")).unwrap_or_else(|| panic!("{variable} is accepted"));
        assert!(said.ends_with(&format!("`{variable}` in `env` says what `{field}` says, too: leave one of the two out")), "{said}");
        assert_eq!(postgres(&env), None);
        assert_eq!(postgres(&format!("{field}: unset, {env}")), None);
    }
    let redis = |connect: &str| said("redis", "redis-rs", connect);
    for (variable, words) in [
        ("NAUTOBOT_REDIS_HOST", "write `host: ...`"),
        ("NAUTOBOT_REDIS_PASSWORD", "write `password: ...`"),
        ("NAUTOBOT_REDIS_PORT", "leads the client to its relay"),
    ] {
        let said = redis(&format!("env: {{{variable}: x}}")).unwrap_or_else(|| panic!("{variable} is accepted"));
        assert!(said.contains(words), "{said}");
    }
    // What belongs to the other service is that server's, which this connection has nothing to do with.
    assert_eq!(redis("env: {PGPORT: '1', NAUTOBOT_DB_HOST: x}"), None);
    assert_eq!(postgres("env: {NAUTOBOT_DB_SSLMODE: verify-ca, PGSSLCRL: x, OWN: x}"), None);
}
