//! The terminal reporter: progress and failures while the run goes on, a summary when it is finished.

mod style;
mod summary;

use std::io::{self, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use style::Emphasis;
pub use style::Style;

use super::failure::{self, Part};
use super::tally::Tally;
use super::text::plural;
use model::report::{CaseRecord, EnvironmentRecord};
use os::redact::Redactor;
use run::event::{Event, Reporter};

const COLOURED_BAR: &str = "{elapsed} {wide_bar:.green} {pos}/{len} cases, {per_sec:.0} {msg:.red} {prefix:.dim}";
const PLAIN_BAR: &str = "{elapsed} {wide_bar} {pos}/{len} cases, {per_sec:.0} {msg} {prefix}";

/// What writing to a terminal gives that was closed: EIO.
const GONE: i32 = 5;

/// Without a progress bar, a line says how far the run is after this number of cases.
const CASES_A_LINE: usize = 2000;

/// Failures that differ and are shown at once; later ones, and equal ones, are counted.
const SHOWN_FAILURES: usize = 50;

/// Writes to a terminal or a log.
pub struct Terminal {
    out: Box<dyn Write + Send>,
    style: Style,
    redactor: Redactor,
    tally: Tally,
    planned: usize,
    bar: Option<ProgressBar>,
}

impl Terminal {
    /// On standard error, with colour and a progress bar where that is a terminal.
    #[must_use]
    pub fn stderr(redactor: Redactor) -> Self {
        Self::new(Box::new(io::stderr()), Style::of_stderr(), redactor)
    }

    /// On any writer. The progress bar, where `style` wants one, goes to standard error all the same.
    #[must_use]
    pub fn new(out: Box<dyn Write + Send>, style: Style, redactor: Redactor) -> Self {
        Self { out, style, redactor, tally: Tally::default(), planned: 0, bar: None }
    }

    /// Writes lines above the progress bar.
    fn say(&mut self, text: &str) -> io::Result<()> {
        let text = self.redactor.text(text);
        let out = &mut self.out;
        let mut write = || out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
        let written = match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        };
        match written {
            // Whoever read it has seen enough, as `head` has, or the terminal is gone: the run and its reports go on.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe || error.raw_os_error() == Some(GONE) => Ok(()),
            written => written,
        }
    }

    fn started(&mut self, environment: &EnvironmentRecord, planned: usize) -> io::Result<()> {
        self.planned = planned;
        let title = format!("{} on the {} environment ({})", plural(planned, "case"), environment.name, environment.platform);
        let mut lines = vec![self.style.paint(Emphasis::Head, &title)];
        let found: Vec<String> = environment
            .components
            .iter()
            .filter_map(|component| {
                let tls = component.tls_library.as_ref().map(|library| format!(" ({library})")).unwrap_or_default();
                component.version.as_ref().map(|version| format!("{} {version}{tls}", component.name))
            })
            .collect();
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        let drivers: Vec<&str> = environment.drivers.iter().map(|driver| driver.name.as_str()).collect();
        let width = usize::from(self.style.width);
        for (title, words) in [("found", found), ("drivers", drivers)] {
            for (index, line) in super::text::fill(&words, ", ", "", width.saturating_sub(12), 4).into_iter().enumerate() {
                lines.push(format!("  {:<8}  {line}", if index == 0 { title } else { "" }));
            }
        }
        if let Some(users) = &environment.users {
            lines.push(format!("  {:<8}  {}", "users", users.line()));
        }
        for component in &environment.components {
            if let Some(missing) = &component.missing {
                lines.push(format!("  {}  {}: {missing}", self.style.paint(Emphasis::Odd, "missing "), component.name));
            }
        }
        self.say(&lines.join("\n"))?;
        if self.style.progress {
            self.bar = Some(progress_bar(planned, self.style));
        }
        Ok(())
    }

    fn finished_case(&mut self, case: &CaseRecord) -> io::Result<()> {
        let known = self.tally.groups.len();
        self.tally.add(case);
        let first = self.tally.groups.len() > known;
        let kind = case.outcome.kind();
        if kind.is_failure() || kind.is_error() {
            let shown = self.tally.groups.len();
            if !first {
                // Its equal has been shown; the summary counts both.
            } else if shown <= SHOWN_FAILURES {
                self.say(&self.block(case))?;
            } else if shown == SHOWN_FAILURES + 1 {
                self.say("more cases fail: they are counted from here on, and all of them are in the json report")?;
            }
        }
        if let Some(bar) = &self.bar {
            if shows_failures(&self.tally) {
                bar.set_message(failures(&self.tally));
            }
            bar.inc(1);
        } else if self.tally.cases.is_multiple_of(CASES_A_LINE) && self.tally.cases < self.planned {
            let failures = if shows_failures(&self.tally) { format!(", {}", failures(&self.tally)) } else { String::new() };
            self.say(&format!("{} of {} done{failures}", self.tally.cases, plural(self.planned, "case")))?;
        }
        Ok(())
    }

    fn block(&self, case: &CaseRecord) -> String {
        let lines: Vec<String> = failure::lines(case)
            .into_iter()
            .map(|(part, line)| match part {
                Part::Title => self.style.paint(Emphasis::Bad, &line),
                Part::Expected => self.style.paint(Emphasis::Good, &line),
                Part::Observed => self.style.paint(Emphasis::Odd, &line),
                Part::OfCase | Part::Plain => line,
            })
            .collect();
        lines.join("\n")
    }
}

