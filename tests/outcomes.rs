//! Every outcome that a case can have and every exit code, driven by fakes; where an exit code needs no server, by the binary itself.
//! (Those that need real ones: 1 in `wrong_on_purpose`, 3 in `broken_environments`, 5 in `leaks`.)

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use environment::{ConfigureCause, EnvironmentError, LostCause, StartCause};
use model::claim::Verdict;
use model::network::{Network, NetworkName};
use model::outcome::{ErrorKind, Outcome, OutcomeKind, SkipReason, Witness};
use report::run_result::RunResult;
use run::event::Event;
use run::schedule::ScheduleOptions;

use crate::support::fakes::DRIVER;
use crate::support::harness_says;
use crate::support::world::{Ran, World};

#[tokio::test]
async fn a_case_passes_when_all_witnesses_saw_what_was_expected() {
    let ran = World::of_users("app").run().await;
    assert_eq!(ran.outcome("user=app"), &Outcome::Pass);
    assert_eq!((ran.result, ran.summary.claims[0].verdict), (RunResult::Conformant, Verdict::Confirmed));
    assert_eq!(ran.summary.totals.connections, 1);
}

#[tokio::test]
async fn a_case_fails_by_the_witnesses_that_saw_something_else() {
    let ran = World::of_users("app, refused").run().await;
    let Outcome::Fail(mismatches) = ran.outcome("user=refused") else { panic!("{:?}", ran.outcome("user=refused")) };
    let witnesses: Vec<Witness> = mismatches.iter().map(|mismatch| mismatch.witness).collect();
    assert_eq!(witnesses, [Witness::Client, Witness::Wire]);
    assert_eq!(ran.outcome("user=app"), &Outcome::Pass);
    assert_eq!((ran.result, ran.summary.claims[0].verdict), (RunResult::NotConformant, Verdict::Refuted));
}

/// A scenario that expects a plaintext session of `refused`, with a deviation that says `observed`.
fn deviating(users: &str, observed: &str) -> World {
    let scenario = format!(
        "postgres: [17]\nmatrix:\n  driver: [{DRIVER}]\n  user: [{users}]\ncontrol:\n  - connect: {{user: app}}\nsteps:\n  \
         - connect: {{user: \"${{user}}\", identity: none, trust: none}}\n    expect:\n      - session: {{tls: false}}\n"
    );
    let deviation = format!(
        "deviations:\n  - id: known\n    cases: [\"fake/case:*\"]\n    observed: {observed}\n    refutes: [rule.one]\n    summary: it is refused\n    \
         reason: made so\n    reference: none\n    review: 2999-01-01\n"
    );
    World::new(&scenario, &deviation)
}

#[tokio::test]
async fn a_known_deviation_seen_as_described_deviates_and_refutes_its_claim() {
    let ran = deviating("refused", "{refused: {auth: no-hba-entry}}").run().await;
    assert_eq!(ran.outcome("user=refused"), &Outcome::Deviates { deviation: "known".to_owned() });
    assert_eq!((ran.result, ran.summary.claims[0].verdict), (RunResult::Conformant, Verdict::Refuted));
}

#[tokio::test]
async fn a_known_deviation_seen_differently_fails() {
    let ran = deviating("refused", "{refused: {auth: hba-reject}}").run().await;
    assert_eq!(ran.outcome("user=refused").kind(), OutcomeKind::Fail);
    assert_eq!(ran.result, RunResult::NotConformant);
}

#[tokio::test]
async fn a_known_deviation_that_passes_is_an_unexpected_pass() {
    let ran = deviating("app", "{refused: {auth: no-hba-entry}}").run().await;
    assert_eq!(ran.outcome("user=app"), &Outcome::UnexpectedPass { deviation: "known".to_owned() });
    assert_eq!(ran.result, RunResult::NotConformant);
}

