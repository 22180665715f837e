//! What a timeline does to its servers, in order: a change of one that is not there, or that can't follow the ones before.

use std::collections::BTreeMap;

use super::expand::Expansion;
use super::yaml::LoadError;
use model::change::{Change, Target};
use model::timeline::Timeline;

/// What is known of a server from the changes so far. (Whether it runs is not: a start may be refused.)
#[derive(Debug, Clone, Copy, Default)]
struct ServerCondition {
    paused: bool,
    cut: bool,
}

impl ServerCondition {
    /// Follows a change; `Err` says why it can't be made now.
    fn follow<T>(&mut self, target: Target, change: &Change<T>) -> Result<(), String> {
        match change {
            Change::Pause(_) if self.paused => return Err(format!("`{target}` is paused already")),
            Change::Resume(_) if !self.paused => return Err(format!("`{target}` was not paused: there is nothing to resume")),
            Change::Cut(_) if self.cut => return Err(format!("the network of `{target}` is cut already")),
            Change::Mend(_) if !self.cut => return Err(format!("the network of `{target}` was not cut: there is nothing to mend")),
            Change::Reload(_) | Change::Restart(_) | Change::Stop(_) | Change::Start(_) | Change::Disconnect(_) if self.paused => {
                return Err(format!("`{target}` is paused, and does nothing that it is told: resume or kill it first"));
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
                checked.map_err(|message| self.at(&["timeline", "phases", &index.to_string(), "do"], message))?;
            }
        }
        Ok(())
    }

    fn known_server(&self, timeline: &Timeline, target: Target) -> Result<(), String> {
        match target {
            Target::Client | Target::Site => {
                Err(format!("`{target}` is a mount, no server: what happens to servers happens to postgres, replica, redis or gateway"))
            }
            Target::Replica | Target::Gateway if !timeline.with.contains(&target) => {
                Err(format!("there is no `{target}` in this timeline: it needs `with: [{target}]`"))
            }
            Target::Postgres | Target::Redis if target != Target::from(self.scenario().service) => {
                Err(format!("there is no `{target}` in this timeline: its server is {}", Target::from(self.scenario().service)))
            }
            _ => Ok(()),
        }
    }
}
