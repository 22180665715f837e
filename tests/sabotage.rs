//! The sabotage score: the shipped deployment is made wrong in the ways in which deployments go wrong, and each time the harness must say
//! so for the reason that is meant. The wrong deployments are data, in `tests/sabotage/`; its README says how to add one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;

use globset::Glob;
use load::{ScenarioSet, yaml};
use model::claim::Verdict;
use model::outcome::{Outcome, OutcomeKind};
use model::report::{CaseRecord, Report};
use serde::Deserialize;

use crate::support::{REPORT, harness, repository, shipped_manifests, skipped, write_manifests};

/// One wrong deployment.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sabotage {
    /// Its name, unique among all.
    id: String,
    /// What somebody did wrong, for the list of those that go unnoticed.
    title: String,
    /// What is changed in the shipped manifests.
    #[serde(default)]
    changes: Vec<Change>,
    /// Documents that stand beside them.
    #[serde(default)]
    add: Option<String>,
    /// The arguments of `mtls-conformance run` under which it must be noticed; a run of little is refused without them.
    #[serde(default)]
    run: Option<String>,
    said: Said,
}

/// A text of one object, replaced.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    /// `KIND/NAME` of the object.
    #[serde(rename = "in")]
    object: String,
    /// Must stand in it exactly once. Further lines are indented like the first.
    replace: String,
    /// What takes its place, indented in the same way.
    with: String,
}

/// What the harness must say.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Said {
    NotConformant(Failure),
    Refused(Refusal),
}

/// The run is not conformant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Failure {
    /// A pattern of ids of cases: one of them fails, all of which conform without the change.
    case: String,
    /// Each of these texts stands in one and the same mismatch of that case.
    says: Vec<String>,
    /// Claims that the run refutes, and does not without the change.
    #[serde(default)]
    refutes: Vec<String>,
}

/// The manifests are no input for a run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Refusal {
    /// `FILE:LINE:COLUMN`, below the manifests.
    at: String,
    says: String,
}

/// Folders of scenarios that need no sabotage, with the reason.
const WITHOUT: [(&str, &str); 2] = [
    ("container", "runs where there is a container engine; what it asks of the manifests others ask, too"),
    ("faults", "servers are killed and networks cut, whatever the manifests say: `broken_timelines.rs` leaves the faults out"),
];

fn folder() -> PathBuf {
    repository().join("tests/sabotage")
}

/// All of them, in the order of their files.
fn sabotages() -> Vec<Sabotage> {
    let files = std::fs::read_dir(folder()).expect("the folder").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = files.filter(|file| file.extension().is_some_and(|extension| extension == "yaml")).collect();
    files.sort();
    let read = |file: &PathBuf| -> Vec<Sabotage> {
        let text = yaml::read(file).expect("readable");
        yaml::one(file, &text).unwrap_or_else(|error| panic!("{error}"))
    };
    files.iter().flat_map(read).collect()
}

/// What keeps a change from being made.
#[derive(Debug, thiserror::Error)]
enum ChangeError {
    #[error("`{0}` is no KIND/NAME")]
    Name(String),
    #[error("there are {found} objects `{object}`, not one")]
    Objects { object: String, found: usize },
    #[error("{text:?} stands {found} times in {object}, not once")]
    Text { object: String, text: String, found: usize },
}

impl Change {
    /// Makes the change.
    fn apply(&self, files: &mut BTreeMap<PathBuf, String>) -> Result<(), ChangeError> {
        let object = || self.object.clone();
        let (kind, name) = self.object.split_once('/').ok_or_else(|| ChangeError::Name(object()))?;
        let is_meant = |document: &str| {
            let kind = document.lines().any(|line| line.strip_prefix("kind: ") == Some(kind));
            kind && document.contains(&format!("\nmetadata:\n  name: {name}\n"))
        };
        let mut made = 0;
        for text in files.values_mut() {
            let mut documents = Vec::new();
            for document in text.split("\n---\n") {
                if is_meant(document) {
                    made += 1;
                    documents.push(self.changed(document)?);
                } else {
                    documents.push(document.to_owned());
                }
            }
            *text = documents.join("\n---\n");
        }
        if made == 1 { Ok(()) } else { Err(ChangeError::Objects { object: object(), found: made }) }
    }

    /// The object's text with the change.
    fn changed(&self, document: &str) -> Result<String, ChangeError> {
        let from = self.replace.trim_end();
        let indented = |text: &str, indent: usize| text.trim_end().replace('\n', &format!("\n{}", " ".repeat(indent)));
        let mut found = Vec::new();
        let mut start = 0;
        for line in document.split_inclusive('\n') {
            let indent = line.len() - line.trim_start_matches(' ').len();
            let wanted = indented(from, indent);
            let first = wanted.lines().next().unwrap_or_default();
            // A comment says nothing.
            let is_comment = line[indent..].starts_with('#');
            for (offset, _) in line.match_indices(first).filter(|_| !is_comment) {
                if document[start + offset..].starts_with(&wanted) {
                    found.push((start + offset, wanted.len(), indent));
                }
            }
            start += line.len();
        }
        match found.as_slice() {
            [(at, length, indent)] => Ok(format!("{}{}{}", &document[..*at], indented(&self.with, *indent), &document[at + length..])),
            _ => Err(ChangeError::Text { object: self.object.clone(), text: self.replace.clone(), found: found.len() }),
        }
    }
}

