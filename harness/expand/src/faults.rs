//! What a timeline does to its servers, in order: a change of one that is not there, or that can't follow the ones before.

use std::collections::BTreeMap;

use super::expansion::Expansion;
use load::LoadError;
use model::change::{Change, Target};
use model::timeline::Timeline;

/// What is known of a server from the changes so far. (Whether it runs is not: a start may be refused.)
#[derive(Debug, Clone, Copy, Default)]
struct ServerCondition {
    paused: bool,
    cut: bool,
}

/// A change that can't be made of its target.
#[derive(Debug, thiserror::Error)]
enum ChangeError {
    #[error("`{0}` is paused already")]
    PausedTwice(Target),
    #[error("`{0}` was not paused: there is nothing to resume")]
    NotPaused(Target),
    #[error("the network of `{0}` is cut already")]
    CutTwice(Target),
    #[error("the network of `{0}` was not cut: there is nothing to mend")]
    NotCut(Target),
    #[error("`{0}` is paused, and does nothing that it is told: resume or kill it first")]
    ToldWhilePaused(Target),
    #[error("`{0}` is a mount, no server: what happens to servers happens to postgres, replica, redis or gateway")]
    Mount(Target),
    #[error("there is no `{0}` in this timeline: it needs `with: [{0}]`")]
    NotBeside(Target),
    #[error("there is no `{0}` in this timeline: its server is {1}")]
    OtherServer(Target, Target),
}

impl ServerCondition {
    /// Follows a change, if it can be made now.
    fn follow<T>(&mut self, target: Target, change: &Change<T>) -> Result<(), ChangeError> {
        match change {
            Change::Pause(_) if self.paused => return Err(ChangeError::PausedTwice(target)),
            Change::Resume(_) if !self.paused => return Err(ChangeError::NotPaused(target)),
            Change::Cut(_) if self.cut => return Err(ChangeError::CutTwice(target)),
            Change::Mend(_) if !self.cut => return Err(ChangeError::NotCut(target)),
            Change::Reload(_) | Change::Restart(_) | Change::Stop(_) | Change::Start(_) | Change::Disconnect(_) if self.paused => {
                return Err(ChangeError::ToldWhilePaused(target));
            }
            Change::Pause(_) => self.paused = true,
            Change::Resume(_) | Change::Kill(_) => self.paused = false,
            Change::Cut(_) => self.cut = true,
            Change::Mend(_) => self.cut = false,
            _ => {}
        }
        Ok(())
    }
}

impl Expansion<'_> {
    /// Every change of a server is of one that the timeline has, and can follow those before it.
    pub(super) fn check_servers(&self, timeline: &Timeline) -> Result<(), LoadError> {
        let mut conditions: BTreeMap<Target, ServerCondition> = BTreeMap::new();
        for (index, phase) in timeline.phases.iter().enumerate() {
            for change in &phase.changes {
                let Some(target) = change.of_server() else { continue };
                let checked =
                    self.known_server(timeline, target).and_then(|()| conditions.entry(target).or_default().follow(target, change));
                checked.map_err(|error| self.at(&["timeline", "phases", &index.to_string(), "do"], error.to_string()))?;
            }
        }
        Ok(())
    }

    fn known_server(&self, timeline: &Timeline, target: Target) -> Result<(), ChangeError> {
        let own = Target::from(self.scenario().service);
        match target {
            Target::Client | Target::Site => Err(ChangeError::Mount(target)),
            Target::Replica | Target::Gateway if !timeline.with.contains(&target) => Err(ChangeError::NotBeside(target)),
            Target::Postgres | Target::Redis if target != own => Err(ChangeError::OtherServer(target, own)),
            _ => Ok(()),
        }
    }
}