impl Reporter for Terminal {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::RunStarted { environment, planned, started_at: _ } => self.started(environment, *planned),
            Event::ServerReady { name, took } => match &self.bar {
                // The bar has it: a run starts dozens.
                Some(bar) => {
                    bar.set_prefix(format!("{name} is ready"));
                    Ok(())
                }
                None => {
                    let line = format!("  ready     {name}, {:.2} s", took.as_secs_f64());
                    self.say(&self.style.paint(Emphasis::Faint, &line))
                }
            },
            Event::TimelinesStarted { planned } => match &self.bar {
                Some(bar) => {
                    bar.set_prefix(format!("{} at their clients' pace", plural(*planned, "timeline")));
                    Ok(())
                }
                None => {
                    let line = format!("  timelines {planned}, at their clients' pace");
                    self.say(&self.style.paint(Emphasis::Faint, &line))
                }
            },
            Event::CaseStarted { id: _ } => Ok(()),
            Event::CaseFinished(case) => self.finished_case(case),
            Event::LeftBehind(left) => self.say(&format!("{} {left}", self.style.paint(Emphasis::Bad, "LEFT BEHIND"))),
            Event::Warning(warning) => self.say(&format!("{} {warning}", self.style.paint(Emphasis::Odd, "WARNING"))),
            Event::Problem(problem) => self.say(&format!("{} {problem}", self.style.paint(Emphasis::Bad, "PROBLEM"))),
            Event::RunFinished(summary) => {
                if let Some(bar) = self.bar.take() {
                    bar.finish_and_clear();
                }
                self.say(&summary::text(summary, &self.tally, self.style))
            }
        }
    }
}

fn shows_failures(tally: &Tally) -> bool {
    tally.failing + tally.erroring > 0
}

fn failures(tally: &Tally) -> String {
    match tally.erroring {
        0 => format!("{} failing", tally.failing),
        erroring => format!("{} failing, {erroring} errored", tally.failing),
    }
}

