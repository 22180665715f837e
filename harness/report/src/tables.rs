//! The rows of a summary's tables, and their look on a terminal.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Table, TableStyle, Width};

use super::text::{clip, plural};
use check::divergence::reference;
use latency::CONNECT;
use model::report::{DivergenceRecord, LatencyRecord, OutageRecord};

/// A rule below the head and nothing else: rows stay close together.
const LOOK: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// Zero width space: where a line of a cell may end. comfy-table breaks a word at random that is longer than its column.
const BREAK: char = '\u{200b}';

/// Columns of a cell beside its text.
const PADDING: u16 = 2;

/// The text with a [`BREAK`] after every space, and inside of words after these characters.
fn breakable(text: &str, separators: &[char]) -> String {
    let mut marked = String::with_capacity(text.len() * 2);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        marked.push(character);
        let inside = separators.contains(&character) && characters.peek().is_some_and(|next| next.is_alphanumeric() || *next == '.');
        if character == ' ' || inside {
            marked.push(BREAK);
        }
    }
    marked
}

/// For each column the number of columns that keeps every unbreakable part of its cells whole.
fn narrowest(cells: &[Vec<String>]) -> Vec<u16> {
    let longest = |cell: &String| cell.split([BREAK, '\n']).map(|part| part.trim_end().chars().count()).max().unwrap_or(0);
    let columns = cells.iter().map(Vec::len).max().unwrap_or(0);
    let column = |index: usize| cells.iter().filter_map(|row| row.get(index)).map(longest).max().unwrap_or(0);
    (0..columns).map(|index| u16::try_from(column(index)).unwrap_or(u16::MAX).saturating_add(PADDING)).collect()
}

/// A table's head, its rows, and which columns are numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    /// One title a column.
    pub head: Vec<&'static str>,
    /// One text a column.
    pub rows: Vec<Vec<String>>,
    /// The columns from here on are numbers.
    pub numbers_from: usize,
    /// Rows that were left out.
    pub omitted: usize,
}

impl Rows {
    /// As text of at most `width` columns; long cells wrap.
    #[must_use]
    pub fn render(&self, width: u16) -> String {
        let mut table = Table::new();
        // Never asks the terminal: the width is given, and output must not depend on where it goes.
        table.force_no_tty();
        table.load_style(LOOK).set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        table.set_delimiter(BREAK);
        let texts = |separators: &[char]| -> Vec<Vec<String>> {
            let head = self.head.iter().map(|text| breakable(text, separators)).collect();
            let rows = self.rows.iter().map(|row| row.iter().map(|text| breakable(text, separators)).collect());
            std::iter::once(head).chain(rows).collect()
        };
        // Between the parts of paths and lists; where that is too wide, between those of names.
        let mut cells = texts(&['/', ',']);
        let fits = |cells: &[Vec<String>]| narrowest(cells).into_iter().fold(0, u16::saturating_add) <= width;
        if !fits(&cells) {
            cells = texts(&['/', ',', ':', '=', '-', '_']);
        }
        let bounds = if fits(&cells) { narrowest(&cells) } else { Vec::new() };
        let mut cells = cells.into_iter();
        table.set_header(cells.next().unwrap_or_default());
        table.add_rows(cells);
        for (index, bound) in bounds.into_iter().enumerate() {
            if let Some(column) = table.column_mut(index) {
                column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(bound)));
            }
        }
        for index in self.numbers_from..self.head.len() {
            if let Some(column) = table.column_mut(index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let lines = table.trim_fmt().replace(BREAK, "");
        lines.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }

    /// `... and N more in the json report`, where rows were left out.
    #[must_use]
    pub fn omission(&self) -> Option<String> {
        (self.omitted > 0).then(|| format!("... and {} more in the json report", self.omitted))
    }
}

