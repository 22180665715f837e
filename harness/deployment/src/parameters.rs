//! Which of a Cluster's `spec.postgresql.parameters` CloudNativePG takes: the checks of its admission webhook, at their places.
//!
//! From CloudNativePG 1.30.0: the list and the values are `FixedConfigurationParameters` and `CnpgConfigurationSettings` in
//! `pkg/postgres/configuration.go`, which the page "PostgreSQL Configuration", section "Fixed parameters", documents; the rules are
//! `validateConfiguration` in `internal/webhook/v1/cluster_webhook.go`. Its rules on sizes (`shared_buffers`, `min_wal_size`,
//! `max_wal_size`) are left to it: the sizes are not used here.

use load::tree::{Entry, Tree};
use load::{LoadError, Place};

use super::source::Source;

/// Where they stand in a Cluster.
const PATH: [&str; 3] = ["spec", "postgresql", "parameters"];

/// What only the operator may set. Of its list only `archive_mode` is not here: the defaulting webhook writes the operator's value over the
/// user's before the validating one looks (`setDefaults` in `api/v1/cluster_defaults.go`), so whatever stands there is taken and has no
/// effect. The page lists `allow_alter_system`, too, which the operator overwrites without a word.
///
/// With a value: its own default, which a user may write down, too. The others have none, or one that the operator adds after it has
/// checked the user's.
const FIXED: [(&str, Option<&str>); 64] = [
    ("allow_system_table_mods", None),
    ("archive_cleanup_command", None),
    ("archive_command", None),
    ("bonjour", None),
    ("bonjour_name", None),
    ("cluster_name", None),
    ("config_file", None),
    ("data_directory", None),
    ("data_sync_retry", None),
    ("event_source", None),
    ("external_pid_file", None),
    ("hba_file", None),
    ("hot_standby", None),
    ("ident_file", None),
    ("jit_provider", None),
    ("listen_addresses", None),
    ("log_destination", Some("csvlog")),
    ("log_directory", Some("/controller/log")),
    ("log_file_mode", None),
    ("log_filename", Some("postgres")),
    ("log_rotation_age", Some("0")),
    ("log_rotation_size", Some("0")),
    ("log_truncate_on_rotation", Some("false")),
    ("logging_collector", Some("on")),
    ("pg_failover_slots.primary_dsn", None),
    ("pg_failover_slots.standby_slot_names", None),
    ("port", None),
    ("primary_conninfo", None),
    ("primary_slot_name", None),
    ("promote_trigger_file", None),
    ("recovery_end_command", None),
    ("recovery_min_apply_delay", None),
    ("recovery_target", None),
    ("recovery_target_action", None),
    ("recovery_target_inclusive", None),
    ("recovery_target_lsn", None),
    ("recovery_target_name", None),
    ("recovery_target_time", None),
    ("recovery_target_timeline", None),
    ("recovery_target_xid", None),
    ("restart_after_crash", None),
    ("restore_command", None),
    ("shared_preload_libraries", Some("")),
    ("ssl", None),
    ("ssl_ca_file", None),
    ("ssl_cert_file", None),
    ("ssl_crl_file", None),
    ("ssl_dh_params_file", None),
    ("ssl_ecdh_curve", None),
    ("ssl_key_file", None),
    ("ssl_passphrase_command", None),
    ("ssl_passphrase_command_supports_reload", None),
    ("ssl_prefer_server_ciphers", None),
    ("stats_temp_directory", None),
    ("synchronized_standby_slots", None),
    ("synchronous_standby_names", None),
    ("syslog_facility", None),
    ("syslog_ident", None),
    ("syslog_sequence_numbers", None),
    ("syslog_split_messages", None),
    ("temp_tablespaces", None),
    ("unix_socket_directories", None),
    ("unix_socket_group", None),
    ("unix_socket_permissions", None),
];

/// What the operator wants as a boolean.
const BOOLEANS: [&str; 3] = ["hot_standby_feedback", "sync_replication_slots", "wal_log_hints"];

