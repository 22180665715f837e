//! Times without service, from a client's attempts.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Attempt;
use model::outcome::{Mismatch, Witness};
use model::timeline::plan::ClientPlan;
use model::timeline::record::{ClientRecord, Latency, Outage};
use model::timeline::{ClientKind, OutageBound};

/// A client over the whole timeline. `attempts` in order of their beginnings.
#[must_use]
pub fn client_record(plan: &ClientPlan, attempts: &[&Attempt]) -> ClientRecord {
    let count = |wanted: &dyn Fn(&&&Attempt) -> bool| u32::try_from(attempts.iter().filter(wanted).count()).unwrap_or(u32::MAX);
    ClientRecord {
        name: plan.name.clone(),
        kind: plan.kind,
        driver: (plan.kind != ClientKind::Replication).then(|| plan.connect.driver.clone()),
        attempts: count(&|_| true),
        failures: count(&|attempt| !attempt.served()),
        connections: if plan.kind == ClientKind::Replication { 0 } else { count(&|attempt| attempt.fresh) },
        outages: outages(attempts),
        resolution_ms: attempts.windows(2).map(|pair| pair[1].from.saturating_sub(pair[0].from)).max().map(milliseconds),
        latency: latency(attempts),
    }
}

/// From the beginning of the first attempt that failed to the end of the first that succeeded after it.
fn outages(attempts: &[&Attempt]) -> Vec<Outage> {
    let mut outages: Vec<Outage> = Vec::new();
    let mut before: Option<&Attempt> = None;
    let mut open = false;
    for attempt in attempts {
        let gap = before.map_or(Duration::ZERO, |before| attempt.from.saturating_sub(before.from));
        match (&attempt.result, open) {
            (Err(refused), _) => {
                if !open {
                    outages.push(Outage {
                        from_ms: milliseconds(attempt.from),
                        to_ms: None,
                        known_to_ms: milliseconds(gap),
                        failures: 0,
                        refusals: BTreeMap::new(),
                        text: refused.text.trim().to_owned(),
                    });
                    open = true;
                }
                if let Some(outage) = outages.last_mut() {
                    outage.failures += 1;
                    *outage.refusals.entry(refused.refusal.to_string()).or_default() += 1;
                }
            }
            (Ok(_), true) => {
                // Service may have come back at any time since the attempt before this one.
                if let Some(outage) = outages.last_mut() {
                    outage.to_ms = Some(milliseconds(attempt.to));
                    outage.known_to_ms = outage.known_to_ms.max(milliseconds(gap));
                }
                open = false;
            }
            (Ok(_), false) => {}
        }
        before = Some(attempt);
    }
    outages
}

fn latency(attempts: &[&Attempt]) -> Option<Latency> {
    let mut took: Vec<Duration> = attempts.iter().filter_map(|attempt| attempt.result.as_ref().ok().copied()).collect();
    took.sort_unstable();
    let (median, longest) = (took.get(took.len() / 2)?, took.last()?);
    Some(Latency { p50_ms: milliseconds(*median), max_ms: milliseconds(*longest) })
}

/// Whether the outages keep to a bound. `phase` is the last one's index.
#[must_use]
pub fn bound_mismatch(bound: OutageBound, client: &ClientRecord, phase: usize) -> Option<Mismatch> {
    let open = client.outages.last().is_some_and(|outage| outage.to_ms.is_none());
    let closed: f64 = client.outages.iter().filter_map(|outage| Some(outage.to_ms? - outage.from_ms)).sum();
    let (holds, expected) = match bound {
        OutageBound::None => (client.outages.is_empty(), "no outage".to_owned()),
        OutageBound::Ends => (!client.outages.is_empty() && !open, "an outage that ends".to_owned()),
        OutageBound::AtMostMs(limit) => {
            let holds = !client.outages.is_empty() && !open && closed <= limit as f64;
            (holds, format!("an outage of at most {limit} ms that ends"))
        }
        OutageBound::WithinMs(limit) => (!open && closed <= limit as f64, format!("no outage, or one of at most {limit} ms that ends")),
        OutageBound::Open => (open, "an outage that lasts to the end".to_owned()),
    };
    (!holds).then(|| Mismatch {
        step: phase,
        witness: Witness::Client,
        what: format!("{}: outage", client.name),
        expected,
        observed: in_words(client),
    })
}

