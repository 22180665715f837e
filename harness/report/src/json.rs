//! The canonical report: one JSON document in a fixed order, and its schema.

use std::io::{self, Write};

use serde::ser::{Error as _, SerializeSeq as _};
use serde::{Serialize, Serializer};

use super::spool::SpooledCases;
use model::report::{ClaimRecord, DivergenceRecord, EnvironmentRecord, LatencyRecord, OutageRecord, Report, Summary, Totals};

/// The fields of [`Report`] in its order, with the cases read one by one while they are written.
#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    started_at: &'a str,
    command: &'a [String],
    environment: &'a EnvironmentRecord,
    totals: &'a Totals,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
    problems: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    left_behind: &'a [String],
    claims: &'a [ClaimRecord],
    divergence: &'a [DivergenceRecord],
    latency: &'a [LatencyRecord],
    outages: &'a [OutageRecord],
    cases: Cases<'a>,
}

struct Cases<'a>(SpooledCases<'a>);

impl Serialize for Cases<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entries = self.0.entries();
        let mut list = serializer.serialize_seq(Some(entries.len()))?;
        for entry in entries {
            list.serialize_element(&self.0.read(entry).map_err(S::Error::custom)?)?;
        }
        list.end()
    }
}

/// Writes the report.
///
/// # Errors
///
/// Where `out` can't be written or a case can't be read back.
pub fn write(out: &mut dyn Write, summary: &Summary, cases: SpooledCases<'_>) -> io::Result<()> {
    let document = Document {
        schema_version: summary.schema_version,
        started_at: &summary.started_at,
        command: &summary.command,
        environment: &summary.environment,
        totals: &summary.totals,
        warnings: &summary.warnings,
        problems: &summary.problems,
        left_behind: &summary.left_behind,
        claims: &summary.claims,
        divergence: &summary.divergence,
        latency: &summary.latency,
        outages: &summary.outages,
        cases: Cases(cases),
    };
    serde_json::to_writer_pretty(&mut *out, &document)?;
    out.write_all(b"\n")
}

/// The JSON Schema of [`Report`], as committed in `report.schema.json`.
#[must_use]
pub fn schema() -> serde_json::Value {
    serde_json::Value::from(schemars::schema_for!(Report))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::fixture;
    use model::report::CaseRecord;

    fn written(cases: &[CaseRecord]) -> String {
        fixture::written(cases, write)
    }

    #[test]
    fn a_written_report_is_the_summary_and_every_case_by_id() {
        let report: Report = serde_json::from_str(&written(&fixture::cases())).expect("has the report's shape");
        let mut cases = fixture::cases();
        cases.sort_by(|one, other| one.id.cmp(&other.id));
        assert_eq!(report.cases, cases);
        let summary = fixture::summary();
        assert_eq!(
            (report.schema_version, report.started_at, report.command),
            (summary.schema_version, summary.started_at, summary.command)
        );
        assert_eq!((report.environment, report.totals, report.problems), (summary.environment, summary.totals, summary.problems));
        assert_eq!((report.claims, report.divergence, report.latency), (summary.claims, summary.divergence, summary.latency));
        assert_eq!((report.outages, report.left_behind, report.warnings), (summary.outages, summary.left_behind, summary.warnings));
    }

    #[test]
    fn the_order_in_which_cases_end_does_not_show() {
        let mut reversed = fixture::cases();
        reversed.reverse();
        assert_eq!(written(&reversed), written(&fixture::cases()));
    }

    #[test]
    fn the_field_order_is_the_one_of_the_type() {
        let text = written(&fixture::cases());
        let report: Report = serde_json::from_str(&text).expect("has the report's shape");
        assert_eq!(text, serde_json::to_string_pretty(&report).expect("is JSON") + "\n");
    }

    #[test]
    fn an_unknown_field_is_refused_when_a_report_is_read() {
        let text = written(&[]).replacen("\"problems\"", "\"unheard_of\": 1,\n  \"problems\"", 1);
        let error = serde_json::from_str::<Report>(&text).expect_err("refused").to_string();
        assert!(error.contains("unknown field `unheard_of`"), "{error}");
    }

    /// `MTLS_UPDATE_SCHEMA=1 cargo test -p report json` writes the file anew.
    #[test]
    fn the_committed_schema_is_the_one_of_the_types() {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../report.schema.json");
        let schema = serde_json::to_string_pretty(&schema()).expect("is JSON") + "\n";
        if std::env::var_os("MTLS_UPDATE_SCHEMA").is_some() {
            std::fs::write(&path, &schema).expect("writes the schema");
        }
        let committed = std::fs::read_to_string(&path).expect("harness/report.schema.json is there");
        assert!(
            committed == schema,
            "report.schema.json is stale: run the test with MTLS_UPDATE_SCHEMA=1, and raise SCHEMA_VERSION if readers could go wrong"
        );
    }

    #[test]
    fn the_schema_knows_every_refusal_that_a_report_can_hold() {
        let schema = schema();
        let classes = schema.pointer("/$defs/Refusal/oneOf").and_then(serde_json::Value::as_array).expect("is there");
        assert!(classes.iter().any(|class| class["required"] == serde_json::json!(["unclassified"])));
        assert!(schema.pointer("/$defs/Stage").is_some(), "the reference has a target");
    }
}
