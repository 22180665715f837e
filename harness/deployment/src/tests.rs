use std::path::{Path, PathBuf};

use super::*;
use load::yaml;
use model::network::Networks;
use model::server::{Application, DeploymentKind, ServerConfig, Service};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn shipped() -> Manifests {
    Manifests::load(&repository().join("kind/deployment")).expect("the shipped manifests are valid")
}

#[test]
fn every_bad_manifest_gives_the_error_that_its_first_line_expects() {
    let directory = repository().join("tests/bad/manifests");
    let mut files: Vec<_> = std::fs::read_dir(&directory).expect("the folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(!files.is_empty());
    let mut wrong = Vec::new();
    for file in files {
        let name = PathBuf::from(file.file_name().expect("a name"));
        let text = yaml::read(&file).expect("readable");
        let expected = text.lines().next().and_then(|line| line.strip_prefix("# expect: ")).unwrap_or_default().to_owned();
        match Manifests::from_texts(Path::new("DIR"), vec![(name.clone(), text)]) {
            Ok(_) => wrong.push(format!("{}: was accepted", name.display())),
            Err(error) => {
                let shown = error.to_string();
                assert_eq!(shown.lines().count(), 1, "{shown}");
                if shown != expected {
                    wrong.push(format!("{}\n  expected {expected}\n  got      {shown}", name.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_shipped_manifests_hold_the_documented_resources() {
    let manifests = shipped();
    let names: Vec<_> = manifests.certificates.iter().map(|certificate| certificate.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "mtls-ca",
            "mtls-ca-cert",
            "nautobot-cluster-server-tls",
            "nautobot-redis-server-tls",
            "nautobot-cluster-replication",
            "nautobot-mtls-client",
            "nautobot-mtls-client-site-dc",
        ]
    );
    assert_eq!(manifests.issuers.iter().map(|issuer| issuer.name.as_str()).collect::<Vec<_>>(), ["mtls-selfsigned", "mtls-ca-issuer"]);
    let cluster = manifests.cluster.as_ref().expect("a Cluster");
    assert_eq!(cluster.postgresql.pg_hba, ["hostssl all all 0.0.0.0/0 cert"]);
    assert_eq!((cluster.initdb.database(), cluster.initdb.owner()), ("app", "app"));
    assert_eq!(
        manifests.postgres(),
        Some(ServiceDefaults {
            server_certificate: "nautobot-cluster-server-tls".to_owned(),
            server_secret: "nautobot-cluster-server-tls".to_owned(),
            client_ca_secret: "mtls-ca-cert".to_owned(),
            host: "nautobot-cluster-rw.nautobot.svc".to_owned(),
        })
    );
    assert_eq!(
        manifests.redis_defaults(),
        Some(ServiceDefaults {
            server_certificate: "nautobot-redis-server-tls".to_owned(),
            server_secret: "nautobot-redis-server-tls".to_owned(),
            client_ca_secret: "mtls-ca-cert".to_owned(),
            host: "nautobot-redis-master.nautobot.svc".to_owned(),
        })
    );
}

#[test]
fn the_shipped_routes_lead_through_the_documented_ports_to_names_that_the_servers_certificates_hold() {
    let manifests = shipped();
    for (service, host, port) in
        [(Service::Postgres, "nautobot-db.dc.example.com", 5432), (Service::Redis, "nautobot-redis.dc.example.com", 6379)]
    {
        let route = manifests.route(service).expect("a route");
        assert_eq!((&route.hosts[..], route.port), (&[host.to_owned()][..], port));
        let server = if service == Service::Postgres { manifests.postgres() } else { manifests.redis_defaults() };
        let certificate = manifests.certificate(&server.expect("a server").server_certificate).expect("a Certificate");
        assert!(certificate.spec.dns_names.contains(&host.to_owned()), "{:?}", certificate.spec.dns_names);
    }
}

#[test]
fn the_application_has_the_clusters_names() {
    assert_eq!(shipped().application(), Application { user: "app".to_owned(), database: "app".to_owned() });
    let named = |initdb: &str| {
        let texts = ["10-certificate-authority", "20-server-certificates", "30-client-certificates", "40-postgres"].map(|file| {
            let name = PathBuf::from(file);
            let text = yaml::read(&repository().join(format!("kind/deployment/{file}.yaml"))).expect("readable");
            (name, text.replace("database: app\n      owner: app", initdb))
        });
        Manifests::from_texts(Path::new("DIR"), texts.to_vec()).expect("valid").application()
    };
    let expected = |user: &str, database: &str| Application { user: user.to_owned(), database: database.to_owned() };
    assert_eq!(named("database: orders\n      owner: shop"), expected("shop", "orders"));
    assert_eq!(named("database: orders"), expected("orders", "orders"), "CloudNativePG names the owner after the database");
}

#[test]
fn the_secret_of_the_ca_has_the_label_that_cloudnativepg_looks_for() {
    let manifests = shipped();
    let template =
        manifests.certificate("mtls-ca-cert").and_then(|certificate| certificate.spec.secret_template.clone()).expect("a template");
    assert_eq!(template.labels.get("cnpg.io/reload").map(String::as_str), Some("true"));
}

fn places() -> postgres::PostgresPlaces<'static> {
    static NETWORKS: Networks = Networks(std::collections::BTreeMap::new());
    postgres::PostgresPlaces {
        port: 5433,
        listen_addresses: "127.0.0.1,::1",
        socket_directory: Path::new("/run/it's"),
        certificates: Path::new("/certs"),
        hba_file: Path::new("/etc/pg_hba.conf"),
        ident_file: Path::new("/etc/pg_ident.conf"),
        log_directory: Path::new("/log"),
        system_user: "postgres",
        networks: &NETWORKS,
    }
}

fn setting<'a>(conf: &'a str, name: &str) -> Option<&'a str> {
    let mut values = conf.lines().filter_map(|line| line.split_once(" = ")).filter(|(key, _)| *key == name).map(|(_, value)| value);
    let value = values.next();
    assert!(values.next().is_none(), "{name} is set twice");
    value
}

#[test]
fn the_documented_deployment_has_the_documented_line_and_nothing_else() {
    let files =
        postgres::render(&shipped(), DeploymentKind::Documented, 17, &ServerConfig::default(), &places(), 1).expect("it names no network");
    assert_eq!(files.pg_hba_conf, "hostssl all all 0.0.0.0/0 cert\n");
    assert_eq!(files.pg_ident_conf, "");
    assert_eq!(setting(&files.postgresql_conf, "ssl_min_protocol_version"), None);
    assert_eq!(setting(&files.postgresql_conf, "ssl_ca_file"), Some("'/certs/client-ca.crt'"));
    assert_eq!(setting(&files.postgresql_conf, "unix_socket_directories"), Some("'/run/it''s'"));
    assert_eq!(setting(&files.postgresql_conf, "trace_connection_negotiation"), Some("'on'"));
}

#[test]
fn the_cnpg_deployment_has_cloudnativepgs_lines_around_the_users() {
    let files =
        postgres::render(&shipped(), DeploymentKind::Cnpg, 16, &ServerConfig::default(), &places(), 1).expect("it names no network");
    let lines: Vec<_> = files.pg_hba_conf.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(
        lines,
        [
            "local all cnpg_metrics_exporter peer map=cnpg_metrics_exporter",
            "local all all peer map=local",
            "hostssl postgres streaming_replica all cert map=cnpg_streaming_replica",
            "hostssl replication streaming_replica all cert map=cnpg_streaming_replica",
            "hostssl all cnpg_pooler_pgbouncer all cert map=cnpg_pooler_pgbouncer",
            "hostssl all all 0.0.0.0/0 cert",
            "host all all all scram-sha-256",
        ]
    );
    assert!(files.pg_ident_conf.contains("\nlocal postgres postgres\n"), "{}", files.pg_ident_conf);
    assert_eq!(setting(&files.postgresql_conf, "ssl_min_protocol_version"), Some("'TLSv1.3'"));
    assert_eq!(setting(&files.postgresql_conf, "ssl_max_protocol_version"), Some("'TLSv1.3'"));
    assert_eq!(setting(&files.postgresql_conf, "trace_connection_negotiation"), None);
}

#[test]
fn a_replica_connects_as_cloudnativepg_has_it_by_its_own_certificate() {
    let places = postgres::ReplicaPlaces {
        host: "nautobot-cluster-rw",
        address: "127.0.0.1:20000".parse().expect("an address"),
        certificates: Path::new("/it's"),
        application_name: "nautobot-cluster-2",
    };
    let text = postgres::override_conf(&places);
    let conninfo = setting(&text, "primary_conninfo").expect("it is set");
    // Quoted for the connection string, then for the file.
    let expected = r"'host=''nautobot-cluster-rw'' hostaddr=''127.0.0.1'' user=''streaming_replica'' port=''20000'' sslkey=''/it\\''s/streaming_replica.key'' sslcert=''/it\\''s/streaming_replica.crt'' sslrootcert=''/it\\''s/server-ca.crt'' application_name=''nautobot-cluster-2'' sslmode=''verify-ca'''";
    assert_eq!(conninfo, expected);
}

#[test]
fn a_scenarios_changes_replace_the_deployments() {
    let config = ServerConfig {
        pg_hba: Some(vec!["host all all 10.0.0.0/8 scram-sha-256".to_owned(), "hostssl all all all cert".to_owned()]),
        settings: [("ssl_min_protocol_version".to_owned(), "TLSv1.2".to_owned()), ("ssl_ciphers".to_owned(), "a'b\\c".to_owned())].into(),
        certificate: None,
        client_ca: Some("none".to_owned()),
        crl: Some("revoked".to_owned()),
    };
    let files = postgres::render(&shipped(), DeploymentKind::Cnpg, 17, &config, &places(), 7).expect("it names no network");
    assert!(
        files.pg_hba_conf.contains("RULES\nhost all all 10.0.0.0/8 scram-sha-256\nhostssl all all all cert\n# DEFAULT"),
        "{}",
        files.pg_hba_conf
    );
    assert!(!files.pg_hba_conf.contains("0.0.0.0/0"));
    let conf = &files.postgresql_conf;
    assert_eq!(setting(conf, "ssl_min_protocol_version"), Some("'TLSv1.2'"));
    assert_eq!(setting(conf, "ssl_ciphers"), Some("'a''b\\\\c'"));
    assert_eq!(setting(conf, "ssl_ca_file"), Some("''"));
    assert_eq!(setting(conf, "ssl_crl_file"), Some("'/certs/client.crl'"));
    assert_eq!(setting(conf, postgres::GENERATION), Some("'7'"));
}

fn redis_places() -> redis_conf::RedisPlaces<'static> {
    redis_conf::RedisPlaces {
        tls_port: 6380,
        plaintext_port: 6381,
        bind: "127.0.0.1 ::1",
        directory: Path::new("/data"),
        certificates: Path::new("/certs"),
        log_file: Path::new("/log/redis.log"),
        password_file: Some(Path::new("/secret/password.conf")),
    }
}

#[test]
fn redis_keeps_its_own_lines_and_gets_local_places() {
    let conf = redis_conf::render(&shipped(), &ServerConfig::default(), &redis_places()).expect("there is a Redis");
    assert_eq!(
        conf.lines().collect::<Vec<_>>(),
        [
            "tls-auth-clients yes",
            "tls-port 6380",
            "port 0",
            "bind 127.0.0.1 ::1",
            "dir \"/data\"",
            "tls-cert-file \"/certs/tls.crt\"",
            "tls-key-file \"/certs/tls.key\"",
            "logfile \"/log/redis.log\"",
            "loglevel verbose",
            "daemonize no",
            "save \"\"",
            "appendonly no",
            "tls-ca-cert-file \"/certs/ca.crt\"",
            "include \"/secret/password.conf\"",
        ]
    );
}

#[test]
fn redis_settings_of_a_scenario_replace_lines_and_postgresqls_are_refused() {
    let mut config = ServerConfig { settings: [("tls-auth-clients".to_owned(), "no".to_owned())].into(), ..ServerConfig::default() };
    let conf = redis_conf::render(&shipped(), &config, &redis_places()).expect("there is a Redis");
    assert!(conf.contains("tls-auth-clients no\n") && !conf.contains("tls-auth-clients yes"), "{conf}");
    config.pg_hba = Some(Vec::new());
    assert_eq!(redis_conf::render(&shipped(), &config, &redis_places()), Err(redis_conf::RedisConfigError::NotForRedis("pg_hba")));
}

/// The shipped manifests with other lines of `redis.conf` in place of one, and what comes of them.
fn with_lines(line: &str, others: &str) -> Result<Manifests, load::LoadError> {
    let texts = ["10-certificate-authority", "20-server-certificates", "30-client-certificates", "50-redis"].map(|file| {
        let text = yaml::read(&repository().join(format!("kind/deployment/{file}.yaml"))).expect("readable");
        (PathBuf::from(format!("{file}.yaml")), text.replace(line, others))
    });
    Manifests::from_texts(Path::new("DIR"), texts.to_vec())
}

#[test]
fn a_port_without_tls_is_opened_where_the_manifests_or_a_scenario_open_one_or_say_nothing() {
    let port = |manifests: &Manifests, setting: Option<&str>| {
        let settings = setting.map(|value| ("port".to_owned(), value.to_owned())).into_iter().collect();
        let config = ServerConfig { settings, ..ServerConfig::default() };
        let conf = redis_conf::render(manifests, &config, &redis_places()).expect("there is a Redis");
        assert_eq!(conf.lines().filter(|line| line.starts_with("port ")).count(), 1, "{conf}");
        redis_conf::plaintext_port(&conf)
    };
    for (line, others, opened) in [
        ("    port 0\n", "    port 0\n", None),
        ("    port 0\n", "    port 6379\n", Some(6381)),
        ("    port 0\n", "    port 0\n    PORT \"7000\"\n", Some(6381)),
        // Redis' own default is 6379.
        ("    port 0\n", "", Some(6381)),
    ] {
        assert_eq!(port(&with_lines(line, others).expect("valid"), None), opened, "{others}");
    }
    assert_eq!(port(&shipped(), Some("6379")), Some(6381));
    assert_eq!(port(&with_lines("port 0", "port 6379").expect("valid"), Some("0")), None);
}

#[test]
fn every_line_that_can_not_be_followed_is_an_error_at_its_place() {
    for (line, why) in [
        ("aclfile /etc/redis/users.acl", "clients here are the default user"),
        ("user app on nopass ~* +@all", "clients here are the default user"),
        ("tls-auth-clients-user CN", "clients here are the default user"),
        ("include /etc/redis/more.conf", "write its lines here"),
        ("loadmodule /m.so", "modules of your image"),
        ("loadmodule-ex /m.so", "modules of your image"),
        ("replicaof primary 6379", "one Redis alone"),
        ("slaveof primary 6379", "one Redis alone"),
        ("cluster-enabled yes", "one Redis alone"),
        ("sentinel monitor a b 1 1", "no Sentinel"),
        ("tls-ca-cert-dir /etc/ssl/certs", "tls-ca-cert-file"),
        ("tls-dh-params-file /dh.pem", "the file is not there"),
        ("tls-key-file-pass secret", "have no password"),
        ("unixsocket /run/redis.sock", "needs neither TLS nor a certificate"),
        ("bind 127.0.0.1", "only some addresses of the pod"),
        ("requirepass \"\"", "everybody with a certificate gets in"),
        ("port x", "`x` is no port"),
        ("tls-port 0", "`0` opens no port"),
        ("\"port\" 6379", "without quotes"),
    ] {
        let error = with_lines("    save \"\"\n", &format!("    # more\n    {line}\n")).expect_err(line).to_string();
        let name = line.split(' ').next().unwrap_or_default();
        assert!(error.starts_with(&format!("50-redis.yaml:19:5: `{name}` in redis.conf is not interpreted here: ")), "{error}");
        assert!(error.contains(why), "{error}");
    }
    for line in ["bind * -::*", "bind 0.0.0.0 ::", "cluster-enabled no", "requirepass secret", "tls-replication yes", "maxclients 100"] {
        with_lines("    save \"\"\n", &format!("    {line}\n")).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
    let error = with_lines("    tls-port 6379\n", "").expect_err("no TLS").to_string();
    assert!(error.contains("`tls-port` is missing in redis.conf"), "{error}");
}

#[test]
fn what_only_concerns_other_servers_or_places_is_not_written_and_the_rest_is() {
    let lines = "    masterauth hunter\n    tls-client-key-file /x\n    tls-replication yes\n    requirepass hunter\n    maxclients 9\n";
    let conf = redis_conf::render(&with_lines("    save \"\"\n", lines).expect("valid"), &ServerConfig::default(), &redis_places());
    let conf = conf.expect("there is a Redis");
    assert!(!conf.contains("hunter") && !conf.contains("/x"), "{conf}");
    assert!(conf.contains("tls-replication yes\n") && conf.contains("maxclients 9\n"), "{conf}");
}

#[test]
fn options_of_redis_command_line_that_win_over_its_file_are_an_error_at_their_place() {
    let command = |words: &str| with_lines("redis-server -\n", &format!("redis-server - {words}\n"));
    let error = command("--port 6379").expect_err("it wins").to_string();
    let expected =
        "`--port` in the command of Redis' container wins over redis.conf and is not interpreted here: write `port` into redis.conf";
    assert_eq!(error, format!("50-redis.yaml:60:15: {expected}"));
    assert!(command("--tls-auth-clients no").is_err());
    command("--requirepass x --loglevel notice; redis-cli --tls ping").expect("of no bearing, and another program's");
    // The image's entrypoint makes options of the server of arguments alone.
    let error = with_lines("          env:\n", "          args: [\"--protected-mode\", \"no\"]\n          env:\n");
    error.expect("a command says what the arguments are");
}

#[test]
fn a_file_of_redis_is_the_key_of_the_secret_that_the_volume_makes_it() {
    let error = |line: &str, others: &str| with_lines(line, others).expect_err(others).to_string();
    let items = "              - key: ca.crt\n                path: ca.crt\n";
    let leaf = error("tls-cert-file /etc/redis/tls/tls.crt", "tls-cert-file /etc/redis/tls/ca.crt");
    assert!(leaf.contains("is the key `ca.crt` of the Secret `nautobot-redis-server-tls`: `tls.crt` of it is interpreted here"), "{leaf}");
    let swapped = error(items, "              - key: tls.crt\n                path: ca.crt\n");
    assert!(swapped.contains("`tls-ca-cert-file /etc/redis/ca/ca.crt` is the key `tls.crt` of the Secret `mtls-ca-cert`"), "{swapped}");
    let missing = error(items, "              - key: ca.crt\n                path: root.crt\n");
    assert!(missing.contains("is not there: the `items` of the volume of the Secret `mtls-ca-cert` leave it out"), "{missing}");
    let text = with_lines("/etc/redis/ca/ca.crt\n    save", "/etc/redis/ca/root.crt\n    save").expect_err("not in the volume").to_string();
    assert!(text.contains("leave it out"), "{text}");
}

#[test]
fn a_key_that_the_user_of_the_container_can_not_read_is_an_error() {
    let group = "        fsGroup: 999\n";
    let error = with_lines(group, "").expect_err("root's, 0440").to_string();
    let expected = "50-redis.yaml:89:25: the user 999 of the container can't read `tls-cert-file /etc/redis/tls/tls.crt`: the files of this volume \
                    are root's with mode 0440; set `fsGroup` in the pod's securityContext";
    assert_eq!(error, expected);
    with_lines("defaultMode: 0440", "defaultMode: 0400").expect("fsGroup makes it readable");
    with_lines("      securityContext:\n        runAsUser: 999\n        runAsGroup: 999\n        fsGroup: 999\n", "")
        .expect("the image says who reads");
}

#[test]
fn a_redis_that_nothing_gives_a_password_is_an_error() {
    let command = "            - sh\n            - -c\n            - printf 'include /etc/redis/conf/redis.conf\\nrequirepass \"%s\"\\n' \"$REDISCLI_AUTH\" | exec redis-server -\n";
    let bare = "            - redis-server\n            - /etc/redis/conf/redis.conf\n";
    let error = with_lines(command, bare).expect_err("no password").to_string();
    assert!(error.starts_with("50-redis.yaml:11:5: nothing gives Redis a password"), "{error}");
    for given in ["            - redis-server\n            - --requirepass\n            - \"$(REDISCLI_AUTH)\"\n", command] {
        with_lines(command, given).unwrap_or_else(|error| panic!("{given}: {error}"));
    }
    with_lines("            - name: REDISCLI_AUTH\n", "            - name: REDIS_PASSWORD\n").expect("the command still says it");
}

#[test]
fn a_route_leads_to_the_port_of_redis_that_speaks_tls() {
    let route = |ports: &str, container: &str| {
        let files =
            ["10-certificate-authority", "20-server-certificates", "30-client-certificates", "40-postgres", "50-redis", "70-gateway"];
        let texts = files.map(|file| {
            let text = yaml::read(&repository().join(format!("kind/deployment/{file}.yaml"))).expect("readable");
            let text = text.replace("    - name: redis\n      port: 6379\n", &format!("    - name: redis\n      port: 6379\n{ports}"));
            (PathBuf::from(format!("{file}.yaml")), text.replace("            - containerPort: 6379\n", container))
        });
        Manifests::from_texts(Path::new("DIR"), texts.to_vec()).map(drop).map_err(|error| error.to_string())
    };
    let named = |number: u16| format!("            - name: tls\n              containerPort: {number}\n");
    for (ports, container) in [("", String::new()), ("      targetPort: 6379\n", String::new()), ("      targetPort: tls\n", named(6379))] {
        route(ports, &container).unwrap_or_else(|error| panic!("{ports}: {error}"));
    }
    for (ports, container) in [("      targetPort: 6380\n", String::new()), ("      targetPort: tls\n", named(6380))] {
        let expected = "70-gateway.yaml:68:17: port 6379 of the Service `nautobot-redis-master` leads to 6380 of Redis' pods, and their \
                        `tls-port` is 6379";
        assert_eq!(route(ports, &container), Err(expected.to_owned()));
    }
}

#[test]
fn what_belongs_to_other_applications_is_not_refused() {
    let directory = repository().join("kind/deployment");
    let names = ["10-certificate-authority.yaml", "20-server-certificates.yaml", "30-client-certificates.yaml", "40-postgres.yaml"];
    let mut texts: Vec<(PathBuf, String)> =
        names.iter().map(|name| (name.into(), yaml::read(&directory.join(name)).expect("readable"))).collect();
    let others = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: queue}
spec:
  template:
    spec:
      containers:
        - {name: redis, image: \"redis:7\"}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: mail, namespace: nautobot}
spec:
  secretName: mail
  dnsNames: [mail.example.com]
  issuerRef: {name: mtls-ca-issuer}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: shared}
spec:
  gatewayClassName: envoy
  listeners:
    - {name: mail, port: 443, protocol: TLS, hostname: mail.example.com, tls: {mode: Passthrough}}
    - {name: web, port: 443, protocol: HTTPS, hostname: web.example.com}
    - {name: rest, port: 443, protocol: HTTPS, hostname: \"*.example.com\"}
";
    texts.push(("90-others.yaml".into(), others.to_owned()));
    let manifests = Manifests::from_texts(Path::new("DIR"), texts.clone()).unwrap_or_else(|error| panic!("{error}"));
    assert!(manifests.redis.is_none() && manifests.routes.is_empty());
    // The same listener for the name of a server leads nowhere.
    let others = others.replace("mail.example.com, tls", "nautobot-db.dc.example.com, tls");
    texts.last_mut().expect("some").1 = others;
    let error = Manifests::from_texts(Path::new("DIR"), texts).expect_err("no route").to_string();
    assert!(error.starts_with("90-others.yaml:24:14: no TLSRoute is attached to the listener `mail`"), "{error}");
}