#[tokio::test]
async fn a_driver_that_fails_or_panics_makes_the_case_errored_and_never_loses_it() {
    let ran = World::of_users("app, breaks, panics").run().await;
    assert!(
        ran.errored("user=breaks", ErrorKind::Client).contains("its log: fake.log"),
        "{}",
        ran.errored("user=breaks", ErrorKind::Client)
    );
    assert!(
        ran.errored("user=panics", ErrorKind::Harness).contains("the harness itself failed"),
        "{}",
        ran.errored("user=panics", ErrorKind::Harness)
    );
    assert_eq!(ran.outcome("user=app"), &Outcome::Pass);
    assert_eq!((ran.result, ran.count(OutcomeKind::Errored)), (RunResult::Errored, 2));
}

#[tokio::test]
async fn a_case_that_does_not_end_times_out_with_what_it_was_doing() {
    let mut world = World::of_users("hangs");
    world.limits.case = Duration::from_millis(300);
    let ran = world.run().await;
    let Outcome::TimedOut(message) = ran.outcome("user=hangs") else { panic!("{:?}", ran.outcome("user=hangs")) };
    assert!(message.contains("300ms") && message.contains("0 of 1 steps"), "{message}");
    assert_eq!((ran.result, ran.summary.claims[0].verdict), (RunResult::Errored, Verdict::NotExercised));
}

/// A scenario in which `refused` is refused as expected; `control` is the user of its positive control.
fn refused_with_control(control: &str) -> World {
    let scenario = format!(
        "postgres: [17]\nmatrix: {{driver: [{DRIVER}]}}\ncontrol:\n  - connect: {{user: {control}}}\nsteps:\n  \
         - connect: {{user: refused, identity: none, trust: none}}\n    expect:\n      - refused: {{auth: no-hba-entry}}\n        \
         server_log: no pg_hba.conf entry\n        wire: [connect, auth-refused]\n"
    );
    World::new(&scenario, "")
}

#[tokio::test]
async fn a_refusal_with_a_good_control_passes_and_names_it() {
    let ran = refused_with_control("app").run().await;
    assert_eq!(ran.outcome("fake/case"), &Outcome::Pass);
    let record = ran.records.values().next().expect("a record");
    assert_eq!((record.control.as_deref(), record.connections), (Some("connected with user=\"app\""), 2));
}

#[tokio::test]
async fn a_refusal_whose_control_fails_is_errored_and_never_passes() {
    for (control, kind, reason) in [("breaks", ErrorKind::Client, "it fell over"), ("unable", ErrorKind::Harness, "it never learnt that")] {
        let ran = refused_with_control(control).run().await;
        let message = ran.errored("fake/case", kind);
        assert!(message.contains("its positive control failed") && message.contains(reason), "{message}");
        assert_eq!(ran.result, RunResult::Errored);
    }
    // The same user in another database is refused too.
    let scenario = format!(
        "postgres: [17]\nmatrix: {{driver: [{DRIVER}]}}\ncontrol:\n  - connect: {{database: other}}\nsteps:\n  \
         - connect: {{user: refused, identity: none, trust: none}}\n    expect:\n      - refused: {{auth: no-hba-entry}}\n"
    );
    let ran = World::new(&scenario, "").run().await;
    let message = ran.errored("fake/case", ErrorKind::Harness);
    assert!(message.contains("it was refused too (auth: no-hba-entry)"), "{message}");
}

/// One case a version of PostgreSQL; all pass.
fn of_versions() -> World {
    of_versions_expecting("session: {tls: false}")
}

fn of_versions_expecting(expectation: &str) -> World {
    let scenario = format!(
        "matrix: {{driver: [{DRIVER}]}}\nsteps:\n  - connect: {{identity: none, trust: none}}\n    expect:\n      - {expectation}\n"
    );
    World::new(&scenario, "")
}

