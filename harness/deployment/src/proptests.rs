//! Properties of the reader of manifests and of what is written from them. `PROPTEST_CASES` says how many inputs of each.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::Manifests;
use super::hba::{hba_objection, ident_objection};
use super::postgres::{ReplicaPlaces, override_conf};
use super::redis::{Directive, Redis, directives};
use super::redis_conf::{RedisPlaces, render};
use super::template::Expression;
use load::Place;
use model::server::ServerConfig;

/// The shipped manifests: names and texts.
static SHIPPED: LazyLock<Vec<(PathBuf, String)>> = LazyLock::new(|| {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kind/deployment");
    let entries = std::fs::read_dir(directory).expect("the folder").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = entries.filter(|file| file.is_file()).collect();
    files.sort();
    let named = |file: PathBuf| (PathBuf::from(file.file_name().expect("a name")), std::fs::read_to_string(&file).expect("readable"));
    files.into_iter().map(named).collect()
});

/// What a careless hand does to a line of a file.
#[derive(Debug, Clone, Copy)]
enum Change {
    Drop,
    Twice,
    Indent,
    Character(Index, char),
}

fn change() -> impl Strategy<Value = Change> {
    let character = prop_oneof![4 => select("\"'{}[]:,-# \tx0".chars().collect::<Vec<_>>()), 1 => any::<char>()];
    prop_oneof![
        Just(Change::Drop),
        Just(Change::Twice),
        Just(Change::Indent),
        (any::<Index>(), character).prop_map(|(place, character)| Change::Character(place, character)),
    ]
}

fn changed(text: &str, line: Index, change: Change) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let line = line.index(lines.len());
    match change {
        Change::Drop => drop(lines.remove(line)),
        Change::Twice => lines.insert(line, lines[line].clone()),
        Change::Indent => lines[line].insert_str(0, "  "),
        Change::Character(place, character) => {
            let mut characters: Vec<char> = lines[line].chars().collect();
            characters.insert(place.index(characters.len() + 1), character);
            lines[line] = characters.into_iter().collect();
        }
    }
    lines.join("\n") + "\n"
}

fn redis(directives: Vec<Directive>) -> Manifests {
    let redis = Redis {
        name: "redis".to_owned(),
        namespace: None,
        directives,
        server_tls: "server".to_owned(),
        client_ca: "ca".to_owned(),
        place: Place::file(Path::new("redis.yaml")),
    };
    Manifests {
        directory: PathBuf::from("DIR"),
        issuers: Vec::new(),
        certificates: Vec::new(),
        cluster: None,
        redis: Some(redis),
        routes: Vec::new(),
        site: None,
        secrets: Vec::new(),
    }
}

/// A value of `redis.conf` as Redis reads it (`sdssplitargs`): in double quotes a backslash stands before what is meant as it is.
fn unquoted(value: &str) -> Option<String> {
    let mut inner = value.strip_prefix('"')?.strip_suffix('"')?.chars();
    let mut text = String::new();
    while let Some(character) = inner.next() {
        text.push(if character == '\\' { inner.next()? } else { character });
    }
    Some(text)
}

/// A setting of PostgreSQL's configuration file as it reads it: in single quotes, a quote is doubled or has a backslash before it
/// (PostgreSQL manual, "Parameter Interaction via the Configuration File"; `guc-file.l`).
fn setting(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))?;
    let mut inner = line.strip_prefix('\'')?.strip_suffix('\'')?.chars();
    let mut value = String::new();
    while let Some(character) = inner.next() {
        value.push(if matches!(character, '\\' | '\'') { inner.next()? } else { character });
    }
    Some(value)
}

/// A connection string as libpq reads it (manual, "Keyword/Value Connection Strings"): values in single quotes, in which a backslash stands
/// before a quote or a backslash that is meant as it is.
fn options(conninfo: &str) -> Option<BTreeMap<String, String>> {
    let mut options = BTreeMap::new();
    let mut rest = conninfo;
    while !rest.is_empty() {
        let (name, behind) = rest.split_once("='")?;
        let mut characters = behind.char_indices();
        let mut value = String::new();
        let end = loop {
            match characters.next()? {
                (_, '\\') => value.push(characters.next()?.1),
                (end, '\'') => break end,
                (_, character) => value.push(character),
            }
        };
        options.insert(name.trim_start().to_owned(), value);
        rest = &behind[end + 1..];
    }
    Some(options)
}

