//! Which cases of a plan are meant.

use globset::{Glob, GlobSet, GlobSetBuilder};

use model::case::Case;
use model::server::DeploymentKind;
use model::when::alternative_matches;

/// A selection; what is empty or `None` selects all.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Globs over scenario ids or case ids.
    pub ids: Vec<String>,
    /// PostgreSQL major versions; cases without a version stay in.
    pub postgres: Vec<u16>,
    /// Driver names or globs; cases without a driver axis stay in.
    pub drivers: Vec<String>,
    /// Only cases of this deployment; `None`: of both.
    pub deployment: Option<DeploymentKind>,
    /// The `.0`-th of `.1` parts, counted from 0.
    pub partition: Option<(usize, usize)>,
}

impl Selection {
    /// Keeps the cases that are meant, in order.
    ///
    /// # Errors
    /// One line of text for a pattern that is no pattern.
    pub fn apply(&self, cases: Vec<Case>) -> Result<Vec<Case>, String> {
        let ids = self.globs()?;
        let mut cases: Vec<Case> = cases
            .into_iter()
            .filter(|case| ids.as_ref().is_none_or(|ids| ids.is_match(&case.id) || ids.is_match(&case.scenario)))
            .filter(|case| self.postgres.is_empty() || case.key.version.is_none_or(|version| self.postgres.contains(&version)))
            .filter(|case| {
                let driver = case.values.get("driver");
                self.drivers.is_empty()
                    || driver.is_none_or(|driver| self.drivers.iter().any(|pattern| alternative_matches(pattern, driver)))
            })
            .filter(|case| self.deployment.is_none_or(|deployment| case.key.deployment == deployment))
            .collect();
        if let Some((index, count)) = self.partition {
            // Dealt out like cards: every part gets its share of every scenario.
            let mut position = 0;
            cases.retain(|_| {
                position += 1;
                (position - 1) % count == index
            });
        }
        Ok(cases)
    }

    fn globs(&self) -> Result<Option<GlobSet>, String> {
        if self.ids.is_empty() {
            return Ok(None);
        }
        let mut set = GlobSetBuilder::new();
        for id in &self.ids {
            set.add(Glob::new(id).map_err(|error| format!("`{id}` is no valid pattern: {error}"))?);
        }
        set.build().map(Some).map_err(|error| error.to_string())
    }
}
