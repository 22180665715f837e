//! Known deviations: which cases they apply to, and whether anybody still looks at them.

use std::path::Path;
use std::sync::Arc;

use globset::{Candidate, Glob, GlobSetBuilder};

use super::resolve::{Cell, Resolver};
use load::set::{LoadedDeviation, ScenarioSet};
use load::{LoadError, Place};
use model::case::{AppliedDeviation, Case};
use model::server::DeploymentKind;
use model::text::{OneOrMany, Text};
use model::when::{alternative_matches, any_matches};

/// Marks the cases that each deviation applies to. Errors come in the order of the deviations, one for each.
///
/// Every pattern is tried on a case at once, whichever deviation it belongs to: a set has thousands of cases, and most match none.
pub(super) fn apply(deviations: &[LoadedDeviation], mount: &str, cases: &mut [Case]) -> Result<(), Vec<LoadError>> {
    let Some(first) = deviations.first() else { return Ok(()) };
    let mut set = GlobSetBuilder::new();
    // By the index of the pattern in the set: the deviation's index, and the pattern's in it.
    let mut owners = Vec::new();
    let mut prepared = Vec::new();
    for (deviation, loaded) in deviations.iter().enumerate() {
        prepared.push(Prepared::new(loaded).map(|(one, globs)| {
            for (index, glob) in globs.into_iter().enumerate() {
                set.add(glob);
                owners.push((deviation, index));
            }
            one
        }));
    }
    // Each pattern was parsed alone; together they can only be too large, which names none of them.
    let set = set
        .build()
        .map_err(|error| vec![LoadError::new(Place::at(&first.file, first.deviation.id.place()), format!("no valid patterns: {error}"))])?;
    for case in cases {
        let hits = set.matches_candidate(&Candidate::new(&case.id));
        for hits in hits.chunk_by(|one, other| owners[*one].0 == owners[*other].0) {
            let globs: Vec<usize> = hits.iter().map(|hit| owners[*hit].1).collect();
            let one = &mut prepared[owners[hits[0]].0];
            // After an error a deviation is applied no further.
            if let Ok(deviation) = one
                && deviation.axes_match(case)
                && let Err(error) = deviation.mark(case, &globs, mount)
            {
                *one = Err(error);
            }
        }
    }
    let errors: Vec<LoadError> = prepared.into_iter().filter_map(|one| one.map_or_else(Some, |deviation| deviation.unmatched())).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// A deviation that was checked by itself, and what cases have shown of it.
struct Prepared<'a> {
    loaded: &'a LoadedDeviation,
    /// By the index of the pattern: whether a case matches.
    matched: Vec<bool>,
    refutes: Vec<String>,
}

impl<'a> Prepared<'a> {
    /// With its patterns.
    fn new(loaded: &'a LoadedDeviation) -> Result<(Self, Vec<Glob>), LoadError> {
        let LoadedDeviation { file, deviation } = loaded;
        review_date(&deviation.review, file)?;
        if let Some(deployments) = &deviation.deployment {
            let named = |pattern: &str| DeploymentKind::ALL.iter().any(|kind| alternative_matches(pattern, kind.name()));
            if let Some(unknown) = deployments.texts().find(|pattern| !named(pattern)) {
                let message = format!("deployment `{unknown}` is not one of documented, cnpg");
                return Err(LoadError::new(Place::at(file, deviation.id.place()), message));
            }
        }
        let globs = deviation.cases.iter().map(|text| glob(text, file)).collect::<Result<Vec<_>, _>>()?;
        let prepared = Self { loaded, matched: vec![false; globs.len()], refutes: deviation.refutes.iter().map(Text::raw).collect() };
        if !deviation.observed.value.when.is_empty() || deviation.observed.value.claims.is_some() {
            return Err(LoadError::new(Place::at(file, prepared.place()), "`observed` takes neither `when` nor `claims`"));
        }
        Ok((prepared, globs))
    }

    /// Line and column of `observed`.
    fn place(&self) -> (u64, u64) {
        let observed = &self.loaded.deviation.observed.referenced;
        (observed.line(), observed.column())
    }

    fn axes_match(&self, case: &Case) -> bool {
        let matches = |alternatives: &Option<OneOrMany>, axis: &str| {
            let Some(alternatives) = alternatives else { return true };
            any_matches(alternatives, case.values.get(axis).map(String::as_str).unwrap_or_default())
        };
        matches(&self.loaded.deviation.deployment, "deployment") && matches(&self.loaded.deviation.postgres, "postgres")
    }

    fn mark(&mut self, case: &mut Case, globs: &[usize], mount: &str) -> Result<(), LoadError> {
        let LoadedDeviation { file, deviation } = self.loaded;
        let at = |text: &Text, message: String| LoadError::new(Place::at(file, text.place()), message);
        for glob in globs {
            self.matched[*glob] = true;
        }
        if let Some(other) = &case.deviation {
            return Err(at(&deviation.cases[globs[0]], format!("case {} has deviation `{}` already", case.id, other.id)));
        }
        let cell: Cell = case.values.iter().map(|(axis, value)| (axis.clone(), (value.clone(), value.clone()))).collect();
        let resolver = Resolver { file, cell: &cell, service: case.key.service, mount };
        case.deviation = Some(Arc::new(AppliedDeviation {
            id: deviation.id.raw(),
            observed: resolver.expectation(&deviation.observed.value, self.place())?,
            refutes: self.refutes.clone(),
            summary: deviation.summary.clone(),
        }));
        match self.refutes.iter().find(|claim| !case.claims.contains(claim)) {
            Some(claim) => Err(at(&deviation.id, format!("it refutes `{claim}`, but case {} does not bear on that claim", case.id))),
            None => Ok(()),
        }
    }

    /// A pattern that matches no case.
    fn unmatched(&self) -> Option<LoadError> {
        let LoadedDeviation { file, deviation } = self.loaded;
        let unmatched = self.matched.iter().position(|matched| !matched)?;
        let message = format!("deviation `{}` matches no case with this pattern", deviation.id.raw());
        Some(LoadError::new(Place::at(file, deviation.cases[unmatched].place()), message))
    }
}

fn glob(text: &Text, file: &Path) -> Result<Glob, LoadError> {
    Glob::new(&text.raw()).map_err(|error| LoadError::new(Place::at(file, text.place()), format!("no valid pattern: {error}")))
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
