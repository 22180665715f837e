//! Scenarios to cases: the product of each matrix, every expectation resolved, every deviation matched.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use indexmap::IndexMap;

use super::deviations;
use super::resolve::{Cell, Defaults, Resolver, references};
use load::rows::{Row, keys, rows};
use load::set::LoadedScenario;
use load::{LoadError, Place, ScenarioSet, boolean, tree, yaml};
use model::case::{Action, Case, Expectation, Expected, OpensslPlan, PlannedStep};
use model::driver::{DriverInfo, Family};
use model::network::check_reference;
use model::scenario::{Axis, CommandPlace, Scenario, Step};
use model::server::{DeploymentKind, ServerKey, Service};
use model::text::Scalar;
use model::when::{When, alternative_matches, holds};

/// What exists to run cases against, installed or not.
#[derive(Debug, Clone)]
pub struct Catalogue {
    /// Every driver that scenarios can name.
    pub drivers: Vec<DriverInfo>,
    /// PostgreSQL major versions that scenarios can name, and that they run on where they name none.
    pub postgres: Vec<u16>,
    /// Where the drivers `nautobot-*` find their files: what `${mount}` stands for.
    pub mount: String,
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
    if !errors.is_empty() {
        return Err(errors);
    }
    deviations::apply(&set.deviations, &catalogue.mount, &mut cases)?;
    Ok(cases)
}

/// One scenario with what it is checked against.
pub(super) struct Expansion<'a> {
    pub(super) set: &'a ScenarioSet,
    pub(super) catalogue: &'a Catalogue,
    loaded: &'a LoadedScenario,
}

