//! Latency statistics: the phases of established sessions, per driver, mode, negotiation and phase.
//!
//! A group keeps its first samples as they are and turns to a histogram when there are many: a histogram of three significant digits
//! costs tens of KiB from its first sample on, and a run has hundreds of groups.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{DeserializeError, Deserializer, Serializer as _, V2SerializeError, V2Serializer};
use thiserror::Error;

use model::connect::SslMode;
use model::observation::Phases;
use model::report::LatencyRecord;

/// The phase that a run's table shows: first packet to ready session.
pub const CONNECT: &str = "connect";

/// Significant digits of the histograms, as `pgbench` and other benchmarks commonly keep.
const SIGNIFICANT_DIGITS: u8 = 3;

/// Samples that a group keeps as they are: 8 KiB.
const KEPT_SAMPLES: usize = 1024;

/// Statistics that could not be made, or a histogram that could not be read.
#[derive(Debug, Error)]
pub enum LatencyError {
    /// hdrhistogram refused to make one.
    #[error("latencies of {group} could not be made into a histogram: {source}")]
    Create {
        /// Driver, mode, negotiation and phase.
        group: String,
        /// Which bound or precision it does not take.
        source: hdrhistogram::CreationError,
    },
    /// A value of a record does not fit into the sum.
    #[error("latencies of {group} could not be added: {source}")]
    Add {
        /// Driver, mode, negotiation and phase.
        group: String,
        /// Why the value does not fit.
        source: hdrhistogram::RecordError,
    },
    /// A histogram has no text.
    #[error("the histogram of {group} could not be encoded: {source}")]
    Encode {
        /// Driver, mode, negotiation and phase.
        group: String,
        /// Which count or length is too large.
        source: V2SerializeError,
    },
    /// A record's text is not base64.
    #[error("the histogram of {group} is not in base64: {source}; was the report edited?")]
    Base64 {
        /// Driver, mode, negotiation and phase.
        group: String,
        /// Which byte is none of base64.
        source: base64::DecodeError,
    },
    /// A record's bytes are not a histogram.
    #[error("the histogram of {group} is not HdrHistogram V2: {source}; was the report edited?")]
    Decode {
        /// Driver, mode, negotiation and phase.
        group: String,
        /// What is wrong in the bytes.
        source: DeserializeError,
    },
}

/// What sessions are grouped by. Its order is the order of reports: drivers by name, modes from weak to strong, phases as they follow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    driver: String,
    mode_rank: usize,
    mode: String,
    negotiation_rank: usize,
    negotiation: String,
    phase_rank: usize,
    phase: String,
}

impl Group {
    fn new(driver: &str, mode: &str, negotiation: &str, phase: &str) -> Self {
        const NEGOTIATIONS: [&str; 3] = ["none", "postgres", "direct"];
        const PHASES: [&str; 6] = [CONNECT, "tcp", "sslrequest", "tls", "auth", "query"];
        let mode_rank = match mode {
            "unset" => 0,
            "off" => 1,
            "no-verify" => 2,
            _ => SslMode::ALL.iter().position(|known| known.name() == mode).unwrap_or(SslMode::ALL.len()).saturating_add(3),
        };
        let rank = |known: &[&str], name: &str| known.iter().position(|one| *one == name).unwrap_or(known.len());
        Self {
            driver: driver.to_owned(),
            mode_rank,
            mode: mode.to_owned(),
            negotiation_rank: rank(&NEGOTIATIONS, negotiation),
            negotiation: negotiation.to_owned(),
            phase_rank: rank(&PHASES, phase),
            phase: phase.to_owned(),
        }
    }

    fn of(record: &LatencyRecord) -> Self {
        Self::new(&record.driver, &record.mode, &record.negotiation, &record.phase)
    }

    fn name(&self) -> String {
        format!("{} {} {} {}", self.driver, self.mode, self.negotiation, self.phase)
    }
}

/// One group's samples in nanoseconds.
#[derive(Debug, Default)]
struct Samples {
    kept: Vec<u64>,
    histogram: Option<Histogram<u32>>,
}

