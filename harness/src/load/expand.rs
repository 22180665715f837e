//! Scenarios to cases: the product of each matrix, every expectation resolved, every deviation matched.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use globset::{Glob, GlobMatcher};
use indexmap::IndexMap;

use super::resolve::{Cell, Resolver};
use super::set::{LoadedDeviation, LoadedScenario, ScenarioSet, nearest};
use super::yaml::{LoadError, Place};
use crate::model::case::{Action, AppliedDeviation, Case, Expected, PlannedStep};
use crate::model::driver::{DriverInfo, Family};
use crate::model::scenario::{Axis, Scenario, Step};
use crate::model::server::{DeploymentKind, ServerConfig, ServerKey, Service};
use crate::model::text::Text;
use crate::model::when::{alternative_matches, holds};

/// What exists to run cases against, installed or not.
#[derive(Debug, Clone)]
pub struct Catalogue {
    /// Drivers.
    pub drivers: Vec<DriverInfo>,
    /// PostgreSQL major versions.
    pub postgres: Vec<u16>,
}

/// Expands every scenario of the set, in id order.
///
/// # Errors
/// Everything that is wrong in any file, each with its place: unknown names, cells without an expectation, rows and deviations that match
/// no cell.
pub fn expand(set: &ScenarioSet, catalogue: &Catalogue) -> Result<Vec<Case>, Vec<LoadError>> {
    let mut errors = Vec::new();
    let mut cases = Vec::new();
    for loaded in &set.scenarios {
        match (Expansion { set, catalogue, loaded }).cases() {
            Ok(expanded) => cases.extend(expanded),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        for loaded in &set.deviations {
            if let Err(error) = apply_deviation(loaded, &mut cases) {
                errors.push(error);
            }
        }
    }
    if errors.is_empty() { Ok(cases) } else { Err(errors) }
}

struct Expansion<'a> {
    set: &'a ScenarioSet,
    catalogue: &'a Catalogue,
    loaded: &'a LoadedScenario,
}