proptest! {
    #[test]
    fn changed_manifests_are_read_or_their_error_has_a_place(file in any::<Index>(), changes in vec((any::<Index>(), change()), 1..4)) {
        let mut texts = SHIPPED.clone();
        let index = file.index(texts.len());
        for (line, change) in changes {
            texts[index].1 = changed(&texts[index].1, line, change);
        }
        if let Err(error) = Manifests::from_texts(Path::new("DIR"), texts.clone()) {
            // A reference to what the changed file no longer has is wrong at its own place.
            let found = texts.iter().find(|(name, _)| *name == error.place.file);
            prop_assert!(found.is_some() || error.place.file == Path::new("DIR"), "{}", error);
            let lines = found.map_or(0, |(_, text)| text.lines().count() as u64);
            prop_assert!(error.place.line <= lines + 1, "{} of {} lines", error, lines);
            prop_assert!(!error.message.contains('\n'), "{}", error);
        }
    }

    #[test]
    fn directives_are_read_as_they_were_written_and_comments_are_left_out(
        lines in vec((proptest::option::of(("[a-z]{1,3}", "[!-~]{0,3}( [!-~]{1,3}){0,2}")), "[ \t]{0,2}", any::<bool>()), 0..8),
    ) {
        let text: String = lines.iter().map(|(directive, blanks, upper)| match directive {
            None => format!("{blanks}# tls-port 1\n{blanks}\n"),
            Some((name, value)) => format!("{blanks}{} {value}{blanks}\n", if *upper { name.to_uppercase() } else { name.clone() }),
        }).collect();
        let written: Vec<Directive> = lines.into_iter().filter_map(|(directive, ..)| directive)
            .map(|(name, value)| Directive { name, value: value.trim().to_owned() }).collect();
        prop_assert_eq!(directives(&text), written.clone());
        let manifests = redis(written.clone());
        for Directive { name, .. } in &written {
            let last = written.iter().rfind(|other| other.name == *name).map(|other| other.value.as_str());
            prop_assert_eq!(manifests.redis.as_ref().and_then(|redis| redis.value(name)), last, "the last line of a name counts");
        }
    }

    #[test]
    fn a_rendered_redis_conf_has_each_name_of_ours_once_and_the_scenarios_value_where_it_gives_one(
        shipped in vec((select(vec!["tls-port", "bind", "maxclients", "tls-auth-clients", "requirepass", "save"]), "[a-z0-9]{1,6}"), 0..6),
        settings in proptest::collection::btree_map(select(vec!["tls-auth-clients", "tls-protocols", "loglevel"]), "[a-z0-9]{1,6}", 0..3),
        directory in "/[ -~é]{0,12}",
        tls_port: u16,
    ) {
        let directives: Vec<Directive> =
            shipped.iter().map(|(name, value)| Directive { name: (*name).to_owned(), value: value.clone() }).collect();
        let config = ServerConfig { settings: settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(), ..ServerConfig::default() };
        let place = Path::new(&directory);
        let places = RedisPlaces { tls_port, plaintext_port: 1, bind: "127.0.0.1", directory: place, certificates: place, log_file: place, password_file: None };
        let text = render(&redis(directives), &config, &places).expect("Redis is there");
        let read = super::redis::directives(&text);
        let values = |name: &str| read.iter().filter(|directive| directive.name == name).map(|directive| directive.value.as_str()).collect::<Vec<_>>();
        for name in ["tls-port", "bind", "dir", "logfile", "save", "loglevel", "tls-cert-file", "tls-key-file", "tls-ca-cert-file"] {
            prop_assert_eq!(values(name).len(), 1, "{} in {}", name, text);
        }
        prop_assert_eq!(values("tls-port"), [tls_port.to_string()]);
        prop_assert!(values("requirepass").is_empty(), "no password of the manifests is used: {}", text);
        for (name, value) in &settings {
            prop_assert_eq!(values(name), [value.as_str()]);
        }
        prop_assert_eq!(unquoted(values("dir")[0]), Some(directory.clone()));
        prop_assert_eq!(unquoted(values("tls-cert-file")[0]), Some(place.join("tls.crt").to_string_lossy().into_owned()));
    }

    #[test]
    fn a_replicas_connection_string_is_read_as_it_was_meant(
        host in "[ -~é]{0,12}", address: SocketAddr, certificates in "/[ -~é]{0,12}", application_name in "[ -~é]{0,12}",
    ) {
        let replica = ReplicaPlaces { host: &host, address, certificates: Path::new(&certificates), application_name: &application_name };
        let text = override_conf(&replica);
        let conninfo = setting(&text, "primary_conninfo").expect("it is set");
        let options = options(&conninfo).expect("it is a connection string");
        let option = |name: &str| options.get(name).cloned().unwrap_or_default();
        prop_assert_eq!((option("host"), option("application_name")), (host, application_name));
        prop_assert_eq!((option("hostaddr"), option("port")), (address.ip().to_string(), address.port().to_string()));
        for name in ["sslcert", "sslkey", "sslrootcert"] {
            prop_assert!(option(name).starts_with(&certificates), "{} is {:?}", name, option(name));
        }
        prop_assert_eq!((option("sslmode"), options.len()), ("verify-ca".to_owned(), 9));
    }

    #[test]
    fn a_template_is_read_as_it_was_written(field in "[\\p{L}_][\\p{L}\\p{Nd}_]{0,6}", filter in proptest::option::of("[A-Z ]{0,12}"), tail in "[ \n]{0,3}") {
        let expression = Expression { field, filter, tail };
        prop_assert_eq!(format!("{expression}{}", expression.tail).parse::<Expression>(), Ok(expression));
    }

    #[test]
    fn any_text_is_a_template_that_stays_itself_or_is_refused_with_what_is_allowed(text in prop_oneof![any::<String>(), "\\{\\{ ?[.a|\" ]{0,6}(filterPEM)?[a\" ]{0,6}\\}\\}"]) {
        match text.parse::<Expression>() {
            Ok(expression) => {
                prop_assert!(text.ends_with(&expression.tail) && text.contains(&expression.field));
                prop_assert_eq!(format!("{expression}{}", expression.tail).parse::<Expression>(), Ok(expression));
            }
            Err(error) => prop_assert!(error.to_string().contains("{{ .FIELD | filterPEM \"TYPE\" }}")),
        }
    }

    #[test]
    fn a_line_of_pg_hba_is_taken_with_any_blanks_and_quotes_and_refused_without_its_method(
        names in vec("[a-z_]{1,6}", 1..3),
        (blank, quoted) in ("[ \t]{1,3}", any::<bool>()),
        (kind, address) in prop_oneof![
            (Just("local"), Just("")),
            (select(vec!["host", "hostssl", "hostnossl"]), select(vec!["all", "samenet", "10.0.0.0/8", "::1/128", "10.0.0.0 255.0.0.0", ".example.com"])),
        ],
        method in select(vec!["trust", "reject", "scram-sha-256"]),
    ) {
        let names = names.iter().map(|name| if quoted { format!("\"{name}\"") } else { name.clone() }).collect::<Vec<_>>().join(", ");
        let fields: Vec<&str> = [kind, &names, &names].into_iter().chain(address.split(' ')).filter(|field| !field.is_empty()).collect();
        let line = format!("{blank}{}{blank}", fields.join(&blank));
        let taken = format!("{line}{method} # {names}");
        prop_assert_eq!(hba_objection(&taken), None, "{}", taken);
        prop_assert!(hba_objection(&line).is_some(), "{}", line);
    }

    #[test]
    fn any_line_of_pg_hba_and_pg_ident_gets_an_answer(line in prop_oneof![any::<String>(), "(host|local|hostssl)[ a-z0-9.,/=\"#@$]{0,30}"]) {
        for line in line.lines() {
            for objection in [hba_objection(line), ident_objection(line)].into_iter().flatten() {
                prop_assert!(!objection.is_empty());
            }
        }
    }
}
