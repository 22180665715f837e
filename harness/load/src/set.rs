//! A set of claims, scenarios, credentials and deviations: ours, a user's, or both.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::nearest::nearest;
use super::rows::rows;
use super::tree;
use super::yaml::{LoadError, Place, one, read};
use model::claim::Claim;
use model::credential::Credentials;
use model::deviation::Deviation;
use model::scenario::Scenario;
use model::text::Text;

/// A scenario and the file it stands in.
#[derive(Debug, Clone)]
pub struct LoadedScenario {
    /// The path of the file, below the folder as the user gave it.
    pub file: PathBuf,
    /// The scenario as it stands there, its credentials moved to the set's.
    pub scenario: Scenario,
}

/// A deviation and the file it stands in.
#[derive(Debug, Clone)]
pub struct LoadedDeviation {
    /// The path of the `deviations.yaml` that holds it.
    pub file: PathBuf,
    /// The deviation as it stands there.
    pub deviation: Deviation,
}

/// Everything that scenario directories hold.
#[derive(Debug, Clone, Default)]
pub struct ScenarioSet {
    /// Claims, in the files' order.
    pub claims: Vec<Claim>,
    /// Scenarios, sorted by id.
    pub scenarios: Vec<LoadedScenario>,
    /// Deviations, in the files' order.
    pub deviations: Vec<LoadedDeviation>,
    /// Credentials by name, those of scenario files included.
    pub credentials: Credentials,
    /// The files that hold them, with the key below which they stand there.
    pub credential_files: Vec<(PathBuf, Option<&'static str>)>,
}

/// The statements of documents that scenarios name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimsFile {
    /// The claims, in the order of lists and reports.
    #[schemars(with = "Vec<Claim>")]
    claims: Vec<Spanned<Claim>>,
}

/// The known differences between document and reality.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviationsFile {
    /// Each says of which cases something else is seen than their rows expect.
    deviations: Vec<Deviation>,
}

/// The files of a scenario directory that are no scenarios.
const CLAIMS: &str = "claims.yaml";
const DEVIATIONS: &str = "deviations.yaml";
const CREDENTIALS: &str = "credentials.yaml";