impl Samples {
    fn record(&mut self, nanoseconds: u64, empty: &Histogram<u32>) {
        match &mut self.histogram {
            Some(histogram) => add(histogram, nanoseconds),
            None if self.kept.len() < KEPT_SAMPLES => self.kept.push(nanoseconds),
            None => {
                let mut histogram = empty.clone();
                self.kept.drain(..).for_each(|sample| add(&mut histogram, sample));
                add(&mut histogram, nanoseconds);
                self.kept = Vec::new();
                self.histogram = Some(histogram);
            }
        }
    }

    fn histogram(&self, empty: &Histogram<u32>) -> Histogram<u32> {
        self.histogram.clone().unwrap_or_else(|| {
            let mut histogram = empty.clone();
            self.kept.iter().for_each(|sample| add(&mut histogram, *sample));
            histogram
        })
    }
}

/// Accumulates the phases of sessions; memory grows with the groups, not with the sessions.
#[derive(Debug)]
pub struct Latencies {
    groups: BTreeMap<Group, Samples>,
    empty: Histogram<u32>,
}

impl Latencies {
    /// Nothing recorded yet.
    ///
    /// # Errors
    ///
    /// Where hdrhistogram can't make a histogram.
    pub fn new() -> Result<Self, LatencyError> {
        Ok(Self { groups: BTreeMap::new(), empty: empty_histogram("the run")? })
    }

    /// Records a session that passed. `mode` is the `sslmode` (or Redis' `tls`) asked for, `unset` included; `negotiation` is `postgres`,
    /// `direct`, or `none` where the session is plaintext. Phases that the driver could not split off are left out.
    pub fn record(&mut self, driver: &str, mode: &str, negotiation: &str, phases: &Phases) {
        let named = [
            (CONNECT, phases.connect_ns),
            ("tcp", phases.tcp_ns),
            ("sslrequest", phases.sslrequest_ns),
            ("tls", phases.tls_ns),
            ("auth", phases.auth_ns),
            ("query", phases.query_ns),
        ];
        for (phase, nanoseconds) in named {
            if let Some(nanoseconds) = nanoseconds {
                let group = Group::new(driver, mode, negotiation, phase);
                self.groups.entry(group).or_default().record(nanoseconds, &self.empty);
            }
        }
    }

    /// The statistics of every group, in the order of reports.
    ///
    /// # Errors
    ///
    /// Where a histogram can't be encoded.
    pub fn finish(&self) -> Result<Vec<LatencyRecord>, LatencyError> {
        self.groups.iter().map(|(group, samples)| statistics(group, &samples.histogram(&self.empty))).collect()
    }
}

/// Merges the records of several runs, or of the parts of one run: groups that occur more than once become one.
///
/// # Errors
///
/// Where a record's histogram can't be read.
pub fn merge<'a>(records: impl IntoIterator<Item = &'a LatencyRecord>) -> Result<Vec<LatencyRecord>, LatencyError> {
    let mut groups: BTreeMap<Group, Histogram<u32>> = BTreeMap::new();
    for record in records {
        let group = Group::of(record);
        let name = group.name();
        let sum = match groups.entry(group) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(empty_histogram(&name)?),
        };
        // Recorded anew, not added: a sum would take over the bounds of what was decoded, and its text would then depend on how it came about.
        for step in decode(record)?.iter_recorded() {
            sum.record_n(step.value_iterated_to(), step.count_at_value())
                .map_err(|source| LatencyError::Add { group: name.clone(), source })?;
        }
    }
    groups.iter().map(|(group, histogram)| statistics(group, histogram)).collect()
}

/// A record's histogram, in nanoseconds.
///
/// # Errors
///
/// Where its text is not base64 of an HdrHistogram V2.
pub fn decode(record: &LatencyRecord) -> Result<Histogram<u32>, LatencyError> {
    let group = || Group::of(record).name();
    let bytes = STANDARD.decode(&record.histogram).map_err(|source| LatencyError::Base64 { group: group(), source })?;
    let mut histogram: Histogram<u32> =
        Deserializer::new().deserialize(&mut bytes.as_slice()).map_err(|source| LatencyError::Decode { group: group(), source })?;
    histogram.auto(true);
    Ok(histogram)
}

/// Adds a sample. A histogram that resizes itself takes any u64; were it ever to refuse, the sample counts as the highest it can hold.
fn add(histogram: &mut Histogram<u32>, nanoseconds: u64) {
    if histogram.record(nanoseconds).is_err() {
        histogram.saturating_record(nanoseconds);
    }
}