impl Sabotage {
    fn manifests(&self) -> BTreeMap<PathBuf, String> {
        let mut files = shipped_manifests();
        let unchanged = files.clone();
        for change in &self.changes {
            change.apply(&mut files).unwrap_or_else(|error| panic!("{}: {error}", self.id));
        }
        if let Some(added) = &self.add {
            files.insert(PathBuf::from("90-added.yaml"), added.clone());
        }
        assert_ne!(files, unchanged, "{} changes nothing", self.id);
        files
    }

    fn run(&self) -> String {
        let little = || format!("--only-given-scenarios --scenarios {}", repository().join("tests/bad/base").display());
        self.run.clone().unwrap_or_else(little)
    }
}

/// What a run of the harness came to.
struct Seen {
    code: i32,
    said: String,
    /// None was written where the manifests were refused.
    report: Option<Report>,
}

fn seen(files: &BTreeMap<PathBuf, String>, run: &str) -> Seen {
    let directory = tempfile::tempdir().expect("a directory");
    write_manifests(&directory.path().join("manifests"), files);
    let args: Vec<&str> = ["run", "--manifests", "manifests"].into_iter().chain(REPORT).chain(run.split_whitespace()).collect();
    let output = harness(directory.path(), &args).output().expect("the harness runs");
    let report = std::fs::read(directory.path().join("report.json")).ok();
    Seen {
        code: output.status.code().expect("a code"),
        said: String::from_utf8_lossy(&output.stderr).into_owned(),
        report: report.map(|report| serde_json::from_slice(&report).expect("a report")),
    }
}

/// Makes every job, two at a time for each processor: most of a run is waiting for servers.
fn side_by_side<J: Sync, R: Send>(jobs: &[J], make: impl Fn(&J) -> R + Sync) -> Vec<R> {
    let next = Mutex::new(0..jobs.len());
    let made = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(4, |processors| 2 * processors.get()).min(16);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let Some(index) = next.lock().expect("not poisoned").next() else { return };
                    let result = make(&jobs[index]);
                    made.lock().expect("not poisoned").push((index, result));
                }
            });
        }
    });
    let mut made = made.into_inner().expect("not poisoned");
    made.sort_by_key(|(index, _)| *index);
    made.into_iter().map(|(_, result)| result).collect()
}

/// How a sabotage ended.
#[derive(Debug, PartialEq, Eq)]
enum Score {
    Noticed,
    /// Why not.
    Unnoticed(String),
    /// What is not installed.
    NotTried(String),
}

fn matching<'a>(report: &'a Report, pattern: &str) -> Vec<&'a CaseRecord> {
    let glob = Glob::new(pattern).expect("a pattern").compile_matcher();
    report.cases.iter().filter(|case| glob.is_match(&case.id)).collect()
}

/// What a case says of each thing that was seen otherwise than expected.
fn said_of(case: &CaseRecord) -> Vec<String> {
    match &case.outcome {
        Outcome::Fail(mismatches) => mismatches
            .iter()
            .map(|mismatch| format!("{}: expected {}, observed {}", mismatch.what, mismatch.expected, mismatch.observed))
            .collect(),
        Outcome::UnexpectedPass { deviation } => vec![format!("the deviation {deviation} is not seen any more")],
        _ => Vec::new(),
    }
}

fn refuted(report: &Report, id: &str) -> bool {
    report.claims.iter().any(|claim| claim.id == id && claim.verdict == Verdict::Refuted)
}

impl Failure {
    fn score(&self, control: &Seen, seen: &Seen) -> Score {
        let Some(unchanged) = &control.report else { return Score::Unnoticed(format!("without it there is no report: {}", control.said)) };
        let before = matching(unchanged, &self.case);
        if let Some(Outcome::Skipped(reason)) =
            before.iter().map(|case| &case.outcome).find(|outcome| outcome.kind() == OutcomeKind::Skipped)
        {
            return Score::NotTried(reason.to_string());
        }
        if control.code != 0 || before.is_empty() {
            return Score::Unnoticed(format!(
                "without it the run ends with {} and {} of these cases: {}",
                control.code,
                before.len(),
                control.said
            ));
        }
        let Some(report) = seen.report.as_ref().filter(|_| seen.code == 1) else {
            return Score::Unnoticed(format!("the run ended with {}, not with 1: {}", seen.code, seen.said));
        };
        let cases = matching(report, &self.case);
        let noticed = cases.iter().flat_map(|case| said_of(case)).any(|said| self.says.iter().all(|text| said.contains(text)));
        if !noticed {
            let said: Vec<String> = cases.iter().map(|case| format!("{} {:?}", case.id, case.outcome)).collect();
            return Score::Unnoticed(format!("no mismatch says {:?}:\n    {}", self.says, said.join("\n    ")));
        }
        match self.refutes.iter().find(|claim| refuted(unchanged, claim) || !refuted(report, claim)) {
            Some(claim) => Score::Unnoticed(format!("the claim {claim} is refuted without it, too, or not by it")),
            None => Score::Noticed,
        }
    }
}

