//! Known deviations: which cases they apply to, and whether anybody still looks at them.

use std::path::Path;
use std::sync::Arc;

use globset::{Glob, GlobMatcher};

use super::resolve::{Cell, Resolver};
use super::set::{LoadedDeviation, ScenarioSet};
use super::yaml::{LoadError, Place};
use model::case::{AppliedDeviation, Case};
use model::server::DeploymentKind;
use model::text::Text;
use model::when::alternative_matches;

/// Marks the cases that a deviation applies to.
pub(super) fn apply(loaded: &LoadedDeviation, cases: &mut [Case]) -> Result<(), LoadError> {
    let LoadedDeviation { file, deviation } = loaded;
    let at = |text: &Text, message: String| LoadError::new(Place::at(file, text.place()), message);
    review_date(&deviation.review, file)?;
    if let Some(deployments) = &deviation.deployment {
        let named = |pattern: &String| DeploymentKind::ALL.iter().any(|kind| alternative_matches(pattern, kind.name()));
        if let Some(unknown) = deployments.texts().iter().find(|pattern| !named(pattern)) {
            return Err(at(&deviation.id, format!("deployment `{unknown}` is not one of documented, cnpg")));
        }
    }
    let globs = deviation.cases.iter().map(|text| glob(text, file)).collect::<Result<Vec<_>, _>>()?;
    let place = (deviation.observed.referenced.line(), deviation.observed.referenced.column());
    if !deviation.observed.value.when.is_empty() || deviation.observed.value.claims.is_some() {
        return Err(LoadError::new(Place::at(file, place), "`observed` takes neither `when` nor `claims`"));
    }
    let mut matched = vec![false; globs.len()];
    let refutes: Vec<String> = deviation.refutes.iter().map(Text::raw).collect();
    for case in cases {
        let applies = |alternatives: &Option<model::text::OneOrMany>, axis: &str| {
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