/// Latencies of the `connect` phase. Where there are more groups than `limit`, those with most sessions stay.
#[must_use]
pub fn latency(records: &[LatencyRecord], limit: usize) -> Rows {
    let connects: Vec<&LatencyRecord> = records.iter().filter(|record| record.phase == CONNECT).collect();
    let mut kept: Vec<usize> = (0..connects.len()).collect();
    kept.sort_by_key(|index| std::cmp::Reverse(connects[*index].count));
    kept.truncate(limit);
    kept.sort_unstable();
    let row = |record: &LatencyRecord| {
        let milliseconds = |value: f64| format!("{value:.2}");
        vec![
            record.driver.clone(),
            record.mode.clone(),
            record.negotiation.clone(),
            record.count.to_string(),
            milliseconds(record.p50_ms),
            milliseconds(record.p95_ms),
            milliseconds(record.p99_ms),
            milliseconds(record.max_ms),
        ]
    };
    Rows {
        head: vec!["driver", "mode", "negotiation", "sessions", "p50 ms", "p95 ms", "p99 ms", "max ms"],
        omitted: connects.len() - kept.len(),
        rows: kept.into_iter().map(|index| row(connects[index])).collect(),
        numbers_from: 3,
    }
}

/// Driver divergence. Situations of one scenario in which the same drivers differ in the same way are one row.
#[must_use]
pub fn divergence(records: &[DivergenceRecord], limit: usize) -> Rows {
    let mut groups: BTreeMap<(String, String, String, String), Vec<&str>> = BTreeMap::new();
    for record in records {
        let scenario = record.situation.split_once(':').map_or(record.situation.as_str(), |(scenario, _)| scenario);
        let key = (scenario.to_owned(), record.mode.clone().unwrap_or_else(|| "-".to_owned()), expected(record), differing(record));
        groups.entry(key).or_default().push(&record.situation);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, situations)| std::cmp::Reverse(situations.len()));
    let omitted = groups.len().saturating_sub(limit);
    let rows = groups
        .into_iter()
        .take(limit)
        .map(|((_, mode, expected, differing), situations)| {
            let where_seen = match situations.as_slice() {
                [first, rest @ ..] if !rest.is_empty() => format!("{first} and {} like it", plural(rest.len(), "situation")),
                all => all.concat(),
            };
            // With spaces it wraps between axes, not inside of words.
            let where_seen = where_seen.replacen(':', ": ", 1).replace(',', ", ");
            vec![mode, expected, differing, clip(&where_seen, 300)]
        })
        .collect();
    Rows { head: vec!["mode", "reference", "differs", "situation"], rows, numbers_from: 4, omitted }
}

/// Outages of timelines, a row for each client of a scenario. Where there was none, how short one would have to be to go unseen.
#[must_use]
pub fn outages(records: &[OutageRecord], limit: usize) -> Rows {
    let row = |record: &OutageRecord| {
        let refusals: Vec<&str> = record.refusals.iter().map(String::as_str).collect();
        vec![
            record.scenario.clone(),
            record.client.clone(),
            without_service(record),
            if refusals.is_empty() { "-".to_owned() } else { refusals.join(", ") },
            record.known_to_ms.or(record.resolution_ms).map_or_else(|| "-".to_owned(), |value| format!("{value:.0}")),
        ]
    };
    Rows {
        head: vec!["timeline", "client", "without service", "refused with", "known to ms"],
        rows: records.iter().take(limit).map(row).collect(),
        numbers_from: 4,
        omitted: records.len().saturating_sub(limit),
    }
}

/// `never in 6`, `100 to 130 ms in 6 of 6`, `to the end in 2 of 6`.
fn without_service(record: &OutageRecord) -> String {
    if record.with_outage == 0 {
        return format!("never in {}", record.cases);
    }
    let lengths = record.shortest_ms.zip(record.longest_ms).map(|(shortest, longest)| {
        if longest - shortest < 1.0 { format!("{longest:.0} ms") } else { format!("{shortest:.0} to {longest:.0} ms") }
    });
    let to_the_end = (record.to_the_end > 0).then(|| "to the end".to_owned());
    let parts: Vec<String> = lengths.into_iter().chain(to_the_end).collect();
    format!("{} in {} of {}", parts.join(" or "), record.with_outage, record.cases)
}