impl Expansion<'_> {
    fn scenario(&self) -> &Scenario {
        &self.loaded.scenario
    }

    fn at_id(&self, message: String) -> LoadError {
        LoadError::new(Place::at(&self.loaded.file, self.scenario().id.place()), message)
    }

    fn cases(&self) -> Result<Vec<Case>, LoadError> {
        let axes = self.axes()?;
        let mut cells = vec![Cell::new()];
        for (name, values) in &axes {
            cells = cells
                .into_iter()
                .flat_map(|cell| {
                    values.iter().map(move |value| {
                        let mut cell = cell.clone();
                        cell.insert(name.clone(), value.clone());
                        cell
                    })
                })
                .collect();
        }
        self.check_axis_names(&axes)?;
        cells.retain(|cell| !self.scenario().exclude.iter().any(|when| holds(when, &|axis| self.value(cell, axis))));
        if cells.is_empty() {
            return Err(self.at_id("the matrix has no cell".to_owned()));
        }
        let mut used_rows = BTreeSet::new();
        let cases = cells.iter().map(|cell| self.case(cell, &mut used_rows)).collect::<Result<Vec<_>, _>>()?;
        for (index, step) in self.scenario().steps.iter().enumerate() {
            for (row, expect) in step.expect.iter().enumerate() {
                if !used_rows.contains(&(index, row)) {
                    let place = (expect.referenced.line(), expect.referenced.column());
                    let message = "no case reaches this row: an earlier row takes them all, or its `when` matches none";
                    return Err(LoadError::new(Place::at(&self.loaded.file, place), message));
                }
            }
        }
        Ok(cases)
    }

    /// Axis name to its values as (short name, text); `deployment` and `postgres` first.
    fn axes(&self) -> Result<IndexMap<String, Vec<(String, String)>>, LoadError> {
        let scenario = self.scenario();
        let same = |value: String| (value.clone(), value);
        let mut axes = IndexMap::new();
        let deployments = scenario.deployment.texts();
        for deployment in &deployments {
            if !DeploymentKind::ALL.iter().any(|kind| kind.name() == deployment) {
                return Err(self.at_id(format!("deployment `{deployment}` is not one of documented, cnpg")));
            }
        }
        axes.insert("deployment".to_owned(), deployments.into_iter().map(same).collect());
        match (scenario.service, &scenario.postgres) {
            (Service::Postgres, versions) => {
                let versions = versions.as_ref().unwrap_or(&self.catalogue.postgres);
                if let Some(unknown) = versions.iter().find(|version| !self.catalogue.postgres.contains(version)) {
                    let known: Vec<String> = self.catalogue.postgres.iter().map(u16::to_string).collect();
                    return Err(self.at_id(format!("postgres {unknown} is not one of {}", known.join(", "))));
                }
                axes.insert("postgres".to_owned(), versions.iter().map(|version| same(version.to_string())).collect());
            }
            (Service::Redis, Some(_)) => return Err(self.at_id("`postgres` has no meaning in a Redis scenario".to_owned())),
            (Service::Redis, None) => {}
        }
        for (name, axis) in &scenario.matrix {
            if axes.contains_key(name) || DERIVED.contains(&name.as_str()) {
                return Err(self.at_id(format!("`{name}` can't be an axis of `matrix`: the harness sets it")));
            }
            let mut values: Vec<(String, String)> = match axis {
                Axis::Values(values) => values.iter().map(|value| same(value.text())).collect(),
                Axis::Named(values) => values.iter().map(|(name, text)| (name.clone(), text.text())).collect(),
            };
            if name == "driver" {
                values = self.drivers(&values)?.into_iter().map(same).collect();
            }
            if let Some((bad, _)) = values.iter().find(|(value, _)| value.is_empty() || value.contains([',', ' ', '\n', '"', '\''])) {
                return Err(self
                    .at_id(format!("axis `{name}`: `{bad}` can't stand in a case's id: give it a short name (`{name}: {{short: ...}}`)")));
            }
            axes.insert(name.clone(), values);
        }
        Ok(axes)
    }

    fn drivers(&self, patterns: &[(String, String)]) -> Result<Vec<String>, LoadError> {
        let service = self.scenario().service;
        let known: Vec<&str> =
            self.catalogue.drivers.iter().filter(|driver| driver.service == service).map(|driver| driver.name.as_str()).collect();
        let mut drivers = Vec::new();
        for (pattern, _) in patterns {
            let matching: Vec<&&str> = known.iter().filter(|name| alternative_matches(pattern, name)).collect();
            if matching.is_empty() {
                return Err(self.at_id(format!("axis `driver`: `{pattern}` matches none of {}", known.join(", "))));
            }
            for name in matching {
                if !drivers.iter().any(|driver| driver == name) {
                    drivers.push((*name).to_owned());
                }
            }
        }
        // A client of the user's own takes part wherever kinds of clients are meant, not single ones.
        if patterns.iter().any(|(pattern, _)| pattern.contains('*')) {
            let own = self.catalogue.drivers.iter().filter(|driver| driver.service == service && driver.family == Family::Other);
            drivers.extend(own.map(|driver| driver.name.clone()).filter(|name| !drivers.contains(name)).collect::<Vec<_>>());
        }
        Ok(drivers)
    }

    fn check_axis_names(&self, axes: &IndexMap<String, Vec<(String, String)>>) -> Result<(), LoadError> {
        let rows = self.scenario().steps.iter().flat_map(|step| &step.expect).map(|row| (&row.value.when, Some(row.referenced)));
        let others = self.scenario().exclude.iter().chain(self.scenario().control.iter().map(|control| &control.when));
        for (when, location) in rows.chain(others.map(|when| (when, None))) {
            for (name, alternatives) in when {
                let place = location.map_or_else(
                    || Place::at(&self.loaded.file, self.scenario().id.place()),
                    |location| Place::at(&self.loaded.file, (location.line(), location.column())),
                );
                if DERIVED.contains(&name.as_str()) {
                    continue;
                }
                let Some(values) = axes.get(name) else {
                    let known: Vec<&str> = axes.keys().map(String::as_str).chain(DERIVED).collect();
                    return Err(LoadError::new(place, format!("`when` names `{name}`, which is not one of {}", known.join(", "))));
                };
                for pattern in alternatives.texts() {
                    if !values.iter().any(|(value, _)| alternative_matches(&pattern, value)) {
                        let known: Vec<&str> = values.iter().map(|(value, _)| value.as_str()).collect();
                        return Err(LoadError::new(place, format!("`when`: {name} `{pattern}` matches none of {}", known.join(", "))));
                    }
                }
            }
        }
        Ok(())
    }

    fn value(&self, cell: &Cell, axis: &str) -> Option<String> {
        if let Some((value, _)) = cell.get(axis) {
            return Some(value.clone());
        }
        let (driver, _) = cell.get("driver")?;
        let info = self.catalogue.drivers.iter().find(|info| info.name == *driver)?;
        match axis {
            "family" => serde_json::to_value(info.family).ok()?.as_str().map(str::to_owned),
            "libpq" => info.libpq.map(|version| (version / 10_000).to_string()),
            _ => None,
        }
    }

    fn case(&self, cell: &Cell, used_rows: &mut BTreeSet<(usize, usize)>) -> Result<Case, LoadError> {
        let scenario = self.scenario();
        let resolver = Resolver { file: &self.loaded.file, cell, service: scenario.service };
        let id = case_id(&scenario.id.raw(), cell);
        let mut claims = Vec::new();
        let mut steps = Vec::new();
        for (index, step) in scenario.steps.iter().enumerate() {
            let Some(row) = step.expect.iter().position(|row| holds(&row.value.when, &|axis| self.value(cell, axis))) else {
                return Err(self.at_id(format!("case {id} has no expectation in step {}", index + 1)));
            };
            used_rows.insert((index, row));
            let expect = &step.expect[row];
            for text in expect.value.claims.as_ref().unwrap_or(&scenario.claims) {
                let claim = text.raw();
                if !claims.contains(&claim) {
                    claims.push(claim);
                }
            }
            let place = (expect.referenced.line(), expect.referenced.column());
            let expectation = resolver.expectation(&expect.value, place)?;
            steps.push(self.step(step, expectation, &resolver, cell, &id)?);
        }
        let deployment = DeploymentKind::ALL.into_iter().find(|kind| cell.get("deployment").is_some_and(|(value, _)| value == kind.name()));
        let key = ServerKey {
            service: scenario.service,
            version: cell.get("postgres").and_then(|(value, _)| value.parse().ok()),
            deployment: deployment.unwrap_or(DeploymentKind::Documented),
        };
        Ok(Case {
            id,
            scenario: scenario.id.raw(),
            values: cell.iter().map(|(axis, (value, _))| (axis.clone(), value.clone())).collect(),
            key,
            config: Arc::new(self.config(&resolver)?),
            steps,
            claims,
            deviation: None,
            skip: None,
        })
    }

    fn step(
        &self,
        step: &Step,
        expectation: crate::model::case::Expectation,
        resolver: &Resolver<'_>,
        cell: &Cell,
        id: &str,
    ) -> Result<PlannedStep, LoadError> {
        let wants_output = matches!(expectation.expected, Expected::Output { .. });
        match (&step.connect, &step.openssl) {
            (Some(connect), None) if !wants_output => {
                let plan = resolver.connect(connect, None)?;
                let control = match &expectation.expected {
                    Expected::Refused(_) => {
                        let Some(control) =
                            self.scenario().control.iter().find(|control| holds(&control.when, &|axis| self.value(cell, axis)))
                        else {
                            return Err(
                                self.at_id(format!("case {id} expects a refusal, but no row of `control` gives it a positive control"))
                            );
                        };
                        Some(resolver.connect(connect, Some(&control.connect))?)
                    }
                    _ => None,
                };
                for plan in std::iter::once(&plan).chain(&control) {
                    self.check_names(plan, resolver, connect)?;
                }
                if control.as_ref() == Some(&plan) {
                    return Err(self.at_id(format!("case {id}: its control is the refused connection itself")));
                }
                Ok(PlannedStep { action: Action::Connect(plan), expectation, control })
            }
            (None, Some(openssl)) if wants_output => {
                let args = openssl.args.iter().map(|arg| resolver.text(arg)).collect::<Result<_, _>>()?;
                Ok(PlannedStep { action: Action::Openssl(args), expectation, control: None })
            }
            (Some(_), None) => Err(self.at_id("`output` goes with `openssl`, not with `connect`".to_owned())),
            (None, Some(_)) => Err(self.at_id("`openssl` needs an expectation of `output`".to_owned())),
            _ => Err(self.at_id("a step has exactly one of `connect` and `openssl`".to_owned())),
        }
    }

    fn check_names(
        &self,
        plan: &crate::model::case::ConnectPlan,
        resolver: &Resolver<'_>,
        connect: &crate::model::scenario::Connect,
    ) -> Result<(), LoadError> {
        let unknown = |kind: &str, name: &str, text: Option<&Text>, known: Vec<&str>| {
            let near = nearest(name, known.iter().copied());
            let message = if near.is_empty() {
                format!("unknown {kind} `{name}`: it is not one of {}", known.join(", "))
            } else {
                format!("unknown {kind} `{name}`{near}")
            };
            text.map_or_else(|| self.at_id(message.clone()), |text| resolver.error(text, message.clone()))
        };
        let credentials = &self.set.credentials;
        if let Some(name) = plan.identity.as_ref().filter(|name| !credentials.identities.contains_key(*name)) {
            return Err(unknown("identity", name, connect.identity.as_ref(), credentials.identities.keys().map(String::as_str).collect()));
        }
        if let Some(name) = plan.trust.as_ref().filter(|name| !credentials.trusts.contains_key(*name)) {
            return Err(unknown("trust", name, connect.trust.as_ref(), credentials.trusts.keys().map(String::as_str).collect()));
        }
        let service = self.scenario().service;
        if !self.catalogue.drivers.iter().any(|driver| driver.name == plan.driver && driver.service == service) {
            let known =
                self.catalogue.drivers.iter().filter(|driver| driver.service == service).map(|driver| driver.name.as_str()).collect();
            return Err(unknown("driver", &plan.driver, connect.driver.as_ref(), known));
        }
        Ok(())
    }

    fn config(&self, resolver: &Resolver<'_>) -> Result<ServerConfig, LoadError> {
        let patch = &self.scenario().server;
        let pg_hba = match &patch.pg_hba {
            None => None,
            Some(lines) => {
                let mut resolved = Vec::new();
                for text in lines {
                    resolved.extend(resolver.text(text)?.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
                }
                Some(resolved)
            }
        };
        let optional = |text: &Option<Text>| text.as_ref().map(|text| resolver.text(text)).transpose();
        let known = |kind: &str, name: Option<String>, text: &Option<Text>, names: Vec<&String>| match (name, text) {
            (Some(name), Some(text)) if name != "default" && name != "none" && !names.contains(&&name) => {
                let near = nearest(&name, names.iter().map(|name| name.as_str()));
                Err(resolver.error(text, format!("unknown {kind} `{name}`{near}")))
            }
            (name, _) => Ok(name.filter(|name| name != "default")),
        };
        let credentials = &self.set.credentials;
        let mut settings = std::collections::BTreeMap::new();
        for (name, value) in &patch.settings {
            settings.insert(name.clone(), resolver.text(value)?);
        }
        Ok(ServerConfig {
            pg_hba,
            settings,
            certificate: known("identity", optional(&patch.certificate)?, &patch.certificate, credentials.identities.keys().collect())?,
            client_ca: known("trust", optional(&patch.client_ca)?, &patch.client_ca, credentials.trusts.keys().collect())?,
            crl: known("crl", optional(&patch.crl)?, &patch.crl, credentials.crls.keys().collect())?.filter(|name| name != "none"),
        })
    }
}