/// Checks the parameters of a Cluster, in the file's order.
pub(super) fn check(source: &Source) -> Result<(), LoadError> {
    let entries = source.tree().get(&PATH).map(Tree::entries).unwrap_or_default();
    let instances = source.text(&["spec", "instances"]).and_then(|text| text.parse::<u64>().ok()).unwrap_or(1);
    for entry in entries {
        let at = |message: String| Err(LoadError::new(Place::at(&source.file, entry.position), message));
        let name = entry.key.as_str();
        if !is_name(name) {
            let said = "must be a valid PostgreSQL configuration parameter name (a GUC name, optionally namespaced with a single dot)";
            return at(refused(name, said, "write a name as the PostgreSQL manual has it"));
        }
        let value = entry.value.text().unwrap_or_default();
        fixed(name, value).map_or(Ok(()), at)?;
        if BOOLEANS.contains(&name) {
            let Some(on) = boolean(value) else {
                return at(refused(name, &format!("invalid `{name}` value. Must be a postgres boolean"), "write \"on\" or \"off\""));
            };
            if name == "wal_log_hints" && !on && instances > 1 {
                let said = "`wal_log_hints` must be set to `on` when `instances` > 1";
                return at(refused(name, said, "take it out, or have one instance"));
            }
        }
        if name == "wal_level" {
            wal_level(source, value, instances, entries).map_or(Ok(()), at)?;
        }
    }
    Ok(())
}

/// Why a parameter that only the operator sets is refused.
fn fixed(name: &str, value: &str) -> Option<String> {
    let said = "Can't set fixed configuration parameter";
    // PostgreSQL's names have no case (`guc_name_compare`). The operator's list has, and so it writes both into one file.
    let lower = name.to_ascii_lowercase();
    let (_, default) = FIXED.iter().find(|(fixed, _)| *fixed == lower)?;
    if lower != name {
        return Some(format!(
            "`{name}` of a Cluster's spec.postgresql.parameters is `{lower}` to PostgreSQL, which CloudNativePG sets itself: take it out"
        ));
    }
    match default {
        Some(default) if *default == value => None,
        Some(default) => Some(refused(name, said, &format!("take it out, or write the operator's own value, \"{default}\""))),
        None => Some(refused(name, said, "take it out: the operator sets it itself")),
    }
}

/// Why a `wal_level` is refused.
fn wal_level(source: &Source, level: &str, instances: u64, parameters: &[Entry]) -> Option<String> {
    let archives = source.text(&["metadata", "annotations", "cnpg.io/skipWalArchiving"]) != Some("enabled");
    match level {
        "logical" | "replica" => None,
        "minimal" if archives || instances > 1 => {
            let said = "`wal_level` should be set at `logical` or `replica` when `archive_mode` is `on`, '.instances' field is greater than 1, or \
                        this is a replica cluster";
            Some(refused("wal_level", said, "write one of these, or take it out"))
        }
        "minimal" if !parameters.iter().any(|entry| entry.key == "max_wal_senders" && entry.value.text() == Some("0")) => {
            let said = "`max_wal_senders` should be set at `0` when `wal_level` is `minimal`";
            Some(refused("wal_level", said, "set max_wal_senders, or take wal_level out"))
        }
        "minimal" => None,
        _ => {
            let said = "unrecognized `wal_level` value - allowed values: `logical`, `replica`, `minimal`";
            Some(refused("wal_level", said, "write one of these, or take it out"))
        }
    }
}

/// An error that says what the operator says.
fn refused(name: &str, said: &str, advice: &str) -> String {
    format!("`{name}` of a Cluster's spec.postgresql.parameters is refused by CloudNativePG's webhook (\"{said}\"): {advice}")
}

/// The operator's `postgresParameterNameRegex`.
fn is_name(name: &str) -> bool {
    let part = |part: &str| {
        let mut characters = part.chars();
        characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
            && characters.all(|character| character.is_ascii_alphanumeric() || matches!(character, '_' | '$'))
    };
    match name.split_once('.') {
        Some((space, name)) => part(space) && part(name),
        None => part(name),
    }
}