fn empty_histogram(group: &str) -> Result<Histogram<u32>, LatencyError> {
    let mut histogram = Histogram::new(SIGNIFICANT_DIGITS).map_err(|source| LatencyError::Create { group: group.to_owned(), source })?;
    histogram.auto(true);
    Ok(histogram)
}

fn statistics(group: &Group, histogram: &Histogram<u32>) -> Result<LatencyRecord, LatencyError> {
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(histogram, &mut bytes).map_err(|source| LatencyError::Encode { group: group.name(), source })?;
    let at = |quantile: f64| milliseconds(histogram.value_at_quantile(quantile));
    Ok(LatencyRecord {
        driver: group.driver.clone(),
        mode: group.mode.clone(),
        negotiation: group.negotiation.clone(),
        phase: group.phase.clone(),
        count: histogram.len(),
        p50_ms: at(0.50),
        p95_ms: at(0.95),
        p99_ms: at(0.99),
        max_ms: milliseconds(histogram.max()),
        histogram: STANDARD.encode(bytes),
    })
}

/// Whole microseconds as milliseconds: three significant digits of a connection's time hold no more.
fn milliseconds(nanoseconds: u64) -> f64 {
    let microseconds = (nanoseconds.saturating_add(500)) / 1000;
    microseconds as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(nanoseconds: u64) -> Phases {
        Phases { connect_ns: Some(nanoseconds), ..Phases::default() }
    }

    /// 1 ms, 2 ms, ... in an order that is not sorted.
    fn recorded(count: u64) -> Latencies {
        let mut latencies = Latencies::new().expect("constants fit");
        for index in 0..count {
            latencies.record("rustls", "require", "postgres", &connect((index * 7 % count + 1) * 1_000_000));
        }
        latencies
    }

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() <= expected * 0.001, "{found} is not {expected} to three digits");
    }

    #[test]
    fn quantiles_are_right_to_three_digits_with_few_samples() {
        let records = recorded(100).finish().expect("encodes");
        assert_eq!(records.len(), 1, "phases that are absent make no record");
        let record = &records[0];
        assert_eq!((record.phase.as_str(), record.count), ("connect", 100));
        near(record.p50_ms, 50.0);
        near(record.p95_ms, 95.0);
        near(record.p99_ms, 99.0);
        near(record.max_ms, 100.0);
    }

    #[test]
    fn quantiles_stay_right_after_the_samples_became_a_histogram() {
        let count = KEPT_SAMPLES as u64 * 4 + 1;
        let latencies = recorded(count);
        assert!(latencies.groups.values().all(|samples| samples.kept.capacity() == 0 && samples.histogram.is_some()));
        let record = latencies.finish().expect("encodes").remove(0);
        assert_eq!(record.count, count);
        near(record.p50_ms, 2049.0);
        near(record.max_ms, count as f64);
    }

    #[test]
    fn a_group_keeps_its_samples_up_to_the_limit_and_is_a_histogram_from_the_next_one_on() {
        let samples = |count: usize| {
            let latencies = recorded(count as u64);
            let samples = latencies.groups.into_values().next().expect("a group");
            (samples.kept.len(), samples.histogram.map(|histogram| histogram.len()))
        };
        assert_eq!(samples(1), (1, None));
        assert_eq!(samples(KEPT_SAMPLES), (KEPT_SAMPLES, None));
        assert_eq!(samples(KEPT_SAMPLES + 1), (0, Some(KEPT_SAMPLES as u64 + 1)));
    }

    #[test]
    fn a_histogram_comes_back_from_its_text() {
        let record = recorded(500).finish().expect("encodes").remove(0);
        assert!(record.histogram.starts_with("HISTEw"), "the cookie of V2 without compression: {}", &record.histogram[..12]);
        let histogram = decode(&record).expect("decodes");
        assert_eq!(histogram.len(), 500);
        near(milliseconds(histogram.value_at_quantile(0.5)), record.p50_ms);
        assert_eq!(merge([&record]).expect("merges"), [record]);
    }

    #[test]
    fn two_records_of_one_group_merge_to_the_record_of_all_their_samples() {
        let mut all = Latencies::new().expect("constants fit");
        let mut parts = [Latencies::new().expect("constants fit"), Latencies::new().expect("constants fit")];
        for index in 0..300_u64 {
            // The second part is much slower: its histogram is longer than the first one's.
            let phases = connect(if index % 2 == 0 { 1_000_000 + index } else { 900_000_000 + index });
            all.record("libpq-17", "verify-full", "direct", &phases);
            parts[(index % 2) as usize].record("libpq-17", "verify-full", "direct", &phases);
        }
        let [fast, slow] = parts.map(|part| part.finish().expect("encodes").remove(0));
        let merged = merge([&fast, &slow]).expect("merges");
        assert_eq!(merged, all.finish().expect("encodes"));
        assert_eq!(merged[0].count, 300);
        near(merged[0].p95_ms, 900.0);
        near(merged[0].p50_ms, 1.0);
    }

    #[test]
    fn records_are_ordered_by_driver_then_strength_of_mode_then_phase() {
        let mut latencies = Latencies::new().expect("constants fit");
        let phases = Phases { tcp_ns: Some(60_000), tls_ns: Some(750_000), connect_ns: Some(2_560_000), ..Phases::default() };
        for (driver, mode, negotiation) in [
            ("rustls", "unset", "postgres"),
            ("libpq-17", "verify-full", "direct"),
            ("libpq-17", "allow", "postgres"),
            ("libpq-17", "allow", "none"),
            ("libpq-17", "unset", "none"),
        ] {
            latencies.record(driver, mode, negotiation, &phases);
        }
        let order: Vec<String> =
            latencies.finish().expect("encodes").iter().map(|r| format!("{} {} {} {}", r.driver, r.mode, r.negotiation, r.phase)).collect();
        let expected: Vec<String> = [
            "libpq-17 unset none",
            "libpq-17 allow none",
            "libpq-17 allow postgres",
            "libpq-17 verify-full direct",
            "rustls unset postgres",
        ]
        .iter()
        .flat_map(|group| ["connect", "tcp", "tls"].map(|phase| format!("{group} {phase}")))
        .collect();
        assert_eq!(order, expected);
    }

    #[test]
    fn modes_are_ordered_from_weak_to_strong_and_what_is_not_known_comes_last() {
        let mut latencies = Latencies::new().expect("constants fit");
        let known = ["unset", "off", "no-verify", "disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
        for mode in ["another"].iter().chain(known.iter().rev()) {
            latencies.record("it", mode, "none", &connect(1_000_000));
        }
        let order: Vec<String> = latencies.finish().expect("encodes").into_iter().map(|record| record.mode).collect();
        assert_eq!(order, [&known[..], &["another"]].concat());
    }

    #[test]
    fn negotiations_and_phases_stand_in_the_order_in_which_they_come_and_what_is_not_known_comes_last() {
        let mut latencies = Latencies::new().expect("constants fit");
        let phases = Phases {
            connect_ns: Some(6_000),
            tcp_ns: Some(1_000),
            sslrequest_ns: Some(2_000),
            tls_ns: Some(3_000),
            auth_ns: Some(4_000),
            query_ns: Some(5_000),
        };
        for negotiation in ["another", "direct", "postgres", "none"] {
            latencies.record("it", "require", negotiation, &phases);
        }
        let records = latencies.finish().expect("encodes");
        let order: Vec<(&str, &str, f64)> = records.iter().map(|one| (&*one.negotiation, &*one.phase, one.max_ms)).collect();
        let phases = [("connect", 0.006), ("tcp", 0.001), ("sslrequest", 0.002), ("tls", 0.003), ("auth", 0.004), ("query", 0.005)];
        let expected: Vec<(&str, &str, f64)> = ["none", "postgres", "direct", "another"]
            .iter()
            .flat_map(|negotiation| phases.map(|(phase, milliseconds)| (*negotiation, phase, milliseconds)))
            .collect();
        assert_eq!(order, expected);
    }

    #[test]
    fn milliseconds_are_rounded_to_whole_microseconds() {
        assert_eq!((milliseconds(499), milliseconds(500), milliseconds(1_499)), (0.0, 0.001, 0.001));
    }

    #[test]
    fn a_text_that_is_no_histogram_is_an_error_that_names_the_group() {
        let mut record = recorded(3).finish().expect("encodes").remove(0);
        for text in ["not base64!", "AAAA", ""] {
            record.histogram = text.to_owned();
            let error = merge([&record]).expect_err("refused").to_string();
            assert!(error.contains("rustls require postgres connect"), "{error}");
        }
    }
}
