//! Malformed files: each gives one line that says where and what.
//!
//! The files stand below `tests/bad/`. The first line of each says which error is expected (`# expect: FILE:LINE:COLUMN: message`); a
//! second line `# at: PATH` says where in a set of scenarios it goes, if not where its folder's name says. The rest of the set is
//! `tests/bad/base`. (Bad manifests have their test beside their parser.)

use std::path::{Path, PathBuf};

use deployment::Manifests;
use load::{LoadError, ScenarioSet};
use model::connect::NAUTOBOT_MOUNT;
use os::toolchain::Toolchain;

use crate::support::repository;

/// The folders with the place in the set that their files take.
const FOLDERS: [(&str, &str); 6] = [
    ("scenarios", "postgres/bad.yaml"),
    ("matrices", "postgres/bad.yaml"),
    ("timelines", "postgres/bad.yaml"),
    ("claims", "claims.yaml"),
    ("deviations", "deviations.yaml"),
    ("credentials", "credentials.yaml"),
];

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("the folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("copies");
        }
    }
}

/// A set of scenarios with one file in its place.
struct Set(tempfile::TempDir);

impl Set {
    fn base() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        copy(&repository().join("tests/bad/base"), directory.path());
        Self(directory)
    }

    /// All that a run looks at before it starts anything.
    fn read(&self, manifests: &Manifests) -> Result<usize, Vec<LoadError>> {
        let set = ScenarioSet::load(&[self.0.path().to_path_buf()])?;
        let cases = session::plan(&set, &Toolchain::default(), &[], NAUTOBOT_MOUNT)?;
        session::check(&set, manifests)?;
        Ok(cases.len())
    }

    /// The errors, their files as named in the set.
    fn errors(&self, manifests: &Manifests) -> Vec<String> {
        let root = format!("{}/", self.0.path().display());
        self.read(manifests).err().unwrap_or_default().iter().map(|error| error.to_string().replace(&root, "")).collect()
    }
}

fn manifests() -> Manifests {
    Manifests::load(&repository().join("kind/deployment")).expect("the shipped manifests are valid")
}

#[test]
fn the_set_around_the_bad_files_is_good() {
    let cases = Set::base().read(&manifests()).unwrap_or_else(|errors| panic!("{errors:?}"));
    assert_eq!(cases, 4);
}

#[test]
fn every_bad_file_gives_the_one_line_that_its_first_line_expects() {
    let manifests = manifests();
    let mut wrong = Vec::new();
    for (folder, default_place) in FOLDERS {
        let directory = repository().join("tests/bad").join(folder);
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(&directory).expect("the folder").map(|entry| entry.expect("an entry").path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{folder}");
        for file in files {
            let text = std::fs::read_to_string(&file).expect("readable");
            let header = |key: &str| text.lines().take(2).find_map(|line| line.strip_prefix(key));
            let expected = header("# expect: ").unwrap_or_default();
            let set = Set::base();
            std::fs::write(set.0.path().join(header("# at: ").unwrap_or(default_place)), &text).expect("writes");
            let errors = set.errors(&manifests);
            if errors != [expected] {
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                wrong.push(format!("{folder}/{name}\n  expected {expected}\n  got      {}", errors.join("\n           ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