/// The operator's `ParsePostgresConfigBoolean`.
fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "on" | "y" | "ye" | "yes" | "t" | "tr" | "tru" | "true" => Some(true),
        "0" | "of" | "off" | "n" | "no" | "f" | "fa" | "fal" | "fals" | "false" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::Manifests;

    /// The shipped manifests with these lines as the Cluster's parameters; the first is line 19 of the file.
    fn with(parameters: &[String], change: impl Fn(String) -> String) -> Result<Manifests, LoadError> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kind/deployment");
        let files = ["10-certificate-authority", "20-server-certificates", "30-client-certificates", "40-postgres"].map(|file| {
            let text = std::fs::read_to_string(directory.join(format!("{file}.yaml"))).expect("readable");
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            if let Some(line) = lines.iter().position(|line| line == "  postgresql:") {
                assert_eq!(line, 16, "where the test expects it");
                let parameters = parameters.iter().map(|parameter| format!("      {parameter}"));
                lines.splice(line + 1..line + 1, std::iter::once("    parameters:".to_owned()).chain(parameters));
            }
            (PathBuf::from(format!("{file}.yaml")), change(lines.join("\n")))
        });
        Manifests::from_texts(Path::new("DIR"), files.to_vec())
    }

    fn error(parameters: &[String]) -> String {
        with(parameters, |text| text).expect_err("it is refused").to_string()
    }

    fn lines(parameters: &[&str]) -> Vec<String> {
        parameters.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn each_fixed_parameter_is_refused_at_its_place_with_the_operators_words() {
        for (name, default) in FIXED {
            let value = default.map_or_else(|| "x".to_owned(), |default| format!("{default}x"));
            let shown = error(&[r#"ssl_ciphers: "HIGH""#.to_owned(), format!("{name}: \"{value}\"")]);
            let expected = format!(
                "40-postgres.yaml:20:7: `{name}` of a Cluster's spec.postgresql.parameters is refused by CloudNativePG's webhook (\"Can't set \
                 fixed configuration parameter\"): "
            );
            assert!(shown.starts_with(&expected), "{shown}");
        }
    }

    #[test]
    fn tls_can_not_be_switched_off_nor_even_on_by_hand() {
        for value in ["off", "on"] {
            let expected = "40-postgres.yaml:19:7: `ssl` of a Cluster's spec.postgresql.parameters is refused by CloudNativePG's webhook \
                            (\"Can't set fixed configuration parameter\"): take it out: the operator sets it itself";
            assert_eq!(error(&[format!("ssl: \"{value}\"")]), expected);
        }
    }

    #[test]
    fn the_operators_own_values_and_what_it_overwrites_are_taken() {
        let mut own: Vec<String> =
            FIXED.iter().filter_map(|(name, default)| default.map(|default| format!("{name}: \"{default}\""))).collect();
        assert!(own.contains(&r#"shared_preload_libraries: """#.to_owned()), "{own:?}");
        own.push(r#"archive_mode: "off""#.to_owned());
        with(&own, |text| text).expect("the operator takes them");
    }

    #[test]
    fn parameters_that_a_user_may_set_are_taken() {
        let allowed = ["ssl_min_protocol_version: TLSv1.2", "max_connections: \"300\"", "wal_level: replica", "TimeZone: UTC"];
        let more = ["pg_stat_statements.track: all", "wal_log_hints: \"on\"", "sync_replication_slots: \"Yes\""];
        let manifests = with(&lines(&[&allowed[..], &more[..]].concat()), |text| text).expect("the operator takes them");
        let parameters = manifests.cluster.expect("a Cluster").postgresql.parameters;
        assert_eq!(parameters.len(), 7);
        assert_eq!(parameters["ssl_min_protocol_version"], "TLSv1.2");
    }

    #[test]
    fn another_spelling_of_a_fixed_name_is_no_way_around() {
        let shown = error(&lines(&["SSL_CRL_File: /tmp/none"]));
        assert!(shown.contains("`SSL_CRL_File` of a Cluster's spec.postgresql.parameters is `ssl_crl_file` to PostgreSQL"), "{shown}");
    }

    #[test]
    fn names_and_booleans_are_those_that_the_operator_takes() {
        for (line, said) in [
            ("\"ssl_ciphers = x\": y", "must be a valid PostgreSQL configuration parameter name"),
            ("a.b.c: y", "must be a valid PostgreSQL configuration parameter name"),
            ("hot_standby_feedback: maybe", "invalid `hot_standby_feedback` value. Must be a postgres boolean"),
        ] {
            assert!(error(&lines(&[line])).contains(said), "{line}");
        }
    }

    #[test]
    fn the_wal_level_follows_instances_and_archiving() {
        assert!(error(&lines(&["wal_level: none"])).contains("unrecognized `wal_level` value"));
        assert!(error(&lines(&["wal_level: minimal"])).contains("`wal_level` should be set at `logical` or `replica`"));
        let unarchived = |text: String| {
            text.replace("  name: nautobot-cluster\n", "  name: nautobot-cluster\n  annotations: {cnpg.io/skipWalArchiving: enabled}\n")
        };
        let shown = with(&lines(&["wal_level: minimal"]), unarchived).expect_err("senders").to_string();
        assert!(shown.contains("`max_wal_senders` should be set at `0`"), "{shown}");
        with(&lines(&["wal_level: minimal", "max_wal_senders: \"0\""]), unarchived).expect("the operator takes it");
        let two = |text: String| text.replace("instances: 1", "instances: 2");
        let shown = with(&lines(&["wal_log_hints: \"off\""]), two).expect_err("two instances").to_string();
        assert!(shown.contains("`wal_log_hints` must be set to `on` when `instances` > 1"), "{shown}");
        with(&lines(&["wal_log_hints: \"off\""]), |text| text).expect("one instance");
    }
}
