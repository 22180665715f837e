//! One unsound case in a few lines: expected, observed by each witness, where the evidence is, how to repeat it.

use std::sync::LazyLock;

use regex::Regex;

use super::text::{clip, plural};
use check::short::{by_connection, short_form};
use model::observation::{ClientObservation, ClientOutcome, LogLine, Observation};
use model::outcome::Outcome;
use model::report::{CaseRecord, StepRecord};
use model::text::name_of;
use model::timeline::record::TimelineRecord;
use model::wire::WireTrace;

/// Characters of one foreign text.
const TEXT: usize = 240;
/// Characters of one line of the server's log, and of one of its DETAIL: that of a refusal quotes a rule with the path of its file.
const LOG_TEXT: usize = 480;
/// Log lines of one connection: its last ones, which say how it ended.
const LOG_LINES: usize = 4;
/// Connections of one client whose log lines are shown: its last ones.
const LOG_CONNECTIONS: usize = 3;
/// Lines of one error: it quotes the last lines of a log, and its end names that log.
const ERROR_LINES: usize = 16;
/// Characters of one line of an error: it begins with the whole command that failed.
const ERROR_TEXT: usize = 1000;
/// Mismatches of one case.
const MISMATCHES: usize = 8;

/// What a line is, so that a terminal can colour it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The first line: what came of the case, and its id.
    Title,
    /// What the scenario or the deviation expects.
    Expected,
    /// What client, server or wire showed instead, or the text of an error.
    Observed,
    /// Where this one case's evidence is, and how to repeat it.
    OfCase,
    /// Neither: witnesses, phases, outages.
    Plain,
}

/// The lines about a case that failed, passed unexpectedly, errored or timed out; none about others.
pub(crate) fn lines(case: &CaseRecord) -> Vec<(Part, String)> {
    let mut lines = vec![(Part::Title, title(case))];
    match &case.outcome {
        Outcome::Pass | Outcome::Deviates { .. } | Outcome::Skipped(_) => return Vec::new(),
        Outcome::Fail(mismatches) => {
            for mismatch in mismatches.iter().take(MISMATCHES) {
                let step = place(case, mismatch.step);
                lines.push((Part::Plain, format!("  {}: {}{step}", name_of(&mismatch.witness), mismatch.what)));
                lines.push((Part::Expected, format!("    expected  {}", clip(&mismatch.expected, TEXT))));
                lines.push((Part::Observed, format!("    observed  {}", clip(&mismatch.observed, TEXT))));
            }
            if mismatches.len() > MISMATCHES {
                lines.push((Part::Plain, format!("  ... and {} more in the json report", mismatches.len() - MISMATCHES)));
            }
            let step = mismatches.first().and_then(|first| case.steps.get(first.step)).or(case.steps.last());
            lines.extend(step.map(witnesses).unwrap_or_default());
        }
        Outcome::UnexpectedPass { deviation } => {
            lines.push((Part::Expected, format!("  expected  the known deviation `{deviation}`")));
            lines.push((Part::Observed, "  observed  what the document says: narrow or remove the deviation".to_owned()));
        }
        Outcome::Errored { text, .. } | Outcome::TimedOut(text) => {
            lines.extend(text.lines().take(ERROR_LINES).map(|line| (Part::Observed, format!("  {}", clip(line, ERROR_TEXT)))));
        }
    }
    if let Some(timeline) = &case.timeline {
        lines.extend(course(timeline));
    }
    if let Some(evidence) = &case.evidence {
        lines.push((Part::OfCase, format!("  evidence  {evidence}")));
    }
    if let Some(error) = &case.evidence_error {
        let what = if case.evidence.is_some() { "is not complete" } else { "could not be kept" };
        lines.push((Part::OfCase, format!("  evidence  {what}: {}", clip(error, ERROR_TEXT))));
    }
    lines.push((Part::OfCase, format!("  repeat    {}", case.repro)));
    lines
}

/// What came of the case, and its id: `ERRORED (start) postgres/unset:driver=rustls`.
fn title(case: &CaseRecord) -> String {
    format!("{} {}", heading(case), case.id)
}

/// The outcome, for an error what failed: `ERRORED (start)`.
fn heading(case: &CaseRecord) -> String {
    let name = case.outcome.kind().name().to_uppercase();
    match &case.outcome {
        Outcome::Errored { kind, .. } => format!("{name} ({kind})"),
        _ => name,
    }
}

/// What equal failures have in common: all lines but those that name the case, without ports, paths and times, which differ from case to case.
pub(crate) fn signature(case: &CaseRecord) -> String {
    static VARYING: LazyLock<[(Regex, &str); 3]> = LazyLock::new(|| {
        [
            (r"(^|[\s`'\x22(=])\.{0,2}(/[\w.@+=,:-]+){2,}", "${1}PATH"),
            (r"(port[ =]|:)\d{2,5}\b", "${1}PORT"),
            (r"\b\d+(\.\d+)? ?(ms|s)\b", "TIME"),
        ]
        .map(|(pattern, name)| (Regex::new(pattern).expect("a valid pattern, as a test shows"), name))
    });
    let common = lines(case).into_iter().filter(|(part, _)| !matches!(part, Part::Title | Part::OfCase)).map(|(_, line)| line);
    let text: String = std::iter::once(heading(case)).chain(common).map(|line| line + "\n").collect();
    VARYING.iter().fold(text, |text, (varying, name)| varying.replace_all(&text, *name).into_owned())
}

/// A failure in one line, without the case.
pub(crate) fn headline(case: &CaseRecord) -> String {
    let said = lines(case).into_iter().filter(|(part, _)| !matches!(part, Part::Title | Part::OfCase));
    clip(&said.map(|(_, line)| line).take(3).collect::<Vec<_>>().join(" "), TEXT)
}