#[tokio::test]
async fn a_server_that_does_not_start_or_takes_no_configuration_makes_its_cases_errored_with_the_place_of_its_log() {
    let mut world = of_versions();
    let (server, log) = ("postgres-16".to_owned(), "/run/16/server.log".into());
    world.environment.broken.insert(16, EnvironmentError::Start { server, source: StartCause::NoProgram("postgres").into(), log });
    let (server, log) = ("postgres-17".to_owned(), "/run/17/server.log".into());
    world
        .environment
        .stubborn
        .insert(17, EnvironmentError::Configure { server, source: ConfigureCause::Objection("a bad line".to_owned()).into(), log });
    let ran = world.run().await;
    assert_eq!(
        ran.errored("postgres=16", ErrorKind::Start),
        "postgres-16 did not start: there is no postgres where it should run; its log: /run/16/server.log"
    );
    assert_eq!(
        ran.errored("postgres=17", ErrorKind::Configure),
        "postgres-17 did not take its configuration: a bad line; its log: /run/17/server.log"
    );
    assert_eq!((ran.count(OutcomeKind::Pass), ran.count(OutcomeKind::Errored)), (2, 2));
    assert_eq!(ran.result, RunResult::Errored);
}

fn killed() -> LostCause {
    LostCause::Ended { status: ExitStatus::from_raw(9), said: "(nothing)".to_owned() }
}

#[tokio::test]
async fn what_a_case_did_not_pass_with_is_an_error_where_the_server_was_lost_meanwhile() {
    // All fail: they meet no TLS.
    let mut world = of_versions_expecting("session: {tls: true}");
    let (server, log) = ("postgres-17".to_owned(), "/run/17/server.log".into());
    world.environment.lost.insert(17, EnvironmentError::Lost { server, source: killed().into(), log });
    let ran = world.run().await;
    let error = ran.errored("postgres=17", ErrorKind::Lost);
    assert_eq!(
        error,
        "postgres-17 is no longer usable: it ended with signal: 9 (SIGKILL); its last lines: (nothing); its log: /run/17/server.log"
    );
    assert_eq!((ran.count(OutcomeKind::Fail), ran.count(OutcomeKind::Errored)), (3, 1));
}

#[tokio::test]
async fn a_case_that_passes_is_worth_what_was_seen_whatever_becomes_of_the_server() {
    let mut world = of_versions();
    let (server, log) = ("postgres-17".to_owned(), "/run/17/server.log".into());
    world.environment.lost.insert(17, EnvironmentError::Lost { server, source: killed().into(), log });
    let ran = world.run().await;
    assert_eq!((ran.count(OutcomeKind::Pass), ran.result), (4, RunResult::Conformant));
}

#[tokio::test]
async fn what_is_not_there_is_skipped_with_its_reason() {
    let mut world = of_versions();
    world.environment.unable.insert(16, SkipReason::ServerMissing("PostgreSQL 16 is not installed".to_owned()));
    let missing = SkipReason::DriverMissing("driver fake is not installed".to_owned());
    for case in &mut world.cases {
        let case = Arc::make_mut(case);
        case.skip = (case.key.version == Some(17)).then(|| missing.clone());
    }
    let ran = world.run().await;
    assert_eq!(ran.outcome("postgres=16"), &Outcome::Skipped(SkipReason::ServerMissing("PostgreSQL 16 is not installed".to_owned())));
    assert_eq!(ran.outcome("postgres=17"), &Outcome::Skipped(missing));
    assert_eq!((ran.result, ran.count(OutcomeKind::Skipped)), (RunResult::Conformant, 2));
}

#[tokio::test]
async fn what_driver_machine_or_environment_can_not_do_is_skipped_with_its_reason() {
    let scenario = format!(
        "postgres: [17]\nmatrix:\n  driver: [{DRIVER}]\n  user: [app, unable]\n  source: [127.0.0.9, \"::1\"]\n\
         exclude:\n  - {{user: unable, source: \"::1\"}}\nsteps:\n  \
         - connect: {{user: \"${{user}}\", source: \"${{source}}\", identity: none, trust: none}}\n    \
         expect:\n      - session: {{tls: false}}\n"
    );
    let ran = World::new(&scenario, "").run().await;
    let reason = |ran: &Ran, part: &str| match ran.outcome(part) {
        Outcome::Skipped(reason) => reason.clone(),
        other => panic!("{part}: {other:?}"),
    };
    assert_eq!(ran.outcome("user=app,source=127.0.0.9"), &Outcome::Pass);
    assert!(matches!(reason(&ran, "user=unable,source=127.0.0.9"), SkipReason::DriverUnable(_)));
    assert!(matches!(reason(&ran, "source=::1"), SkipReason::MachineLacks(_)));
    let scenario = format!(
        "postgres: [17]\nmatrix: {{driver: [{DRIVER}]}}\nsteps:\n  \
         - connect: {{user: app, transport: unix, identity: none, trust: none}}\n    expect:\n      - session: {{tls: false}}\n"
    );
    let ran = World::new(&scenario, "").run().await;
    assert!(matches!(reason(&ran, "fake/case"), SkipReason::EnvironmentUnable(_)));
}