/// Axes that conditions may name beside those of the matrix: they follow from the driver.
const DERIVED: [&str; 2] = ["family", "libpq"];

/// `<scenario>:<axis>=<value>,...`: no character that a shell or a glob takes for its own.
fn case_id(scenario: &str, cell: &Cell) -> String {
    let values: Vec<String> = cell.iter().map(|(axis, (value, _))| format!("{axis}={value}")).collect();
    format!("{scenario}:{}", values.join(","))
}

fn apply_deviation(loaded: &LoadedDeviation, cases: &mut [Case]) -> Result<(), LoadError> {
    let LoadedDeviation { file, deviation } = loaded;
    let at = |text: &Text, message: String| LoadError::new(Place::at(file, text.place()), message);
    review_date(&deviation.review, file)?;
    let globs = deviation.cases.iter().map(|text| glob(text, file)).collect::<Result<Vec<_>, _>>()?;
    let place = (deviation.observed.referenced.line(), deviation.observed.referenced.column());
    if !deviation.observed.value.when.is_empty() || deviation.observed.value.claims.is_some() {
        return Err(LoadError::new(Place::at(file, place), "`observed` takes neither `when` nor `claims`"));
    }
    let mut matched = vec![false; globs.len()];
    let refutes: Vec<String> = deviation.refutes.iter().map(Text::raw).collect();
    for case in cases {
        let applies = |alternatives: &Option<crate::model::text::OneOrMany>, axis: &str| {
            alternatives.as_ref().is_none_or(|alternatives| {
                let value = case.values.get(axis).map(String::as_str).unwrap_or_default();
                alternatives.texts().iter().any(|pattern| alternative_matches(pattern, value))
            })
        };
        if !applies(&deviation.deployment, "deployment") || !applies(&deviation.postgres, "postgres") {
            continue;
        }
        let Some(index) = globs.iter().position(|glob| glob.is_match(&case.id)) else { continue };
        for (index, glob) in globs.iter().enumerate() {
            matched[index] |= glob.is_match(&case.id);
        }
        if let Some(other) = &case.deviation {
            return Err(at(&deviation.cases[index], format!("case {} has deviation `{}` already", case.id, other.id)));
        }
        let cell: Cell = case.values.iter().map(|(axis, value)| (axis.clone(), (value.clone(), value.clone()))).collect();
        let resolver = Resolver { file, cell: &cell, service: case.key.service };
        case.deviation = Some(Arc::new(AppliedDeviation {
            id: deviation.id.raw(),
            observed: resolver.expectation(&deviation.observed.value, place)?,
            refutes: refutes.clone(),
            summary: deviation.summary.clone(),
        }));
        for claim in &refutes {
            if !case.claims.contains(claim) {
                return Err(at(&deviation.id, format!("it refutes `{claim}`, but case {} does not bear on that claim", case.id)));
            }
        }
    }
    match matched.iter().position(|matched| !matched) {
        Some(index) => Err(at(&deviation.cases[index], format!("deviation `{}` matches no case with this pattern", deviation.id.raw()))),
        None => Ok(()),
    }
}