impl Refusal {
    fn score(&self, seen: &Seen) -> Score {
        let line = seen.said.lines().find(|line| line.contains(&format!("manifests/{}", self.at)));
        if seen.code == 2 && line.is_some_and(|line| line.contains(&self.says)) {
            return Score::Noticed;
        }
        Score::Unnoticed(format!("no refusal at {} says {:?}; the run ended with {}: {}", self.at, self.says, seen.code, seen.said))
    }
}

#[test]
fn every_wrong_deployment_is_noticed_for_its_reason() {
    let sabotages = sabotages();
    // First of all, so that a change that can't be made is told at once.
    let wrong: Vec<(&Sabotage, BTreeMap<PathBuf, String>)> = sabotages.iter().map(|sabotage| (sabotage, sabotage.manifests())).collect();
    let runs: BTreeSet<String> =
        sabotages.iter().filter(|sabotage| matches!(sabotage.said, Said::NotConformant(_))).map(Sabotage::run).collect();
    // Without a control a run that fails says nothing.
    let controls = side_by_side(&runs.into_iter().collect::<Vec<_>>(), |run| (run.clone(), seen(&shipped_manifests(), run)));
    let controls: BTreeMap<String, Seen> = controls.into_iter().collect();
    let scores = side_by_side(&wrong, |(sabotage, manifests)| {
        let seen = seen(manifests, &sabotage.run());
        match &sabotage.said {
            Said::Refused(refusal) => refusal.score(&seen),
            Said::NotConformant(failure) => failure.score(&controls[&sabotage.run()], &seen),
        }
    });
    let mut unnoticed = Vec::new();
    let mut tried = 0;
    for (sabotage, score) in sabotages.iter().zip(&scores) {
        match score {
            Score::NotTried(reason) => {
                assert!(std::env::var_os("CI").is_none(), "in CI everything is there: {}: {reason}", sabotage.id);
                skipped(&format!("{}: {reason}", sabotage.id));
                continue;
            }
            Score::Unnoticed(why) => unnoticed.push(format!("{} ({}): {why}", sabotage.id, sabotage.title)),
            Score::Noticed => {}
        }
        tried += 1;
    }
    // Past libtest's capture: the score is to be read also where all is well.
    let line = format!("sabotage score: {} of {tried} wrong deployments are noticed for their reason", tried - unnoticed.len());
    let _ = writeln!(std::io::stderr(), "{line}");
    assert!(unnoticed.is_empty(), "{line}; these are not:\n{}", unnoticed.join("\n"));
    assert!(sabotages.len() >= 40, "only {}", sabotages.len());
}

#[test]
fn every_folder_of_scenarios_that_asks_something_of_the_manifests_has_a_sabotage() {
    let set = ScenarioSet::load(&[repository().join("scenarios")]).expect("our own scenarios");
    let folder = |id: &str| id.split_once('/').map_or(id, |(folder, _)| folder).to_owned();
    let folders: BTreeSet<String> = set.scenarios.iter().map(|loaded| folder(&loaded.scenario.id.raw())).collect();
    let noticed_by = |sabotage: &Sabotage| match &sabotage.said {
        Said::NotConformant(failure) => Some(folder(&failure.case)),
        Said::Refused(_) => None,
    };
    let mut covered: BTreeSet<String> = sabotages().iter().filter_map(noticed_by).collect();
    for (without, reason) in WITHOUT {
        assert!(folders.contains(without) && !covered.contains(without), "{without} is left out for no reason any more: {reason}");
        covered.insert(without.to_owned());
    }
    let missing: Vec<_> = folders.difference(&covered).collect();
    assert!(missing.is_empty(), "add a wrong deployment to tests/sabotage/ that scenarios of these notice: {missing:?}");
}

#[test]
fn the_names_of_sabotages_are_their_own() {
    let sabotages = sabotages();
    let ids: BTreeSet<&str> = sabotages.iter().map(|sabotage| sabotage.id.as_str()).collect();
    assert_eq!(ids.len(), sabotages.len(), "two have one name");
}

#[test]
fn a_change_that_can_not_be_made_or_is_not_unique_is_an_error() {
    let change = |object: &str, replace: &str| {
        let change = Change { object: object.to_owned(), replace: replace.to_owned(), with: "x".to_owned() };
        change.apply(&mut shipped_manifests()).map_err(|error| error.to_string())
    };
    change("Cluster/nautobot-cluster", "- hostssl all all 0.0.0.0/0 cert").expect("once");
    assert!(change("Cluster/nautobot-cluster", "mtls-ca-cert").expect_err("twice").contains("stands 2 times"));
    assert!(change("Cluster/nautobot-cluster", "postgres_hba").expect_err("never").contains("stands 0 times"));
    assert!(change("Cluster/other", "app").expect_err("no object").contains("there are 0 objects"));
    assert!(change("Certificate/nautobot-mtls-client", "usages:\n  - client auth").is_ok(), "indented like its first line");
}