/// Which step or phase, where there are several.
fn place(case: &CaseRecord, index: usize) -> String {
    match case.timeline.as_ref().and_then(|timeline| timeline.phases.get(index)) {
        Some(phase) => format!(" in phase {}, `{}`", index + 1, phase.title),
        None if case.steps.len() > 1 => format!(" of step {}", index + 1),
        None => String::new(),
    }
}

/// A case that failed, passed unexpectedly, errored or timed out, as one text without colours; empty for others.
#[must_use]
pub fn block(case: &CaseRecord) -> String {
    lines(case).into_iter().map(|(_, line)| line + "\n").collect()
}

/// A timeline's phases with what was done and seen in them, and its outages.
fn course(timeline: &TimelineRecord) -> Vec<(Part, String)> {
    let mut lines = Vec::new();
    for (index, phase) in timeline.phases.iter().enumerate() {
        let changes = if phase.changes.is_empty() { String::new() } else { format!(" ({})", phase.changes.join("; ")) };
        let what = clip(&format!("at {:.0} ms: {}{changes}", phase.from_ms, phase.title), TEXT);
        lines.push(format!("  phase {:<3} {what}", index + 1));
        let seen = phase.observed.iter().map(|(client, seen)| format!("{client}: {}", seen.join(", ")));
        lines.push(format!("            {}", seen.collect::<Vec<_>>().join(" | ")));
    }
    for client in &timeline.clients {
        for outage in &client.outages {
            let to = outage.to_ms.map_or_else(|| "the end".to_owned(), |to| format!("{to:.0} ms"));
            let text = clip(&format!("{}: from {:.0} ms to {to}: {}", client.name, outage.from_ms, outage.text), TEXT);
            lines.push(format!("  outage    {text}"));
        }
    }
    lines.into_iter().map(|line| (Part::Plain, line)).collect()
}

fn witnesses(step: &StepRecord) -> Vec<(Part, String)> {
    let mut lines = Vec::new();
    if let Some(observed) = &step.observed {
        lines.extend(witnesses_of(observed));
    }
    if let Some(command) = &step.command {
        lines.push(format!("  ran       {}", clip(command, TEXT)));
    }
    if let Some(output) = &step.output {
        lines.push(format!("  printed   {}", clip(output, TEXT)));
    }
    lines.into_iter().map(|line| (Part::Plain, line)).collect()
}

fn witnesses_of(observed: &Observation) -> Vec<String> {
    let mut lines = vec![format!("  client    {}", client(&observed.client))];
    if !observed.client.settings.is_empty() {
        let settings: Vec<String> = observed.client.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        lines.push(format!("  settings  {}", clip(&settings.join(" "), TEXT)));
    }
    lines.extend(server_lines(&observed.server_log));
    lines.extend(observed.wire.as_ref().map(|trace| format!("  wire      {}", wire(trace))));
    lines
}

fn client(observation: &ClientObservation) -> String {
    let mut text = short_form(observation);
    let mut say = |part: String| {
        text.push_str(", ");
        text.push_str(&part);
    };
    match &observation.outcome {
        ClientOutcome::Session(session) => {
            if let Some(version) = session.version {
                say(version.name().to_owned());
            }
            if let Some(view) = &session.server_view {
                if view.ssl != session.tls {
                    say(format!("pg_stat_ssl.ssl={}", view.ssl));
                }
                if let Some(user) = &view.user {
                    say(format!("user {user}"));
                }
                say(view.client_dn.as_ref().map_or_else(|| "no client certificate".to_owned(), |dn| format!("client DN {dn}")));
            }
        }
        ClientOutcome::Refused(refused) => {
            if let Some(stage) = refused.stage {
                say(format!("at {}", name_of(&stage)));
            }
            if !refused.text.trim().is_empty() {
                text.push_str(": ");
                text.push_str(&clip(&refused.text, TEXT));
            }
        }
    }
    text
}

/// The last lines of the server's log of each connection.
fn server_lines(log: &[LogLine]) -> Vec<String> {
    if log.is_empty() {
        return vec!["  server    logged nothing of this connection".to_owned()];
    }
    let connections = by_connection(log);
    let mut shown = Vec::new();
    let earlier = connections.len().saturating_sub(LOG_CONNECTIONS);
    if earlier > 0 {
        shown.push(format!("  server    ... before, the lines of {}", plural(earlier, "other connection")));
    }
    for lines in &connections[earlier..] {
        let earlier = lines.len().saturating_sub(LOG_LINES);
        if earlier > 0 {
            shown.push(format!("  server    ... after {}", plural(earlier, "earlier line")));
        }
        shown.extend(lines[earlier..].iter().flat_map(|line| log_line(line)));
    }
    shown
}

fn log_line(line: &LogLine) -> Vec<String> {
    let code = line.sqlstate.as_ref().filter(|code| *code != "00000").map(|code| format!(" {code}")).unwrap_or_default();
    let message = format!("  server    {}", clip(&format!("{}{code}: {}", line.severity, line.message), LOG_TEXT));
    let detail = line.detail.iter().flat_map(|detail| detail.lines()).filter(|detail| !detail.trim().is_empty());
    std::iter::once(message).chain(detail.map(|detail| format!("            DETAIL: {}", clip(detail, LOG_TEXT)))).collect()
}

fn wire(trace: &WireTrace) -> String {
    if trace.connections.is_empty() {
        return "no connection".to_owned();
    }
    clip(&trace.events().iter().map(name_of).collect::<Vec<_>>().join(" "), TEXT)
}