fn in_words(client: &ClientRecord) -> String {
    if client.outages.is_empty() {
        return format!("none in {} attempts", client.attempts);
    }
    let outages = client.outages.iter().map(|outage| {
        let refusals: Vec<&str> = outage.refusals.keys().map(String::as_str).collect();
        let length = match outage.to_ms {
            Some(to) => format!("{:.0} ms", to - outage.from_ms),
            None => "to the end".to_owned(),
        };
        format!("{length} from {:.0} ms on ({}: {})", outage.from_ms, refusals.join(", "), outage.text)
    });
    outages.collect::<Vec<_>>().join("; ")
}

/// As they stand in records.
#[must_use]
pub fn milliseconds(duration: Duration) -> f64 {
    // Microseconds are finer than anything that is measured here.
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::observation::Refused;
    use model::refusal::{Alert, Refusal, Stage};

    fn attempt(from: u64, served: bool) -> Attempt {
        let refused = Refused {
            refusal: Refusal::Alert(Alert::UnknownCa),
            stage: Some(Stage::PostHandshake),
            sqlstate: None,
            text: "SSL error: tlsv1 alert unknown ca\n".to_owned(),
        };
        let took = Duration::from_millis(4);
        Attempt {
            from: Duration::from_millis(from),
            to: Duration::from_millis(from) + took,
            fresh: true,
            result: if served { Ok(took) } else { Err(refused) },
            observation: None,
        }
    }

    fn record(attempts: &[Attempt]) -> ClientRecord {
        let attempts = &attempts.iter().collect::<Vec<_>>();
        let mut record = ClientRecord {
            name: "new".to_owned(),
            kind: ClientKind::New,
            driver: None,
            attempts: u32::try_from(attempts.len()).expect("few"),
            failures: 0,
            connections: 0,
            outages: outages(attempts),
            resolution_ms: None,
            latency: None,
        };
        record.failures = record.outages.iter().map(|outage| outage.failures).sum();
        record
    }

    #[test]
    fn an_outage_lasts_from_the_first_failure_to_the_end_of_the_first_success() {
        let seen = [attempt(0, true), attempt(20, false), attempt(40, false), attempt(70, true), attempt(80, false)];
        let outages = outages(&seen.iter().collect::<Vec<_>>());
        let spans: Vec<_> = outages.iter().map(|outage| (outage.from_ms, outage.to_ms, outage.known_to_ms, outage.failures)).collect();
        assert_eq!(spans, [(20.0, Some(74.0), 30.0, 2), (80.0, None, 10.0, 1)]);
        assert_eq!(outages[0].refusals, BTreeMap::from([("alert: unknown-ca".to_owned(), 2)]));
    }

    #[test]
    fn bounds_want_an_outage_where_one_is_named_and_none_where_none_is() {
        let never = record(&[attempt(0, true), attempt(20, true)]);
        let short = record(&[attempt(0, true), attempt(20, false), attempt(40, true)]);
        let open = record(&[attempt(0, true), attempt(20, false)]);
        let holds = |bound, record: &ClientRecord| bound_mismatch(bound, record, 0).is_none();
        assert!(holds(OutageBound::None, &never) && !holds(OutageBound::None, &short) && !holds(OutageBound::None, &open));
        assert!(holds(OutageBound::Ends, &short) && !holds(OutageBound::Ends, &open));
        assert!(!holds(OutageBound::Ends, &never), "one that never began has not ended");
        assert!(holds(OutageBound::AtMostMs(24), &short), "20 to 44 ms");
        assert!(!holds(OutageBound::AtMostMs(23), &short));
        assert!(!holds(OutageBound::AtMostMs(1000), &never), "a bound that nothing tests is a stale one");
        assert!(!holds(OutageBound::AtMostMs(1000), &open));
        assert!(holds(OutageBound::WithinMs(24), &short) && holds(OutageBound::WithinMs(0), &never));
        assert!(!holds(OutageBound::WithinMs(23), &short) && !holds(OutageBound::WithinMs(1000), &open));
        assert!(holds(OutageBound::Open, &open) && !holds(OutageBound::Open, &short) && !holds(OutageBound::Open, &never));
    }

    fn plan(kind: ClientKind) -> ClientPlan {
        ClientPlan { name: "it".to_owned(), kind, connect: super::super::phase::tests::connect(), max_age: Duration::ZERO, limit: None }
    }

    #[test]
    fn connections_are_those_that_were_opened_and_replication_has_neither_driver_nor_connections() {
        let reused = Attempt { fresh: false, ..attempt(20, true) };
        let attempts = [&attempt(0, true), &reused, &attempt(40, false)];
        let pool = client_record(&plan(ClientKind::Pool), &attempts);
        assert_eq!((pool.driver.as_deref(), pool.connections), (Some("libpq-17"), 2));
        let replication = client_record(&plan(ClientKind::Replication), &attempts);
        assert_eq!((replication.driver, replication.connections), (None, 0));
    }

    #[test]
    fn the_latency_is_of_the_attempts_that_were_served_alone() {
        let took = |from, milliseconds| Attempt { result: Ok(Duration::from_millis(milliseconds)), ..attempt(from, true) };
        let attempts = [&took(0, 9), &attempt(20, false), &took(40, 1), &took(60, 2), &took(80, 70)];
        assert_eq!(client_record(&plan(ClientKind::New), &attempts).latency, Some(Latency { p50_ms: 9.0, max_ms: 70.0 }));
        assert_eq!(client_record(&plan(ClientKind::New), &attempts[..4]).latency, Some(Latency { p50_ms: 2.0, max_ms: 9.0 }));
        assert_eq!(client_record(&plan(ClientKind::New), &[&attempt(0, false)]).latency, None);
    }

    #[test]
    fn the_ends_of_an_outage_are_known_to_the_longer_of_the_gaps_around_them() {
        let known = |attempts: &[Attempt]| record(attempts).outages.iter().map(|outage| outage.known_to_ms).collect::<Vec<_>>();
        assert_eq!(known(&[attempt(0, true), attempt(50, false), attempt(60, true)]), [50.0], "before it");
        assert_eq!(known(&[attempt(0, true), attempt(10, false), attempt(60, true)]), [50.0], "behind it");
        assert_eq!(known(&[attempt(10, false), attempt(11, true)]), [1.0], "nothing was before it");
        assert_eq!(
            known(&[attempt(0, true), attempt(10, false), attempt(90, false), attempt(95, true)]),
            [10.0],
            "what is within it does not count"
        );
    }

    #[test]
    fn a_bound_counts_all_outages_together() {
        // 24 ms twice.
        let twice = record(&[attempt(0, false), attempt(20, true), attempt(40, false), attempt(60, true)]);
        assert_eq!(bound_mismatch(OutageBound::AtMostMs(48), &twice, 0), None);
        let mismatch = bound_mismatch(OutageBound::AtMostMs(47), &twice, 3).expect("47 are too few");
        assert_eq!((mismatch.step, mismatch.what.as_str()), (3, "new: outage"));
        assert_eq!(mismatch.expected, "an outage of at most 47 ms that ends");
        let refusal = "alert: unknown-ca: SSL error: tlsv1 alert unknown ca";
        assert_eq!(mismatch.observed, format!("24 ms from 0 ms on ({refusal}); 24 ms from 40 ms on ({refusal})"));
        assert!(bound_mismatch(OutageBound::WithinMs(47), &twice, 0).is_some());
    }

    #[test]
    fn an_outage_that_lasts_and_none_at_all_are_said_in_words() {
        let open = record(&[attempt(0, true), attempt(20, false)]);
        let observed = |bound, record: &ClientRecord| bound_mismatch(bound, record, 0).map(|mismatch| mismatch.observed);
        assert_eq!(
            observed(OutageBound::None, &open).as_deref(),
            Some("to the end from 20 ms on (alert: unknown-ca: SSL error: tlsv1 alert unknown ca)")
        );
        let never = record(&[attempt(0, true), attempt(20, true)]);
        assert_eq!(observed(OutageBound::Open, &never).as_deref(), Some("none in 2 attempts"));
    }

    #[test]
    fn times_in_records_are_whole_microseconds() {
        assert_eq!(milliseconds(Duration::from_nanos(1_234_567)), 1.235);
        assert_eq!(milliseconds(Duration::from_secs(2)), 2000.0);
    }

    #[test]
    fn the_resolution_is_the_longest_gap_between_beginnings() {
        let plan = ClientPlan {
            name: "new".to_owned(),
            kind: ClientKind::Replication,
            connect: super::super::phase::tests::connect(),
            max_age: Duration::ZERO,
            limit: None,
        };
        let record = client_record(&plan, &[&attempt(0, true), &attempt(20, true), &attempt(65, false)]);
        assert_eq!(record.resolution_ms, Some(45.0));
        assert_eq!(client_record(&plan, &[&attempt(0, true)]).resolution_ms, None);
        assert_eq!(record.latency, Some(Latency { p50_ms: 4.0, max_ms: 4.0 }));
        assert_eq!((record.attempts, record.failures), (3, 1));
    }
}
