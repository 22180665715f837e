//! Which cases of a plan are meant.

use std::collections::BTreeSet;
use std::fmt;

use globset::{Glob, GlobMatcher};
use thiserror::Error;

use model::case::Case;
use model::server::DeploymentKind;
use model::when::alternative_matches;

/// From this similarity on (normalised Damerau-Levenshtein: 1 is the same), a name may have been meant: two letters in a name of six.
const SIMILAR: f64 = 0.65;
/// Names that a message lists before it counts the rest.
const LISTED: usize = 24;

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

/// Why a selection gives no cases.
#[derive(Debug, Error)]
pub enum SelectError {
    /// An id that can't be read as a glob.
    #[error("`{pattern}` is no valid pattern")]
    Pattern {
        /// The id as given.
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: globset::Error,
    },
    /// The scenarios have no cases at all, whatever is selected.
    #[error("no case matches: the scenarios have none")]
    Empty,
    /// Nothing is left, and these filters match nothing in the whole plan.
    #[error("no case matches\n{}", lines(.0))]
    Unmatched(Vec<Unmatched>),
    /// Cases are left, but these filters, or these of a filter's values, match nothing: misspellings, most likely. A run of the others would
    /// be green without them.
    #[error("not every filter matches a case\n{}", lines(.0))]
    PartlyUnmatched(Vec<Unmatched>),
    /// Every filter matches something, but `last` none of the cases that those before it left.
    #[error(
        "no case matches\n{last} leaves {cases} that {} {}: {there}",
        and(before),
        if let [_] = before.as_slice() { "selects" } else { "select" }
    )]
    Together {
        /// The filters before it as the command line has them, of which there is at least one.
        before: Vec<String>,
        /// `none of the 2 cases`.
        cases: String,
        /// The filter that leaves nothing.
        last: String,
        /// What those cases are instead.
        there: String,
    },
}

/// One value of a filter that matches no case of the whole plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmatched {
    /// The value as the command line has it.
    given: String,
    /// What it could have matched: `case`, `scenario and no case`.
    noun: &'static str,
    /// The name that is spelled most alike.
    nearest: Option<String>,
    /// What there is to choose from, for the message.
    there: String,
}

impl fmt::Display for Unmatched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} matches no {}: ", self.given, self.noun)?;
        if let Some(nearest) = &self.nearest {
            write!(f, "did you mean `{nearest}`? ")?;
        }
        f.write_str(&self.there)
    }
}

fn lines(unmatched: &[Unmatched]) -> String {
    unmatched.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn and(texts: &[String]) -> String {
    match texts {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        all => all.concat(),
    }
}

impl Selection {
    /// The cases that are meant, in the order of the plan; at least one.
    ///
    /// # Errors
    /// [`SelectError::Pattern`] for an id that is no glob; the others where nothing is left, or where a filter matches nothing.
    pub fn apply(&self, plan: Vec<Case>) -> Result<Vec<Case>, SelectError> {
        if plan.is_empty() {
            return Err(SelectError::Empty);
        }
        let filters = self.filters()?;
        let unmatched: Vec<Unmatched> = filters.iter().flat_map(|filter| filter.unmatched(&plan)).collect();
        let mut before: Vec<String> = Vec::new();
        let mut cases = plan;
        for filter in &filters {
            let left: Vec<bool> = cases.iter().enumerate().map(|(index, case)| filter.keeps(index, case)).collect();
            if !left.contains(&true) {
                if !unmatched.is_empty() {
                    return Err(SelectError::Unmatched(unmatched));
                }
                let count =
                    if cases.len() == 1 { "nothing of the one case".to_owned() } else { format!("none of the {} cases", cases.len()) };
                // A first filter that leaves nothing has values that match nothing; a partition always has a first part.
                return Err(SelectError::Together { before, cases: count, last: filter.given(), there: filter.there(&cases) });
            }
            let mut left = left.into_iter();
            cases.retain(|_| left.next().unwrap_or(false));
            before.push(filter.given());
        }
        if unmatched.is_empty() { Ok(cases) } else { Err(SelectError::PartlyUnmatched(unmatched)) }
    }

    /// Those that are set, in the order in which they are applied.
    fn filters(&self) -> Result<Vec<Filter<'_>>, SelectError> {
        let mut filters = Vec::new();
        if !self.ids.is_empty() {
            filters.push(Filter::Ids(self.ids.iter().map(|id| glob(id)).collect::<Result<_, _>>()?));
        }
        if !self.postgres.is_empty() {
            filters.push(Filter::Postgres(&self.postgres));
        }
        if !self.drivers.is_empty() {
            filters.push(Filter::Drivers(&self.drivers));
        }
        filters.extend(self.deployment.map(Filter::Deployment));
        filters.extend(self.partition.map(|(index, count)| Filter::Partition { index, count }));
        Ok(filters)
    }
}