/// What the reference driver showed, such as `libpq-18: tls session`; `-` where it took no part.
fn expected(record: &DivergenceRecord) -> String {
    let Some(reference) = reference(record.observed.keys().map(String::as_str)) else { return "-".to_owned() };
    record.observed.get(reference).map_or_else(|| "-".to_owned(), |short| format!("{reference}: {short}"))
}

/// `≠ rustls, psycopg2-2.9.10: plaintext session`, a line for each behaviour.
fn differing(record: &DivergenceRecord) -> String {
    let mut behaviours: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for driver in &record.divergent {
        let short = record.observed.get(driver).map_or("?", String::as_str);
        behaviours.entry(short).or_default().push(driver);
    }
    behaviours.into_iter().map(|(short, drivers)| format!("≠ {}: {short}", drivers.join(", "))).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(driver: &str, phase: &str, count: u64) -> LatencyRecord {
        LatencyRecord {
            driver: driver.to_owned(),
            mode: "require".to_owned(),
            negotiation: "postgres".to_owned(),
            phase: phase.to_owned(),
            count,
            p50_ms: 2.5,
            p95_ms: 3.0,
            p99_ms: 3.5,
            max_ms: 4.0,
            histogram: String::new(),
        }
    }

    #[test]
    fn long_cells_wrap_between_words_and_after_the_separators_of_paths() {
        let rows = Rows {
            head: vec!["found", "version", "place"],
            rows: vec![
                vec![
                    "postgres-16".to_owned(),
                    "16.14".to_owned(),
                    "/opt/toolchain/node_modules/postgresql-16-linux-x64/native/bin".to_owned(),
                ],
                vec!["redis".to_owned(), "redis-py 6.4.0, Python 3.11.7, OpenSSL 3.0.19".to_owned(), "/usr/bin/redis-server".to_owned()],
            ],
            numbers_from: 3,
            omitted: 0,
        };
        insta::assert_snapshot!(rows.render(60));
    }

    #[test]
    fn only_connects_are_shown_and_beyond_the_limit_the_most_frequent_in_order() {
        let records = [record("a", "connect", 1), record("b", "connect", 9), record("b", "tls", 99), record("c", "connect", 5)];
        let rows = latency(&records, 2);
        assert_eq!(rows.rows.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(rows.omission().as_deref(), Some("... and 1 more in the json report"));
        assert_eq!(latency(&records, 3).omission(), None);
    }

    #[test]
    fn situations_that_differ_alike_are_one_row() {
        let situation = |situation: &str, rustls: &str| DivergenceRecord {
            situation: format!("postgres/sslmode:{situation}"),
            mode: Some("require".to_owned()),
            observed: [("libpq-17", "tls session"), ("libpq-18", "tls session"), ("rustls", rustls)]
                .map(|(driver, short)| (driver.to_owned(), short.to_owned()))
                .into(),
            divergent: vec!["rustls".to_owned()],
        };
        let records = [
            situation("postgres=17", "plaintext session"),
            situation("postgres=18", "plaintext session"),
            situation("postgres=16", "closed: handshake"),
        ];
        let rows = divergence(&records, 9).rows;
        assert_eq!(
            rows,
            [
                [
                    "require",
                    "libpq-18: tls session",
                    "≠ rustls: plaintext session",
                    "postgres/sslmode: postgres=17 and 1 situation like it"
                ],
                ["require", "libpq-18: tls session", "≠ rustls: closed: handshake", "postgres/sslmode: postgres=16"],
            ]
        );
        assert_eq!(divergence(&records, 1).omitted, 1);
    }
}