impl Expansion<'_> {
    pub(super) fn scenario(&self) -> &Scenario {
        &self.loaded.scenario
    }

    /// An error at the value below these keys of the file (an index in a list is a key too).
    pub(super) fn at(&self, keys: &[&str], message: impl Into<String>) -> LoadError {
        LoadError::new(tree::place(&self.loaded.file, keys), message)
    }

    /// An error at a row of `expect`.
    pub(super) fn at_row(&self, row: &Row<'_>, message: impl Into<String>) -> LoadError {
        LoadError::new(Place::at(&self.loaded.file, row.place), message)
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
            return Err(self.at(&["exclude"], "nothing of the matrix is left"));
        }
        let all_rows = rows(self.scenario());
        let mut used_rows = BTreeSet::new();
        let cases = cells.iter().map(|cell| self.case(cell, &all_rows, &mut used_rows)).collect::<Result<Vec<_>, _>>()?;
        for (index, rows) in all_rows.iter().enumerate() {
            if let Some(row) = rows.iter().find(|row| !used_rows.contains(&(index, row.index))) {
                return Err(self.at_row(row, "no case reaches this row: an earlier row takes them all, or its `when` matches none"));
            }
        }
        Ok(cases)
    }

    /// Axis name to its values as (short name, text); `deployment` and `postgres` first.
    fn axes(&self) -> Result<IndexMap<String, Vec<(String, String)>>, LoadError> {
        let scenario = self.scenario();
        let same = |value: String| (value.clone(), value);
        let mut axes = IndexMap::new();
        let deployments: Vec<String> = scenario.deployment.texts().map(Cow::into_owned).collect();
        for deployment in &deployments {
            if !DeploymentKind::ALL.iter().any(|kind| kind.name() == deployment) {
                return Err(self.at(&["deployment"], format!("deployment `{deployment}` is not one of documented, cnpg")));
            }
        }
        axes.insert("deployment".to_owned(), deployments.into_iter().map(same).collect());
        match (scenario.service, &scenario.postgres) {
            (Service::Postgres, versions) => {
                let versions = versions.as_ref().unwrap_or(&self.catalogue.postgres);
                if let Some(unknown) = versions.iter().find(|version| !self.catalogue.postgres.contains(version)) {
                    let known: Vec<String> = self.catalogue.postgres.iter().map(u16::to_string).collect();
                    return Err(self.at(&["postgres"], format!("postgres {unknown} is not one of {}", known.join(", "))));
                }
                axes.insert("postgres".to_owned(), versions.iter().map(|version| same(version.to_string())).collect());
            }
            (Service::Redis, Some(_)) => return Err(self.at(&["postgres"], "`postgres` has no meaning in a Redis scenario")),
            (Service::Redis, None) => {}
        }
        for (name, axis) in &scenario.matrix {
            let at_axis = |message: String| self.at(&["matrix", name], message);
            if axes.contains_key(name) || DERIVED.contains(&name.as_str()) {
                return Err(at_axis(format!("`{name}` can't be an axis of `matrix`: the harness sets it")));
            }
            self.check_booleans(name, axis)?;
            let mut values: Vec<(String, String)> = match axis {
                Axis::Values(values) => values.iter().map(|value| same(value.text().into_owned())).collect(),
                Axis::Named(values) => values.iter().map(|(name, text)| (name.clone(), text.text().into_owned())).collect(),
            };
            if name == "driver" {
                values = self.drivers(&values)?.into_iter().map(same).collect();
            }
            if let Some((bad, _)) = values.iter().find(|(value, _)| value.is_empty() || value.contains([',', ' ', '\n', '"', '\''])) {
                return Err(at_axis(format!("`{bad}` can't stand in a case's id: give it a short name (`{name}: {{short: ...}}`)")));
            }
            // Here, since the texts that use the axis say where they stand themselves.
            for (value, text) in &values {
                let wrong = references(text).find_map(|reference| check_reference(reference)?.err());
                if let Some(error) = wrong {
                    return Err(self.at(&["matrix", name, value], error.to_string()));
                }
            }
            let mut seen = BTreeSet::new();
            if let Some((twice, _)) = values.iter().find(|(value, _)| !seen.insert(value)) {
                return Err(at_axis(format!("axis `{name}` has `{twice}` twice")));
            }
            if values.is_empty() {
                return Err(at_axis(format!("axis `{name}` has no value")));
            }
            axes.insert(name.clone(), values);
        }
        Ok(axes)
    }

    /// A value of an axis that YAML takes for a boolean, and that is not written as one.
    fn check_booleans(&self, name: &str, axis: &Axis) -> Result<(), LoadError> {
        let values: Vec<(String, &Scalar)> = match axis {
            Axis::Values(values) => values.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect(),
            Axis::Named(values) => values.iter().map(|(key, value)| (key.clone(), value)).collect(),
        };
        let unquoted = values.into_iter().find_map(|(key, value)| match value {
            Scalar::Bool(value) => yaml::unquoted_boolean(&tree::place(&self.loaded.file, &["matrix", name, &key]), *value),
            _ => None,
        });
        unquoted.map_or(Ok(()), Err)
    }

    fn drivers(&self, patterns: &[(String, String)]) -> Result<Vec<String>, LoadError> {
        let service = self.scenario().service;
        let known: Vec<&str> =
            self.catalogue.drivers.iter().filter(|driver| driver.service == service).map(|driver| driver.name.as_str()).collect();
        let mut drivers = Vec::new();
        for (pattern, _) in patterns {
            let matching: Vec<&&str> = known.iter().filter(|name| alternative_matches(pattern, name)).collect();
            if matching.is_empty() {
                return Err(self.at(&["matrix", "driver"], format!("axis `driver`: `{pattern}` matches none of {}", known.join(", "))));
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
        let check = |key, when| Self::check_when(axes, when).map_err(|wrong| WhenError { key, wrong }.to_string());
        for row in rows(self.scenario()).iter().flatten() {
            check("when", row.when).map_err(|message| self.at_row(row, message))?;
        }
        for (index, row) in self.scenario().timeline.iter().flat_map(|timeline| &timeline.outages).enumerate() {
            let at = |message| self.at(&["timeline", "outages", &index.to_string(), "when"], message);
            check("when", &row.value.when).map_err(at)?;
        }
        for (index, when) in self.scenario().exclude.iter().enumerate() {
            check("exclude", when).map_err(|message| self.at(&["exclude", &index.to_string()], message))?;
        }
        for (index, control) in self.scenario().control.iter().enumerate() {
            check("when", &control.when).map_err(|message| self.at(&["control", &index.to_string(), "when"], message))?;
        }
        Ok(())
    }

    /// An axis that isn't there, or a pattern that matches none of its values.
    fn check_when(axes: &IndexMap<String, Vec<(String, String)>>, when: &When) -> Result<(), WrongCondition> {
        for (name, alternatives) in when.iter().filter(|(name, _)| !DERIVED.contains(&name.as_str())) {
            let Some(values) = axes.get(name) else {
                let known: Vec<&str> = axes.keys().map(String::as_str).chain(DERIVED).collect();
                return Err(WrongCondition::UnknownAxis { name: name.clone(), known: known.join(", ") });
            };
            for pattern in alternatives.texts() {
                if !values.iter().any(|(value, _)| alternative_matches(&pattern, value)) {
                    let pattern = pattern.into_owned();
                    let known: Vec<&str> = values.iter().map(|(value, _)| value.as_str()).collect();
                    return Err(WrongCondition::MatchesNothing { axis: name.clone(), pattern, known: known.join(", ") });
                }
            }
        }
        Ok(())
    }

    pub(super) fn value<'a>(&'a self, cell: &'a Cell, axis: &str) -> Option<Cow<'a, str>> {
        if let Some((value, _)) = cell.get(axis) {
            return Some(Cow::Borrowed(value));
        }
        let (driver, _) = cell.get("driver")?;
        let info = self.catalogue.drivers.iter().find(|info| info.name == *driver)?;
        match axis {
            "family" => Some(Cow::Borrowed(info.family.name())),
            "libpq" => info.libpq.map(|version| Cow::Owned((version / 10_000).to_string())),
            _ => None,
        }
    }

    fn case(&self, cell: &Cell, all_rows: &[Vec<Row<'_>>], used_rows: &mut BTreeSet<(usize, usize)>) -> Result<Case, LoadError> {
        let scenario = self.scenario();
        let resolver = Resolver { file: &self.loaded.file, cell, service: scenario.service, mount: &self.catalogue.mount };
        let id = case_id(&scenario.id.raw(), cell);
        let mut claims = Vec::new();
        let mut chosen = Vec::new();
        for (index, rows) in all_rows.iter().enumerate() {
            let Some(row) = rows.iter().find(|row| holds(row.when, &|axis| self.value(cell, axis))) else {
                let index = index.to_string();
                let keys = [keys(scenario), &[&index, "expect"]].concat();
                return Err(self.at(&keys, format!("no row is for case {id}")));
            };
            used_rows.insert((index, row.index));
            for text in row.claims.unwrap_or(&scenario.claims) {
                let claim = text.raw();
                if !claims.contains(&claim) {
                    claims.push(claim);
                }
            }
            chosen.push(*row);
        }
        let mut steps = Vec::new();
        for (index, (step, row)) in scenario.steps.iter().zip(&chosen).enumerate() {
            let expectation = resolver.expectation(&step.expect[row.index].value, row.place)?;
            let step = StepAt { step, index, row };
            steps.push(self.step(&step, expectation, &resolver, cell, &id)?);
        }
        if let (Some(started), true) =
            (steps.iter().position(|step| !step.expectation.is_objection()), steps.iter().any(|step| step.expectation.is_objection()))
        {
            return Err(self.at_row(
                &chosen[started],
                format!("case {id}: another step expects an `objection`, and nothing can be done with a server that does not start"),
            ));
        }
        let timeline = scenario.timeline.as_ref().map(|timeline| self.timeline(timeline, &chosen, &resolver, cell)).transpose()?;
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
            needs: scenario.needs,
            config: Arc::new(self.config(&resolver)?),
            steps,
            timeline: timeline.map(Arc::new),
            claims,
            deviation: None,
            skip: None,
        })
    }

    fn step(
        &self,
        StepAt { step, index, row }: &StepAt<'_>,
        expectation: Expectation,
        resolver: &Resolver<'_>,
        cell: &Cell,
        id: &str,
    ) -> Result<PlannedStep, LoadError> {
        let at_row = |message: String| self.at_row(row, message);
        let wants_output = matches!(expectation.expected, Expected::Output { .. });
        self.check_expectation(&expectation).map_err(|error| at_row(error.to_string()))?;
        match (&step.connect, &step.openssl) {
            (Some(connect), None) if !wants_output => {
                let plan = resolver.connect(connect, None, Defaults::default())?;
                self.check_names(&plan, resolver, connect, *index)?;
                let control = match &expectation.expected {
                    Expected::Refused(_) => {
                        let Some(control) =
                            self.scenario().control.iter().position(|control| holds(&control.when, &|axis| self.value(cell, axis)))
                        else {
                            return Err(at_row(format!("case {id} is to be refused, but no row of `control` gives it a positive control")));
                        };
                        let over = &self.scenario().control[control].connect;
                        let control_plan = resolver.connect(connect, Some(over), Defaults::default())?;
                        self.check_names(&control_plan, resolver, over, *index)?;
                        if control_plan == plan {
                            let keys = ["control", &control.to_string(), "connect"];
                            return Err(self.at(&keys, format!("this control of case {id} is the refused connection itself")));
                        }
                        Some(control_plan)
                    }
                    _ => None,
                };
                Ok(PlannedStep { action: Action::Connect(plan), expectation, control })
            }
            (None, Some(openssl)) if wants_output => {
                for text in
                    openssl.args.iter().chain(step.expect.iter().filter_map(|row| row.value.output.as_ref()).flat_map(|texts| &texts.0))
                {
                    self.check_references(text, resolver)?;
                }
                let args = openssl.args.iter().map(|arg| resolver.replaced(arg)).collect::<Result<Vec<_>, _>>()?;
                let names_server = args.iter().any(|arg| references(arg).any(|reference| reference.starts_with("server:")));
                let at = openssl.at.unwrap_or(if names_server { CommandPlace::Server } else { CommandPlace::Here });
                Ok(PlannedStep { action: Action::Openssl(OpensslPlan { args, at }), expectation, control: None })
            }
            (Some(_), None) => Err(at_row("`output` goes with `openssl`, not with `connect`".to_owned())),
            (None, Some(_)) => Err(at_row("`openssl` needs an expectation of `output`".to_owned())),
            _ => Err(self.at(&["steps", &index.to_string()], "a step has exactly one of `connect` and `openssl`")),
        }
    }
}

/// A condition that can hold for no case, with the key that it stands below.
#[derive(Debug, thiserror::Error)]
#[error("`{key}`{wrong}")]
struct WhenError {
    key: &'static str,
    wrong: WrongCondition,
}

/// Why a condition can hold for no case. The message continues the name of its key.
#[derive(Debug, thiserror::Error)]
enum WrongCondition {
    #[error(" names `{name}`, which is not one of {known}")]
    UnknownAxis { name: String, known: String },
    #[error(": {axis} `{pattern}` matches none of {known}{}", boolean::hint(pattern))]
    MatchesNothing { axis: String, pattern: String, known: String },
}

/// A step with its index and the row that holds.
struct StepAt<'a> {
    step: &'a Step,
    index: usize,
    row: &'a Row<'a>,
}

/// Axes that conditions may name beside those of the matrix: they follow from the driver.
const DERIVED: [&str; 2] = ["family", "libpq"];

/// `<scenario>:<axis>=<value>,...`: no character that a shell or a glob takes for its own.
fn case_id(scenario: &str, cell: &Cell) -> String {
    let values: Vec<String> = cell.iter().map(|(axis, (value, _))| format!("{axis}={value}")).collect();
    format!("{scenario}:{}", values.join(","))
}
