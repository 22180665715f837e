//! What the documents show is what happens: their examples are written to files, and their commands run, as a reader would.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use os::toolchain::Toolchain;

use crate::support::{binary, cache, open_directory, repository, skipped, toolchain};

/// A fenced block of a page.
struct Block<'a> {
    /// Where it begins, counted from 1.
    line: usize,
    /// What stands behind the opening fence: the language, and for `console` how its last command ends (`exit=1`) and whether the figures
    /// of its output differ from run to run (`figures-vary`).
    info: &'a str,
    /// The file that the paragraph before names at its end (`` `my-checks/claims.yaml`: ``).
    file: Option<&'a str>,
    lines: Vec<&'a str>,
}

fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut file = None;
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if let Some(info) = line.strip_prefix("```") {
            let lines = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
            blocks.push(Block { line: number + 1, info, file: file.take(), lines });
        } else if !line.is_empty() {
            file = line.strip_suffix("`:").and_then(|line| line.rsplit_once('`')).map(|(_, name)| name).filter(|name| name.contains('.'));
        }
    }
    blocks
}

/// Whether `printed` is what `shown` says: a line `...` stands for any lines, `...` at a line's end for any rest. Spaces count as one, and
/// with `figures_vary` so do numbers.
fn matches(shown: &[&str], printed: &[&str], figures_vary: bool) -> bool {
    let begins = |shown: &[&str], printed: &[&str]| {
        shown.len() <= printed.len() && shown.iter().zip(printed).all(|(shown, printed)| line_matches(shown, printed, figures_vary))
    };
    let mut parts: Vec<&[&str]> = shown.split(|line| *line == "...").collect();
    let Some(last) = parts.pop() else { return printed.is_empty() };
    let mut rest = printed;
    for (index, part) in parts.iter().enumerate() {
        let starts = if index == 0 { 0..=0 } else { 0..=rest.len() };
        let Some(start) = starts.into_iter().find(|start| begins(part, &rest[*start..])) else { return false };
        rest = &rest[start + part.len()..];
    }
    let start = if parts.is_empty() { Some(0) } else { rest.len().checked_sub(last.len()) };
    start.is_some_and(|start| rest.len() - start == last.len() && begins(last, &rest[start..]))
}

fn line_matches(shown: &str, printed: &str, figures_vary: bool) -> bool {
    let (shown, printed) = (normal(shown, figures_vary), normal(printed, figures_vary));
    shown.strip_suffix("...").map_or(shown == printed, |start| printed.starts_with(start.trim_end()))
}