fn glob(id: &str) -> Result<(&str, GlobMatcher), SelectError> {
    match Glob::new(id) {
        Ok(glob) => Ok((id, glob.compile_matcher())),
        Err(source) => Err(SelectError::Pattern { pattern: id.to_owned(), source }),
    }
}

/// One option of the command line that leaves cases out.
enum Filter<'a> {
    Ids(Vec<(&'a str, GlobMatcher)>),
    Postgres(&'a [u16]),
    Drivers(&'a [String]),
    Deployment(DeploymentKind),
    Partition { index: usize, count: usize },
}

impl Filter<'_> {
    /// `index` is the case's place among those that the filters before this one left.
    fn keeps(&self, index: usize, case: &Case) -> bool {
        match self {
            Self::Ids(ids) => ids.iter().any(|(_, glob)| is_id(glob, case)),
            Self::Postgres(versions) => case.key.version.is_none_or(|version| versions.contains(&version)),
            Self::Drivers(drivers) => driver(case).is_none_or(|name| drivers.iter().any(|pattern| alternative_matches(pattern, name))),
            Self::Deployment(deployment) => case.key.deployment == *deployment,
            // Dealt out like cards: every part gets its share of every scenario.
            Self::Partition { index: part, count } => index % count == *part,
        }
    }

    /// As the command line has it.
    fn given(&self) -> String {
        match self {
            Self::Ids(ids) => ids.iter().map(|(id, _)| format!("`{id}`")).collect::<Vec<_>>().join(" or "),
            Self::Postgres(versions) => format!("`--postgres {}`", versions.iter().map(u16::to_string).collect::<Vec<_>>().join(",")),
            Self::Drivers(drivers) => format!("`--driver {}`", drivers.join(",")),
            Self::Deployment(deployment) => format!("`--deployment {deployment}`"),
            Self::Partition { index, count } => format!("`--partition {}/{count}`", index + 1),
        }
    }

    /// What these cases are, in this filter's terms.
    fn there(&self, cases: &[Case]) -> String {
        match self {
            Self::Ids(_) => {
                let scenarios: BTreeSet<&str> = cases.iter().map(|case| case.scenario.as_str()).collect();
                match scenarios.len() {
                    1 => "`mtls-conformance list` shows the one scenario".to_owned(),
                    count => format!("`mtls-conformance list` shows the {count} scenarios"),
                }
            }
            Self::Postgres(_) => listed("there", versions(cases)),
            Self::Drivers(_) => listed("there", drivers(cases)),
            Self::Deployment(_) => listed("there", cases.iter().map(|case| case.key.deployment.to_string()).collect()),
            Self::Partition { .. } => "there are more parts than cases".to_owned(),
        }
    }

    /// The values that match no case. A case without a version or a driver is matched by no version and no driver.
    fn unmatched(&self, plan: &[Case]) -> Vec<Unmatched> {
        let unmatched = |given: String, nearest: Option<String>| Unmatched { given, noun: "case", nearest, there: self.there(plan) };
        match self {
            Self::Ids(ids) => {
                let vain = ids.iter().filter(|(_, glob)| !plan.iter().any(|case| is_id(glob, case)));
                let there = |id: &str| match scenario_of(id, plan) {
                    Some(scenario) => format!("`mtls-conformance list --cases {scenario}` shows the scenario's cases"),
                    None => self.there(plan),
                };
                vain.map(|(id, _)| Unmatched {
                    given: format!("`{id}`"),
                    noun: "scenario and no case",
                    nearest: nearest_id(id, plan),
                    there: there(id),
                })
                .collect()
            }
            Self::Postgres(wanted) => {
                let there = versions(plan);
                let vain = wanted.iter().map(u16::to_string).filter(|version| !there.contains(version));
                vain.map(|version| unmatched(format!("`--postgres {version}`"), None)).collect()
            }
            Self::Drivers(wanted) => {
                let there = drivers(plan);
                let vain = wanted.iter().filter(|pattern| !there.iter().any(|name| alternative_matches(pattern, name)));
                let near = |pattern: &str| nearest(pattern, there.iter().map(String::as_str));
                vain.map(|pattern| unmatched(format!("`--driver {pattern}`"), near(pattern))).collect()
            }
            Self::Deployment(deployment) => {
                let vain = !plan.iter().any(|case| case.key.deployment == *deployment);
                vain.then(|| unmatched(self.given(), None)).into_iter().collect()
            }
            Self::Partition { .. } => Vec::new(),
        }
    }
}

fn is_id(glob: &GlobMatcher, case: &Case) -> bool {
    glob.is_match(&case.id) || glob.is_match(&case.scenario)
}

fn driver(case: &Case) -> Option<&String> {
    case.values.get("driver")
}

fn versions(cases: &[Case]) -> BTreeSet<String> {
    cases.iter().filter_map(|case| case.key.version).map(|version| version.to_string()).collect()
}

fn drivers(cases: &[Case]) -> BTreeSet<String> {
    cases.iter().filter_map(driver).cloned().collect()
}

/// `there are 15, 16, 17, 18`; where there are many, the rest is counted.
fn listed(there: &str, names: BTreeSet<String>) -> String {
    let count = names.len();
    let mut shown: Vec<String> = names.into_iter().take(LISTED).collect();
    if count > LISTED {
        shown.push(format!("and {} more", count - LISTED));
    }
    match count {
        0 => format!("{there} are none"),
        1 => format!("{there} is {}", shown.concat()),
        _ => format!("{there} are {}", shown.join(", ")),
    }
}

/// The scenario of a case's id, where there is one of that name.
fn scenario_of<'a>(id: &'a str, plan: &[Case]) -> Option<&'a str> {
    let (scenario, _) = id.split_once(':')?;
    plan.iter().any(|case| case.scenario == scenario).then_some(scenario)
}

