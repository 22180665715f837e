//! The command that repeats a case: pasted into a shell it runs the same case against the same deployment.

use std::path::Path;
use std::process::Command;

use model::outcome::OutcomeKind;

use crate::support::{REPORT, harness, newest_postgres, ran, shipped_manifests, write_manifests};

#[test]
fn the_command_that_repeats_a_case_can_be_pasted_whatever_the_names_of_folders_are() {
    let Some(build) = newest_postgres() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    // A deployment of somebody else: another name, another range, in a folder whose name a shell takes apart.
    let mut manifests = shipped_manifests();
    for (file, from, to) in [
        ("30-client-certificates.yaml", "nautobot-mtls-client\n", "web-client\n"),
        ("40-postgres.yaml", "- hostssl all all 0.0.0.0/0 cert", "- hostssl all all 10.0.0.0/8 trust"),
    ] {
        let text = manifests.get_mut(Path::new(file)).expect("it is shipped");
        assert!(text.contains(from), "{file}: {text}");
        *text = text.replace(from, to);
    }
    write_manifests(&directory.path().join("it's my $deploy"), &manifests);
    let major = build.major;
    let case = format!(
        "postgres/documented-rule:deployment=documented,postgres={major},driver=rustls,sslmode=verify-full,identity=none,password=none"
    );
    let options = ["--manifests", "it's my $deploy", "--alias", "nautobot-mtls-client=web-client", "--network", "pods=10.0.0.0/8"];
    let first = ran(directory.path(), harness(directory.path(), &[&["run", &case][..], &options, &REPORT].concat()));
    let [failed] = &first.report.cases[..] else { panic!("{}", first.said) };
    assert_eq!((first.code, failed.outcome.kind()), (1, OutcomeKind::Fail), "{}", first.said);
    assert!(first.said.contains(&format!("  repeat    {}\n", failed.repro)), "{}", first.said);

    let words = failed.repro.strip_prefix("mtls-conformance ").expect("it is our program's");
    let output = Command::new("sh").arg("-c").arg(format!("printf '%s\\n' {words}")).output().expect("sh runs");
    assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    let words = String::from_utf8(output.stdout).expect("UTF-8");
    let words: Vec<&str> = words.lines().collect();
    let again = ran(directory.path(), harness(directory.path(), &[&words[..], &REPORT].concat()));
    let [repeated] = &again.report.cases[..] else { panic!("{words:?}: {}", again.said) };
    assert_eq!((again.code, &repeated.id, &repeated.outcome), (1, &failed.id, &failed.outcome), "{}", again.said);
}