impl ScenarioSet {
    /// Reads directories in order. Each may hold `claims.yaml`, `deviations.yaml`, `credentials.yaml` and scenario files in folders;
    /// names must be unique over all of them.
    ///
    /// # Errors
    /// Every bad file, each with its place.
    pub fn load(directories: &[PathBuf]) -> Result<Self, Vec<LoadError>> {
        let mut set = Self::default();
        let mut errors = Vec::new();
        let mut claim_places = Vec::new();
        for directory in directories {
            if !directory.is_dir() {
                errors.push(LoadError::new(Place::file(directory), "is no directory of scenarios"));
                continue;
            }
            if let Err(error) = set.load_claims(&directory.join(CLAIMS), &mut claim_places) {
                errors.push(error);
            }
            if let Err(error) = set.load_deviations(&directory.join(DEVIATIONS)) {
                errors.push(error);
            }
            if let Err(error) = set.load_credentials(&directory.join(CREDENTIALS)) {
                errors.push(error);
            }
            for file in scenario_files(directory) {
                if let Err(error) = set.load_scenario(directory, &file) {
                    errors.push(error);
                }
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        set.scenarios.sort_by_key(|loaded| loaded.scenario.id.raw());
        set.check_names(directories, &claim_places, &mut errors);
        if errors.is_empty() { Ok(set) } else { Err(errors) }
    }

    fn load_claims(&mut self, file: &Path, places: &mut Vec<Place>) -> Result<(), LoadError> {
        let Some(ClaimsFile { claims }) = read_if_there(file)? else { return Ok(()) };
        for claim in claims {
            places.push(Place::at(file, (claim.referenced.line(), claim.referenced.column())));
            self.claims.push(claim.value);
        }
        Ok(())
    }

    fn load_deviations(&mut self, file: &Path) -> Result<(), LoadError> {
        let Some(DeviationsFile { deviations }) = read_if_there(file)? else { return Ok(()) };
        self.deviations.extend(deviations.into_iter().map(|deviation| LoadedDeviation { file: file.to_path_buf(), deviation }));
        Ok(())
    }

    fn load_credentials(&mut self, file: &Path) -> Result<(), LoadError> {
        match read_if_there::<Credentials>(file)? {
            Some(credentials) => self.add_credentials(credentials, file, None),
            None => Ok(()),
        }
    }

    fn add_credentials(&mut self, credentials: Credentials, file: &Path, below: Option<&'static str>) -> Result<(), LoadError> {
        if credentials == Credentials::default() {
            return Ok(());
        }
        let merged = merge_credentials(&mut self.credentials, credentials);
        merged.map_err(|(path, message)| LoadError::new(place_in(file, below, &path.each_ref().map(String::as_str)), message))?;
        self.credential_files.push((file.to_path_buf(), below));
        Ok(())
    }

    /// Where a credential stands, by the keys that lead to it, such as `identities`, `expired`, `issuer`; the deepest key that is there.
    /// Reads the files again: meant for errors.
    #[must_use]
    pub fn place_of_credential(&self, path: &[String]) -> Place {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let name = path.get(..2).unwrap_or(&path);
        let holds = |file: &Path, below: Option<&str>| {
            let keys: Vec<&str> = below.into_iter().chain(name.iter().copied()).collect();
            let documents = read(file).and_then(|text| tree::documents(file, &text)).unwrap_or_default();
            documents.iter().any(|document| document.tree.get(&keys).is_some())
        };
        let file = self.credential_files.iter().find(|(file, below)| holds(file, *below)).or(self.credential_files.first());
        file.map_or_else(Place::default, |(file, below)| place_in(file, *below, &path))
    }

    fn load_scenario(&mut self, directory: &Path, file: &Path) -> Result<(), LoadError> {
        let text = read(file)?;
        let mut scenario: Scenario = one(file, &text).map_err(|error| manifest(file, &text).unwrap_or(error))?;
        let expected = file.strip_prefix(directory).unwrap_or(file).with_extension("").to_string_lossy().replace('\\', "/");
        let at = |text: &Text, message: String| LoadError::new(Place::at(file, text.place()), message);
        let id = scenario.id.raw();
        if id != expected {
            return Err(at(&scenario.id, format!("id is `{id}`, but the file's place says `{expected}`")));
        }
        if let Some(other) = self.scenarios.iter().find(|other| other.scenario.id.raw() == id) {
            return Err(at(&scenario.id, format!("`{id}` stands in {} already", other.file.display())));
        }
        match (scenario.steps.is_empty(), &scenario.timeline) {
            (true, None) => return Err(LoadError::new(tree::place(file, &["steps"]), "a scenario needs at least one step, or a timeline")),
            (false, Some(_)) => {
                return Err(LoadError::new(tree::place(file, &["timeline"]), "a scenario has `steps` or a `timeline`, not both"));
            }
            _ => {}
        }
        self.add_credentials(std::mem::take(&mut scenario.credentials), file, Some("credentials"))?;
        self.scenarios.push(LoadedScenario { file: file.to_path_buf(), scenario });
        Ok(())
    }

    /// A claim that no scenario names and that awaits nothing, a scenario or deviation that names an unknown claim, a name given twice.
    fn check_names(&self, directories: &[PathBuf], claim_places: &[Place], errors: &mut Vec<LoadError>) {
        let mut known: BTreeMap<&str, &Place> = BTreeMap::new();
        for (claim, place) in self.claims.iter().zip(claim_places) {
            if let Some(other) = known.insert(&claim.id, place) {
                errors.push(LoadError::new(place.clone(), format!("claim `{}` stands at {other} already", claim.id)));
            }
            if claim.subject.is_empty() {
                errors.push(LoadError::new(place.clone(), format!("claim `{}` needs at least one subject", claim.id)));
            }
        }
        let mut named = BTreeSet::new();
        let mut check = |text: &Text, file: &Path| {
            let id = text.raw();
            if known.contains_key(id.as_str()) {
                named.insert(id);
            } else {
                let near = nearest(&id, known.keys().copied());
                let otherwise = if near.is_empty() { ":" } else { " If not," };
                // The innermost, should one directory stand in another.
                let directory = directories.iter().filter(|directory| file.starts_with(directory)).max_by_key(|it| it.components().count());
                let claims = directory.map_or_else(|| PathBuf::from(CLAIMS), |directory| directory.join(CLAIMS)).display().to_string();
                let message = format!("unknown claim `{id}`{near}{otherwise} add it to {claims}");
                errors.push(LoadError::new(Place::at(file, text.place()), message));
            }
        };
        for LoadedScenario { file, scenario } in &self.scenarios {
            let rows = rows(scenario).into_iter().flatten().filter_map(|row| row.claims);
            for text in scenario.claims.iter().chain(rows.flatten()) {
                check(text, file);
            }
        }
        let mut ids = BTreeSet::new();
        let mut twice = Vec::new();
        for LoadedDeviation { file, deviation } in &self.deviations {
            deviation.refutes.iter().for_each(|text| check(text, file));
            if !ids.insert(deviation.id.raw()) {
                twice.push(LoadError::new(
                    Place::at(file, deviation.id.place()),
                    format!("deviation `{}` is there twice", deviation.id.raw()),
                ));
            }
        }
        errors.extend(twice);
        for (claim, place) in self.claims.iter().zip(claim_places) {
            match (named.contains(&claim.id), &claim.awaits) {
                (false, None) => errors.push(LoadError::new(
                    place.clone(),
                    format!("no scenario names claim `{}`: name it in one, or say with `awaits` what it needs", claim.id),
                )),
                (true, Some(_)) => errors.push(LoadError::new(
                    place.clone(),
                    format!("claim `{}` has `awaits`, but a scenario names it: remove `awaits`", claim.id),
                )),
                _ => {}
            }
        }
    }
}

fn read_if_there<T: serde::de::DeserializeOwned>(file: &Path) -> Result<Option<T>, LoadError> {
    if !file.exists() {
        return Ok(None);
    }
    one(file, &read(file)?).map(Some)
}

/// A name that is there already: the keys that lead to it, and the message.
type DuplicateName = ([String; 2], String);

fn merge_credentials(into: &mut Credentials, from: Credentials) -> Result<(), DuplicateName> {
    fn merge<T>(kind: &str, section: &str, into: &mut BTreeMap<String, T>, from: BTreeMap<String, T>) -> Result<(), DuplicateName> {
        for (name, value) in from {
            if into.contains_key(&name) {
                let message = format!("{kind} `{name}` is defined elsewhere already");
                return Err(([section.to_owned(), name], message));
            }
            into.insert(name, value);
        }
        Ok(())
    }
    merge("authority", "authorities", &mut into.authorities, from.authorities)?;
    merge("identity", "identities", &mut into.identities, from.identities)?;
    merge("trust", "trusts", &mut into.trusts, from.trusts)?;
    merge("crl", "crls", &mut into.crls, from.crls)?;
    merge("distribution", "distributions", &mut into.distributions, from.distributions)
}

/// What to say of a file of Kubernetes objects that lies where scenarios do.
fn manifest(file: &Path, text: &str) -> Option<LoadError> {
    let documents = tree::documents(file, text).ok()?;
    let object = documents.iter().map(|document| &document.tree).find(|tree| tree.get(&["apiVersion"]).is_some())?;
    let kind = object.text_at(&["kind"])?;
    let message = format!(
        "this is a Kubernetes manifest (kind {kind}), and every file in the folders below a scenario directory is read as a scenario: \
         move it to a directory of its own, and name that with --manifests"
    );
    Some(LoadError::new(Place::at(file, object.position_of(&["kind"])), message))
}

/// The place of these keys of `Credentials` in a file.
fn place_in(file: &Path, below: Option<&str>, path: &[&str]) -> Place {
    let keys: Vec<&str> = below.into_iter().chain(path.iter().copied()).collect();
    tree::place(file, &keys)
}

/// Every `.yaml` file in folders below `directory`; those directly in it are no scenarios.
fn scenario_files(directory: &Path) -> Vec<PathBuf> {
    fn walk(directory: &Path, top: bool, files: &mut Vec<PathBuf>) {
        let Ok(entries) = std::fs::read_dir(directory) else { return };
        for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
            if path.is_dir() {
                walk(&path, false, files);
            } else if !top && path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
                files.push(path);
            }
        }
    }
    let mut files = Vec::new();
    walk(directory, true, &mut files);
    files.sort();
    files
}