/// The scenario that is spelled most alike, or the case, where the scenario is right. The last part of an id may stand for it.
fn nearest_id(id: &str, plan: &[Case]) -> Option<String> {
    if let Some(scenario) = scenario_of(id, plan) {
        return nearest(id, plan.iter().filter(|case| case.scenario == scenario).map(|case| case.id.as_str()));
    }
    let wanted = id.split_once(':').map_or(id, |(scenario, _)| scenario);
    let scenarios: BTreeSet<&str> = plan.iter().map(|case| case.scenario.as_str()).collect();
    let by_last_part = scenarios.iter().find(|scenario| scenario.rsplit_once('/').is_some_and(|(_, last)| last == wanted));
    by_last_part.map(|scenario| (*scenario).to_owned()).or_else(|| nearest(wanted, scenarios.iter().copied()))
}

/// The name that is spelled most alike, unless none is alike.
fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let wanted = wanted.replace('*', "");
    names
        .map(|name| (strsim::normalized_damerau_levenshtein(&wanted, name), name))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, name)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Catalogue, expand};
    use load::ScenarioSet;
    use model::driver::{DriverInfo, Family};
    use model::server::Service;

    /// Two scenarios: one with drivers and versions, one with neither.
    fn plan() -> Vec<Case> {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |file: &str, text: &str| std::fs::write(directory.path().join(file), text).expect("writes");
        std::fs::create_dir(directory.path().join("postgres")).expect("makes");
        std::fs::create_dir(directory.path().join("redis")).expect("makes");
        write("claims.yaml", "claims:\n  - {id: a.b, statement: One., document: guide.md, section: Rules, subject: [postgres]}\n");
        write(
            "postgres/unset.yaml",
            "id: postgres/unset\ntitle: One\nclaims: [a.b]\ndeployment: documented\npostgres: [17, 18]\nmatrix:\n  driver: [libpq-17, rustls]\n\
             steps:\n  - connect: {user: app, identity: none, trust: none}\n    expect:\n      - session: {tls: false}\n",
        );
        write(
            "redis/plaintext.yaml",
            "id: redis/plaintext\ntitle: Two\nclaims: [a.b]\nservice: redis\ndeployment: documented\n\
             steps:\n  - connect: {driver: redis-rs, identity: none, trust: none}\n    expect:\n      - session: {tls: false}\n",
        );
        let info = |name: &str, service| DriverInfo {
            name: name.to_owned(),
            service,
            family: Family::Other,
            libpq: None,
            version: String::new(),
            tls_library: None,
        };
        let drivers = vec![info("libpq-17", Service::Postgres), info("rustls", Service::Postgres), info("redis-rs", Service::Redis)];
        let set = ScenarioSet::load(&[directory.path().to_path_buf()]).unwrap_or_else(|errors| panic!("{errors:?}"));
        expand(&set, &Catalogue { drivers, postgres: vec![17, 18], mount: "/mounted".to_owned() })
            .unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    fn ids(ids: &[&str]) -> Selection {
        Selection { ids: ids.iter().map(|id| (*id).to_owned()).collect(), ..Selection::default() }
    }

    fn postgres(versions: &[u16]) -> Selection {
        Selection { postgres: versions.to_vec(), ..ids(&["postgres/*"]) }
    }

    fn drivers(drivers: &[&str]) -> Selection {
        Selection { drivers: drivers.iter().map(|driver| (*driver).to_owned()).collect(), ..ids(&["postgres/*"]) }
    }

    fn refused(selection: &Selection) -> String {
        selection.apply(plan()).expect_err("nothing is left").to_string()
    }

    #[test]
    fn a_filter_that_matches_nothing_is_named_with_what_there_is_and_the_nearest_spelling() {
        let texts = [
            ids(&["nosuch"]),
            ids(&["postgres/unst"]),
            ids(&["unset"]),
            ids(&["postgres/unset:driver=libpq-17"]),
            ids(&["redis/none", "postgres/none*"]),
            postgres(&[99]),
            drivers(&["libpg-17"]),
            drivers(&["no-such-driver", "rust"]),
            Selection { deployment: Some(DeploymentKind::Cnpg), ..Selection::default() },
            Selection { postgres: vec![99], ..drivers(&["rustl"]) },
        ]
        .map(|selection| refused(&selection));
        insta::assert_snapshot!(texts.join("\n\n"));
    }

    #[test]
    fn filters_that_leave_nothing_together_say_which_one_left_nothing() {
        let texts = [
            Selection { postgres: vec![17], ..ids(&["postgres/unset:*postgres=18*"]) },
            Selection { drivers: vec!["libpq-17".to_owned()], ..ids(&["postgres/unset:*postgres=18,driver=rustls"]) },
            Selection { partition: Some((6, 7)), ..drivers(&["rustls"]) },
        ]
        .map(|selection| refused(&selection));
        insta::assert_snapshot!(texts.join("\n\n"));
    }

    #[test]
    fn a_filter_that_matches_nothing_is_an_error_beside_others_that_match() {
        let texts = [
            ids(&["postgres/unset", "redis/plaintest"]),
            drivers(&["rustls", "psycopg3"]),
            Selection { postgres: vec![17, 99], ..Selection::default() },
        ]
        .map(|selection| refused(&selection));
        insta::assert_snapshot!(texts.join("\n\n"));
        assert_eq!(ids(&["*", "redis/*"]).apply(plan()).expect("all cases").len(), 5);
    }

    #[test]
    fn cases_without_a_version_or_a_driver_stay_and_parts_are_dealt_out() {
        let count = |selection: Selection| selection.apply(plan()).expect("cases are left").len();
        assert_eq!(count(Selection { postgres: vec![17], ..Selection::default() }), 3);
        assert_eq!(count(Selection { drivers: vec!["lib*".to_owned()], ..Selection::default() }), 3);
        assert_eq!((0..2).map(|part| count(Selection { partition: Some((part, 2)), ..Selection::default() })).collect::<Vec<_>>(), [3, 2]);
    }

    #[test]
    fn an_id_that_is_no_pattern_is_an_error_with_its_cause() {
        let error = ids(&["postgres/{"]).apply(plan()).expect_err("no pattern");
        assert_eq!(error.to_string(), "`postgres/{` is no valid pattern");
        assert!(std::error::Error::source(&error).is_some());
    }
}