#[tokio::test]
async fn a_network_is_the_environments_own_and_what_names_one_that_it_lacks_is_skipped() {
    let scenario = format!(
        "postgres: [17]\nmatrix:\n  driver: [{DRIVER}]\n  source: [pods, sites]\n  log:\n    own: \"host=${{address:pods}}\"\n    \
         other: \"host=${{address:gateway}}\"\nexclude:\n  - {{source: sites, log: other}}\nsteps:\n  \
         - connect: {{user: app, source: \"${{source}}\", identity: none, trust: none}}\n    \
         expect:\n      - session: {{tls: false}}\n        server_log: \"${{log}}\"\n"
    );
    let mut world = World::new(&scenario, "");
    let network = |range: &str, client: &str| Network { range: range.to_owned(), client: client.parse().expect("an address") };
    world.environment.networks.0.insert(NetworkName::Pods, network("127.44.0.0/16", "127.44.0.9"));
    world.environment.networks.0.insert(NetworkName::Gateway, network("127.55.0.0/16", "127.55.0.1"));
    world.limits.log = Duration::from_millis(50);
    let ran = world.run().await;
    assert_eq!(ran.outcome("source=pods,log=own"), &Outcome::Pass);
    let Outcome::Fail(mismatches) = ran.outcome("source=pods,log=other") else { panic!("the server never saw the gateway") };
    assert!(mismatches.iter().all(|mismatch| mismatch.witness == Witness::ServerLog), "{mismatches:?}");
    assert!(mismatches[0].expected.contains("host=127.55.0.1"), "{mismatches:?}");
    let lacking = SkipReason::EnvironmentUnable("the environment has no network `sites`".to_owned());
    assert_eq!(ran.outcome("source=sites"), &Outcome::Skipped(lacking));
}

#[tokio::test]
async fn a_run_in_which_all_is_skipped_ran_nothing() {
    let mut world = of_versions();
    world.drivers = false;
    let ran = world.run().await;
    assert!(matches!(ran.outcome("postgres=15"), Outcome::Skipped(SkipReason::DriverMissing(_))));
    assert_eq!((ran.result, ran.count(OutcomeKind::Skipped)), (RunResult::NothingRan, 4));
}

#[tokio::test]
async fn fail_fast_begins_no_further_case_after_the_first_failure() {
    let scenario = format!(
        "postgres: [17]\nmatrix:\n  driver: [{DRIVER}]\n  number: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]\nsteps:\n  \
         - connect: {{user: refused, identity: none, trust: none}}\n    expect:\n      - session: {{tls: false}}\n"
    );
    let mut world = World::new(&scenario, "");
    world.schedule_options = ScheduleOptions { jobs: 1, fail_fast: true, keep_servers: false };
    let ran = world.run().await;
    let skipped = ran.records.values().filter(|record| record.outcome == Outcome::Skipped(SkipReason::FailFast)).count();
    // One more may have begun while the first was told.
    assert!((1..=2).contains(&ran.count(OutcomeKind::Fail)) && skipped >= 8, "{:?}", ran.summary.totals.outcomes);
    assert_eq!(ran.result, RunResult::NotConformant);
}