fn normal(line: &str, figures_vary: bool) -> String {
    // A figure of more digits makes its column wider, and with it the rule below the table's head.
    let is_rule = |word: &str| word.chars().all(|character| character == '─');
    let words = line.split_whitespace().map(|word| match word {
        _ if figures_vary && word.parse::<f64>().is_ok() => "#",
        _ if figures_vary && is_rule(word) => "─",
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Follows a page in an empty directory.
fn follow(name: &str) {
    let found = toolchain();
    let lacks = [17, 18].into_iter().find(|major| found.postgres(*major).is_none()).map(|major| format!("PostgreSQL {major}"));
    if let Some(lacks) = lacks.or_else(|| found.redis.is_none().then(|| "Redis".to_owned())) {
        skipped(&format!("{lacks} is not installed; `make setup` brings it"));
        return;
    }
    let page = fs::read_to_string(repository().join(name)).expect("the page");
    let directory = open_directory();
    // Pages say `mtls-conformance`, or where `make build` puts it.
    let release = directory.path().join("target/release");
    fs::create_dir_all(&release).expect("a folder");
    std::os::unix::fs::symlink(binary(), release.join("mtls-conformance")).expect("a link");
    let mut followed = 0;
    for block in blocks(&page) {
        if block.info.split(' ').next() == Some("console") {
            run(name, &block, directory.path());
            followed += 1;
        } else if let Some(file) = block.file {
            let file = directory.path().join(file);
            fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
            fs::write(file, block.lines.join("\n") + "\n").expect("writes");
        }
    }
    assert!(followed > 0, "{name} has commands");
}

/// Runs the commands of a `console` block, and compares what the last one prints.
fn run(page: &str, block: &Block<'_>, directory: &Path) {
    let expected = block.info.split("exit=").nth(1).map_or(0, |code| code.parse().expect("an exit code"));
    let commands: Vec<&str> = block.lines.iter().filter_map(|line| line.strip_prefix("$ ")).collect();
    let shown: Vec<&str> = block.lines.iter().copied().filter(|line| !line.starts_with("$ ")).collect();
    let path = std::env::var("PATH").expect("a PATH");
    for (index, command) in commands.iter().enumerate() {
        let output = Command::new("sh")
            .args(["-c", &format!("exec 2>&1\n{command}")])
            .current_dir(directory)
            .env("PATH", format!("{}:{path}", directory.join("target/release").display()))
            .env("MTLS_CONFORMANCE_CACHE", cache())
            .env("MTLS_CONFORMANCE_TOOLCHAIN", Toolchain::default_directory())
            .stdin(Stdio::null())
            .output()
            .expect("a shell");
        let printed = String::from_utf8_lossy(&output.stdout);
        let place = format!("{page}:{}: `{command}`", block.line);
        let is_last = index + 1 == commands.len();
        assert_eq!(output.status.code(), Some(if is_last { expected } else { 0 }), "{place} printed\n{printed}");
        if is_last {
            let lines: Vec<&str> = printed.lines().filter(|line| !line.is_empty()).collect();
            let shown: Vec<&str> = shown.iter().copied().filter(|line| !line.is_empty()).collect();
            assert!(
                matches(&shown, &lines, block.info.contains("figures-vary")),
                "{place} shows\n{}\nand printed\n{printed}",
                shown.join("\n")
            );
        }
    }
}

#[test]
fn the_readme_shows_what_happens() {
    follow("README.md");
}

#[test]
fn the_guide_to_scenarios_shows_what_happens() {
    follow("docs/guide/scenario.md");
}

#[test]
fn the_guide_to_timelines_shows_what_happens() {
    follow("docs/guide/timeline.md");
}

#[test]
fn the_guide_to_your_deployment_shows_what_happens() {
    follow("docs/guide/your-deployment.md");
}

/// The arguments of the harness in a line of an example that is not followed: behind its name, or in `ARGS` of `make run`.
fn arguments(line: &str) -> Option<String> {
    let line = line.trim().trim_start_matches("run: ");
    match line.strip_prefix("make run ARGS=\"") {
        Some(rest) => rest.rsplit_once('"').map(|(arguments, _)| format!("run {arguments}")),
        None => line.trim_start_matches("target/release/").strip_prefix("mtls-conformance ").map(str::to_owned),
    }
}

#[test]
fn commands_that_are_not_followed_have_options_that_exist() {
    let documents = ["README.md", "docs/guide", "kind/README.md", "kind/images/README.md"].map(|name| repository().join(name));
    let pages = documents.into_iter().flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] });
    let mut checked = 0;
    for path in pages {
        let page = fs::read_to_string(&path).expect("a page");
        let lines = blocks(&page).into_iter().filter(|block| !block.info.starts_with("console")).flat_map(|block| block.lines);
        for arguments in lines.filter_map(arguments) {
            // Options are read up to `--help`, whatever they mean.
            let command = format!("exec 2>&1; '{}' {} --help", binary().display(), arguments.replace("${{ matrix.part }}", "1"));
            let output = Command::new("sh").args(["-c", &command]).output().expect("a shell");
            assert!(output.status.success(), "{}: `{arguments}`: {}", path.display(), String::from_utf8_lossy(&output.stdout));
            checked += 1;
        }
    }
    assert!(checked > 5, "{checked} commands");
}

fn files(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).expect("a folder").map(|entry| entry.expect("an entry").path()).collect()
}

#[test]
fn a_shown_output_is_compared_line_by_line() {
    let printed = ["one", "two  3.5 ms", "three"];
    assert!(matches(&["one", "...", "three"], &printed, false));
    assert!(matches(&["...", "two ...", "..."], &printed, false));
    assert!(matches(&["...", "two 4.1 ms", "..."], &printed, true));
    assert!(!matches(&["...", "two 4.1 ms", "..."], &printed, false));
    let table = [" client   ms", "───────────", " new      9 "];
    let wider = [" client     ms", "─────────────", " new      1755"];
    assert!(matches(&table, &wider, true) && !matches(&table, &wider, false));
    assert!(!matches(&["one", "three"], &printed, false));
    assert!(!matches(&["...", "two"], &printed, false));
}