fn progress_bar(planned: usize, style: Style) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(planned as u64), ProgressDrawTarget::stderr());
    let template = if style.color { COLOURED_BAR } else { PLAIN_BAR };
    // A template that does not parse costs the look only; a test sees to it that it does.
    match ProgressStyle::with_template(template) {
        Ok(look) => bar.with_style(look),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::fixture;
    use model::claim::Verdict;
    use model::outcome::{ErrorKind, Outcome, SkipReason};

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no writer panics").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Writes nothing, and says why.
    struct Failing(i32);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(self.0))
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::Error::from_raw_os_error(self.0))
        }
    }

    #[test]
    fn a_closed_standard_error_ends_no_run_and_a_full_disk_is_an_error() {
        // EPIPE, EIO, ENOSPC.
        for (error, is_error) in [(32, false), (GONE, false), (28, true)] {
            let mut terminal = Terminal::new(Box::new(Failing(error)), Style::plain(100), Redactor::default());
            let failed = fixture::events().iter().any(|event| terminal.event(event).is_err());
            assert_eq!(failed, is_error, "{}", io::Error::from_raw_os_error(error));
        }
    }

    fn said(style: Style, redactor: Redactor, events: &[Event]) -> String {
        let out = Shared::default();
        let mut terminal = Terminal::new(Box::new(out.clone()), style, redactor);
        for event in events {
            terminal.event(event).expect("writes to memory");
        }
        let bytes = out.0.lock().expect("no writer panics").clone();
        String::from_utf8(bytes).expect("is text")
    }

    #[test]
    fn a_run_with_every_outcome_reads_well() {
        insta::assert_snapshot!(said(Style::plain(100), Redactor::default(), &fixture::events()));
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_but_for_ids_and_commands() {
        let text = said(Style::plain(80), Redactor::default(), &fixture::events());
        let summary = &text[text.find("Outcomes").expect("the summary is there")..];
        for line in summary.lines().filter(|line| !line.contains("postgres/")) {
            assert!(line.chars().count() <= 80, "{}: {line}", line.chars().count());
        }
    }

    #[test]
    fn colour_is_only_where_it_is_wanted() {
        let plain = said(Style::plain(100), Redactor::default(), &fixture::events());
        assert!(!plain.contains('\u{1b}'));
        let coloured = said(Style { color: true, ..Style::plain(100) }, Redactor::default(), &fixture::events());
        assert!(coloured.contains("\u{1b}[31;1mFAIL postgres/sslmode"), "{coloured}");
        let mut stripped = String::new();
        let mut rest = coloured.as_str();
        while let Some((before, after)) = rest.split_once('\u{1b}') {
            stripped.push_str(before);
            rest = after.split_once('m').expect("every code ends").1;
        }
        stripped.push_str(rest);
        assert_eq!(stripped, plain, "colour changes nothing else");
    }

    #[test]
    fn secrets_do_not_reach_the_terminal() {
        let mut case = fixture::cases().remove(0);
        case.outcome = Outcome::Errored { kind: ErrorKind::Start, text: "password hunter22 refused".to_owned() };
        let events = [Event::CaseFinished(Box::new(case)), Event::Problem("hunter22".to_owned())];
        let text = said(Style::plain(100), Redactor::new(["hunter22"]), &events);
        assert!(!text.contains("hunter22") && text.contains("password *** refused") && text.contains("PROBLEM ***"), "{text}");
    }

    #[test]
    fn many_failures_are_counted_after_the_first_ones() {
        let mut case = fixture::cases().remove(0);
        let events: Vec<Event> = (0..SHOWN_FAILURES * 2)
            .map(|index| {
                case.id = format!("x:{index}");
                case.outcome = Outcome::Errored { kind: ErrorKind::Start, text: format!("no server {index}") };
                Event::CaseFinished(Box::new(case.clone()))
            })
            .collect();
        let text = said(Style::plain(100), Redactor::default(), &events);
        assert_eq!(text.matches("ERRORED (start) x:").count(), SHOWN_FAILURES);
        assert_eq!(text.matches("more cases fail").count(), 1);
    }

    #[test]
    fn rates_are_of_cases_that_ran_over_the_whole_run() {
        let mut events = fixture::events();
        let Some(Event::RunFinished(summary)) = events.last_mut() else { panic!("the summary is the last event") };
        summary.totals.wall_seconds = 0.1;
        let ran = fixture::cases().iter().filter(|case| !matches!(case.outcome, Outcome::Skipped(_))).count();
        let text = said(Style::plain(100), Redactor::default(), &events);
        assert!(text.contains(&format!("0.1 s for the whole run: {} cases/s, ", ran * 10)), "{ran}: {text}");
    }

    #[test]
    fn after_a_run_of_some_cases_their_claims_are_shown_and_the_others_are_a_number() {
        let mut events = fixture::events();
        let Some(Event::RunFinished(summary)) = events.last_mut() else { panic!("the summary is the last event") };
        let other = summary.claims.iter_mut().find(|claim| claim.verdict == Verdict::NotExercised).expect("one");
        other.cases.clear();
        other.reason = Some(check::ledger::NOT_SELECTED.to_owned());
        let id = other.id.clone();
        let text = said(Style::plain(100), Redactor::default(), &events);
        assert!(text.contains("\nClaims of the selected cases: "), "{text}");
        assert!(text.contains("\n  1 other claim: no selected case bears on it (the json report has all)\n"), "{text}");
        assert!(!text.contains(&id), "{text}");
    }

    #[test]
    fn equal_failures_are_one_block_and_a_count() {
        let mut case = fixture::cases().remove(0);
        let mut events: Vec<Event> = ["a", "b", "c", "d", "e"]
            .iter()
            .enumerate()
            .map(|(index, name)| {
                case.id = format!("postgres/unset:driver={name}");
                case.repro = format!("mtls-conformance run '{}'", case.id);
                case.evidence = Some(format!("reports/evidence/{name}"));
                let port = 40_000 + index;
                let what = if *name == "d" { "no route to host" } else { "connection refused" };
                let kind = if *name == "e" { ErrorKind::Lost } else { ErrorKind::Start };
                let text = format!("127.0.0.1:{port}: {what}; the log is /tmp/run-{index}/postgres/log after {index} ms");
                case.outcome = Outcome::Errored { kind, text };
                Event::CaseFinished(Box::new(case.clone()))
            })
            .collect();
        events.push(Event::RunFinished(Box::new(fixture::summary())));
        let text = said(Style::plain(100), Redactor::default(), &events);
        let (blocks, summary) = text.split_once("\nOutcomes").expect("a summary");
        let (_, failed) = summary.split_once("\nFailed and errored cases").expect("failures");
        let (failed, _) = failed.split_once("\n\n").expect("more follows");
        insta::assert_snapshot!(format!("{blocks}\n--\n{failed}"));
    }

    #[test]
    fn without_a_progress_bar_a_line_comes_every_so_often() {
        let mut case = fixture::cases().remove(0);
        case.outcome = Outcome::Skipped(SkipReason::FailFast);
        let mut events = vec![Event::RunStarted {
            environment: Box::new(fixture::environment()),
            planned: 4000,
            started_at: fixture::STARTED.to_owned(),
        }];
        events.extend((0..4000).map(|_| Event::CaseFinished(Box::new(case.clone()))));
        let text = said(Style::plain(100), Redactor::default(), &events);
        assert_eq!(text.lines().filter(|line| *line == "2000 of 4000 cases done").count(), 1, "{text}");
        assert!(!text.contains("4000 of 4000"), "the summary says so");
    }

    #[test]
    fn the_progress_bar_has_its_look() {
        for template in [COLOURED_BAR, PLAIN_BAR] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