#[tokio::test]
async fn an_interrupted_run_ends_the_cases_that_have_begun_and_skips_the_others() {
    let scenario = format!(
        "postgres: [17]\nmatrix:\n  driver: [{DRIVER}]\n  number: [1, 2, 3, 4, 5]\nsteps:\n  \
         - connect: {{user: waits, identity: none, trust: none}}\n    expect:\n      - session: {{tls: false}}\n"
    );
    let mut world = World::new(&scenario, "");
    world.schedule_options = ScheduleOptions { jobs: 2, fail_fast: false, keep_servers: false };
    let mut begun = 0;
    let ran = world
        .run_while(move |event, gate, interrupt| {
            begun += usize::from(matches!(event, Event::CaseStarted { .. }));
            if begun == 2 {
                interrupt.send_replace(true);
                gate.send_replace(true);
            }
        })
        .await;
    let skipped = ran.records.values().filter(|record| record.outcome == Outcome::Skipped(SkipReason::Interrupted)).count();
    assert_eq!((ran.count(OutcomeKind::Pass), skipped), (2, 3));
    assert_eq!(ran.result, RunResult::Interrupted);
}

#[test]
fn bad_usage_and_bad_files_end_with_2_and_say_what_is_wrong() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::create_dir_all(directory.path().join("set/mine")).expect("makes");
    std::fs::write(directory.path().join("set/mine/case.yaml"), "id: mine/case\ntitle: Mine\nclaim: [a]\n").expect("writes");
    std::fs::write(directory.path().join("images.yaml"), "sets: {mine: {redis: Mine:1}}\n").expect("writes");
    let table: [(&[&str], &str); 13] = [
        (&["run", "--no-such-option"], "--no-such-option"),
        (&["run", "--partition", "5/4"], "I from 1 to N"),
        (&["run", "--timeout", "0"], "it takes seconds"),
        (&["run", "--report", "pdf=x"], "pdf"),
        (&["run", "--scenarios", "nowhere"], "nowhere: is no directory of scenarios"),
        (&["run", "--scenarios", "set"], "set/mine/case.yaml:3:1: unknown field `claim`"),
        (&["run", "--manifests", "nowhere"], "nowhere"),
        (&["run", "postgres/{"], "is no valid pattern"),
        (&["run", "--image", "postgres=mine:1"], "`postgres` is nothing that an image is for"),
        (&["run", "--image", "redis=Mine:1"], "`Mine` has capital letters"),
        (&["run", "--images", "images.yaml"], "images.yaml:1:22: `Mine:1` is no image's name"),
        (&["run", "--image-set", "nowhere"], "there is no set of images `nowhere`: there are cnpg, official, offline"),
        (&["doctor", "--image-set", "nowhere"], "there is no set of images `nowhere`"),
    ];
    for (args, expected) in table {
        let (code, stdout, stderr) = harness_says(directory.path(), args);
        assert_eq!(code, 2, "{args:?}: {stderr}");
        assert!(stderr.contains(expected), "{args:?}: {stderr}");
        assert_eq!(stdout, "", "{args:?}: what is wrong is no output");
    }
}

#[test]
fn a_run_of_nothing_ends_with_4() {
    let directory = tempfile::tempdir().expect("a directory");
    for args in [&["run", "postgres/no-such-scenario"][..], &["list", "postgres/no-such-scenario"]] {
        let (code, _, stderr) = harness_says(directory.path(), args);
        assert_eq!(code, 4, "{stderr}");
        assert!(stderr.contains("no case matches"), "{stderr}");
    }
    // A toolchain without any client library: all cases of this client are skipped.
    let empty = directory.path().display().to_string();
    let (code, _, stderr) =
        harness_says(directory.path(), &["run", "postgres/unset", "--driver", "libpq-psycopg2-2.9.10", "--toolchain", &empty]);
    assert_eq!(code, 4, "{stderr}");
    assert!(stderr.contains("nothing ran: ") && stderr.contains("driver libpq-psycopg2-2.9.10 is not installed"), "{stderr}");
}

#[test]
fn what_needs_no_server_ends_with_0_and_writes_to_standard_output() {
    let directory = tempfile::tempdir().expect("a directory");
    for args in [
        &["list"][..],
        &["list", "--cases", "redis/*"],
        &["claims"],
        &["schema", "report"],
        &["schema", "images"],
        &["--help"],
        &["--version"],
    ] {
        let (code, stdout, stderr) = harness_says(directory.path(), args);
        assert_eq!(code, 0, "{args:?}: {stderr}");
        assert!(!stdout.is_empty(), "{args:?}");
    }
}