fn glob(text: &Text, file: &Path) -> Result<GlobMatcher, LoadError> {
    Glob::new(&text.raw())
        .map(|glob| glob.compile_matcher())
        .map_err(|error| LoadError::new(Place::at(file, text.place()), format!("no valid pattern: {error}")))
}

fn review_date(text: &Text, file: &Path) -> Result<jiff::civil::Date, LoadError> {
    text.raw().parse().map_err(|_| LoadError::new(Place::at(file, text.place()), format!("`{}` is no date such as 2027-06-30", text.raw())))
}

/// Deviations whose review date is before `today`, as problems of the run.
#[must_use]
pub fn overdue(set: &ScenarioSet, today: jiff::civil::Date) -> Vec<String> {
    set.deviations
        .iter()
        .filter_map(|LoadedDeviation { file, deviation }| {
            let date = review_date(&deviation.review, file).ok()?;
            let place = Place::at(file, deviation.review.place());
            (date < today).then(|| format!("{place}: deviation `{}` was to be reviewed by {date}", deviation.id.raw()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Our own scenarios, with every driver and version that the harness knows.
    #[test]
    fn our_own_scenario_set_loads_and_every_case_has_an_expectation() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        let set = ScenarioSet::load(&[directory]).unwrap_or_else(|errors| panic!("{}", lines(&errors)));
        let drivers = crate::driver::catalogue::known();
        let cases =
            expand(&set, &Catalogue { drivers, postgres: vec![15, 16, 17, 18] }).unwrap_or_else(|errors| panic!("{}", lines(&errors)));
        let ids: BTreeSet<&str> = cases.iter().map(|case| case.id.as_str()).collect();
        assert_eq!(ids.len(), cases.len(), "case ids are unique");
    }

    fn lines(errors: &[LoadError]) -> String {
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }
}
