//! A scenario's timeline for one cell of its matrix.

use std::time::Duration;

use super::expansion::Expansion;
use super::resolve::{Cell, Defaults, Resolver, UNCLASSIFIED_ALONE, any_unclassified};
use load::LoadError;
use load::rows::Row;
use model::case::ConnectPlan;
use model::change::{Change, Target};
use model::duration;
use model::scenario::Connect;
use model::server::Service;
use model::text::Text;
use model::timeline::plan::{ClientExpectation, ClientPlan, PhaseExpectation, PhasePlan, TimelinePlan};
use model::timeline::{ClientExpect, ClientKind, Phase, PhaseExpect, Timeline, TimelineClient};
use model::when::holds;

/// The mounts that clients of a timeline can name.
const MOUNTS: [&str; 2] = ["client", "site"];

impl Expansion<'_> {
    /// The timeline for a cell; `rows` holds the row of `expect` that is for it, by phase.
    pub(super) fn timeline(
        &self,
        timeline: &Timeline,
        rows: &[Row<'_>],
        resolver: &Resolver<'_>,
        cell: &Cell,
    ) -> Result<TimelinePlan, LoadError> {
        self.check_timeline(timeline)?;
        self.check_servers(timeline)?;
        let changes = |changes: &[Change<Text>]| {
            let change = |change: &Change<Text>| match change {
                Change::PgHba(_) => change.try_map(&mut |line: &Text| resolver.networked(line)),
                _ => change.try_map(&mut |name: &Text| resolver.text(name)),
            };
            changes.iter().map(change).collect::<Result<Vec<_>, _>>()
        };
        let mut clients = Vec::new();
        for (name, client) in &timeline.clients {
            clients.push(self.client(timeline, name, client, resolver)?);
        }
        let mut phases = Vec::new();
        for (index, (phase, row)) in timeline.phases.iter().zip(rows).enumerate() {
            let expectation = self.phase(timeline, phase, &phase.expect[row.index].value, index, row, resolver)?;
            phases.push(PhasePlan { title: phase.title.clone(), changes: changes(&phase.changes)?, expectation });
        }
        let mut outages = Vec::new();
        for (index, row) in timeline.outages.iter().enumerate() {
            if let Some(unknown) = row.value.clients.keys().find(|name| !timeline.clients.contains_key(*name)) {
                return Err(self.at(&["timeline", "outages", &index.to_string()], unknown_client(timeline, unknown)));
            }
            if holds(&row.value.when, &|axis| self.value(cell, axis)) {
                outages.extend(row.value.clients.iter().map(|(name, bound)| (name.clone(), *bound)));
            }
        }
        let plan = TimelinePlan { with: timeline.with.clone(), setup: changes(&timeline.setup)?, clients, phases, outages };
        self.check_controls(&plan)?;
        Ok(plan)
    }

    /// What holds for every cell.
    fn check_timeline(&self, timeline: &Timeline) -> Result<(), LoadError> {
        let scenario = self.scenario();
        if timeline.clients.is_empty() {
            return Err(self.at(&["timeline", "clients"], "a timeline needs at least one client"));
        }
        if timeline.phases.is_empty() {
            return Err(self.at(&["timeline", "phases"], "a timeline needs at least one phase"));
        }
        let beside = [Target::Replica, Target::Gateway, Target::Site];
        if let Some(target) = timeline.with.iter().find(|target| !beside.contains(target)) {
            return Err(self.at(
                &["timeline", "with"],
                format!("`{target}` is always there, or never: only replica, gateway and site can stand here"),
            ));
        }
        if !scenario.control.is_empty() {
            return Err(self.at(
                &["control"],
                "a timeline has no `control`: what a client could do before a change is the control of what it can't do after it",
            ));
        }
        let named = [
            ("certificate", scenario.server.certificate.is_some()),
            ("client_ca", scenario.server.client_ca.is_some()),
            ("crl", scenario.server.crl.is_some()),
        ];
        if let Some((field, _)) = named.iter().find(|(_, there)| *there) {
            let message = format!("`{field}` has no meaning in a timeline: its Secrets are changed by `setup` and the phases' `do`");
            return Err(self.at(&["server", field], message));
        }
        Ok(())
    }

    fn client(&self, timeline: &Timeline, name: &str, client: &TimelineClient, resolver: &Resolver<'_>) -> Result<ClientPlan, LoadError> {
        let keys = ["timeline", "clients", name];
        let max_age = match (&client.max_age, client.kind) {
            (Some(text), ClientKind::Pool) => {
                let value = resolver.text(text)?;
                duration::duration(&value).map_err(|error| resolver.error(text, error.to_string()))?
            }
            (None, ClientKind::Pool) => return Err(self.at(&keys, "a `pool` needs `max_age`, such as `150ms`")),
            (Some(text), _) => return Err(resolver.error(text, "`max_age` is only for kind `pool`")),
            (None, _) => Duration::ZERO,
        };
        let limit = match &client.limit {
            Some(text) if client.kind == ClientKind::Replication => {
                return Err(resolver.error(text, "`limit` has no meaning for kind `replication`: its client is the replica itself"));
            }
            Some(text) => {
                let value = resolver.text(text)?;
                let limit = duration::duration(&value).map_err(|error| resolver.error(text, error.to_string()))?;
                if limit.is_zero() {
                    return Err(resolver.error(text, "a `limit` of nothing leaves no time for an answer: give one such as `500ms`"));
                }
                Some(limit)
            }
            None => None,
        };
        let plan = resolver.connect(&client.connect, None, Defaults { identity: "client", trust: "client" })?;
        if client.kind == ClientKind::Replication {
            if let Some((field, text)) = client.connect.given().next() {
                let message = format!(
                    "`{field}` has no meaning for kind `replication`: its client is the replica itself, which the Cluster configures"
                );
                return Err(resolver.error(text, message));
            }
            if !timeline.with.contains(&Target::Replica) || self.scenario().service != Service::Postgres {
                return Err(self.at(&keys, "kind `replication` needs `with: [replica]` and PostgreSQL"));
            }
            return Ok(ClientPlan { name: name.to_owned(), kind: client.kind, connect: plan, max_age, limit });
        }
        self.check_connection(timeline, &client.connect, &plan, resolver, &keys)?;
        Ok(ClientPlan { name: name.to_owned(), kind: client.kind, connect: plan, max_age, limit })
    }

    fn check_connection(
        &self,
        timeline: &Timeline,
        connect: &Connect,
        plan: &ConnectPlan,
        resolver: &Resolver<'_>,
        keys: &[&str],
    ) -> Result<(), LoadError> {
        self.check_driver(plan, resolver, connect, keys)?;
        for (name, text) in [(&plan.identity, &connect.identity), (&plan.trust, &connect.trust)] {
            let Some(name) = name else { continue };
            let at = |message: String| {
                text.as_ref().map_or_else(|| self.at(keys, message.clone()), |text| resolver.error(text, message.clone()))
            };
            if !MOUNTS.contains(&name.as_str()) {
                return Err(at(format!("`{name}` is none of client, site, none: in a timeline clients use what is mounted")));
            }
            if name == "site" && !timeline.with.contains(&Target::Site) {
                return Err(at("`site` needs `with: [site]`".to_owned()));
            }
        }
        if plan.gateway && !timeline.with.contains(&Target::Gateway) {
            return Err(self.at(keys, "`via: gateway` needs `with: [gateway]`"));
        }
        if plan.unix {
            return Err(self.at(keys, "`transport: unix` has no meaning in a timeline: its clients are seen by the relay"));
        }
        Ok(())
    }

    fn phase(
        &self,
        timeline: &Timeline,
        phase: &Phase,
        expect: &PhaseExpect,
        index: usize,
        row: &Row<'_>,
        resolver: &Resolver<'_>,
    ) -> Result<PhaseExpectation, LoadError> {
        let at_row = |message: String| self.at_row(row, message);
        if let Some(unknown) = expect.clients.keys().find(|name| !timeline.clients.contains_key(*name)) {
            return Err(at_row(unknown_client(timeline, unknown)));
        }
        let with_text = resolver.says_something(expect.text.as_ref())?;
        let mut clients = Vec::new();
        for (name, client) in &timeline.clients {
            let Some(expected) = expect.clients.get(name) else {
                return Err(at_row(format!("what does client `{name}` see in phase `{}`? Every client must be named", phase.title)));
            };
            let expected = client_expectation(name, client.kind, expected, with_text).map_err(|error| at_row(error.to_string()))?;
            clients.push((name.clone(), expected));
        }
        let refused = clients.iter().any(|(_, expected)| matches!(expected, ClientExpectation::Refused(_)));
        if !refused && (expect.text.is_some() || expect.server_log.is_some()) {
            return Err(at_row("`text` and `server_log` go with a client that is refused".to_owned()));
        }
        if expect.objection.is_some() && phase.changes.is_empty() {
            return Err(at_row("`objection` needs a change in `do` that can be refused".to_owned()));
        }
        if index == 0 && !phase.changes.is_empty() {
            let message =
                "the first phase has no `do`: it shows that everything works before anything changes (`setup` is for what happens before)";
            return Err(self.at(&["timeline", "phases", "0", "do"], message));
        }
        Ok(PhaseExpectation {
            clients,
            text: resolver.optional_networked(expect.text.as_ref())?,
            server_log: resolver.all_networked(expect.server_log.as_ref())?,
            server_says: resolver.all_networked(expect.server_says.as_ref())?,
            on: expect.on.unwrap_or_else(|| self.scenario().service.into()),
            objection: expect.objection.as_ref().map(|texts| resolver.all_networked(Some(texts))).transpose()?,
            server_certificate: resolver.optional(expect.server_certificate.as_ref())?,
        })
    }

    /// A client that is refused must have been served in an earlier phase, on the same endpoint: that is the refusal's positive control.
    fn check_controls(&self, plan: &TimelinePlan) -> Result<(), LoadError> {
        let mut served: Vec<&str> = Vec::new();
        for (index, phase) in plan.phases.iter().enumerate() {
            for (name, expected) in &phase.expectation.clients {
                match expected {
                    ClientExpectation::Ok | ClientExpectation::Recovers => served.push(name),
                    ClientExpectation::Refused(_) | ClientExpectation::Away(_) | ClientExpectation::Lost | ClientExpectation::Waits
                        if !served.contains(&name.as_str()) =>
                    {
                        let message = format!(
                            "client `{name}` is refused in phase `{}`, but no phase before shows that it can be served",
                            phase.title
                        );
                        return Err(self.at(&["timeline", "phases", &index.to_string()], message));
                    }
                    ClientExpectation::Refused(_) | ClientExpectation::Away(_) | ClientExpectation::Lost | ClientExpectation::Waits => {}
                }
            }
        }
        Ok(())
    }
}

/// What a client of its kind can't see.
#[derive(Debug, thiserror::Error)]
enum ClientExpectError {
    #[error("`{word}` is for a client of kind `held`: `{client}` opens new sessions")]
    OnlyHeld { word: &'static str, client: String },
    #[error("`{client}` holds one session: it sees `ok`, `waits` or `lost`")]
    NeverHeld { client: String },
    #[error("`refused` needs at least one class, such as `{{alert: unknown-ca}}`")]
    NoClass,
    #[error("{UNCLASSIFIED_ALONE}")]
    Unclassified,
    #[error("`unclassified` can't be said of a client that is `away`, whose `text` nobody compares: name the class that is meant")]
    UnclassifiedAway,
}

fn client_expectation(
    name: &str,
    kind: ClientKind,
    expected: &ClientExpect,
    with_text: bool,
) -> Result<ClientExpectation, ClientExpectError> {
    let held = kind == ClientKind::Held;
    match expected {
        ClientExpect::Ok => Ok(ClientExpectation::Ok),
        ClientExpect::Lost if held => Ok(ClientExpectation::Lost),
        ClientExpect::Waits if held => Ok(ClientExpectation::Waits),
        ClientExpect::Lost => Err(ClientExpectError::OnlyHeld { word: "lost", client: name.to_owned() }),
        ClientExpect::Waits => Err(ClientExpectError::OnlyHeld { word: "waits", client: name.to_owned() }),
        ClientExpect::Refused(_) | ClientExpect::Away(_) | ClientExpect::Recovers if held => {
            Err(ClientExpectError::NeverHeld { client: name.to_owned() })
        }
        ClientExpect::Recovers => Ok(ClientExpectation::Recovers),
        ClientExpect::Refused(refused) | ClientExpect::Away(refused) => match refused.classes() {
            [] => Err(ClientExpectError::NoClass),
            classes if matches!(expected, ClientExpect::Away(_)) && any_unclassified(classes) => Err(ClientExpectError::UnclassifiedAway),
            classes if matches!(expected, ClientExpect::Away(_)) => Ok(ClientExpectation::Away(classes.to_vec())),
            classes if any_unclassified(classes) && !with_text => Err(ClientExpectError::Unclassified),
            classes => Ok(ClientExpectation::Refused(classes.to_vec())),
        },
    }
}

fn unknown_client(timeline: &Timeline, name: &str) -> String {
    let known: Vec<&str> = timeline.clients.keys().map(String::as_str).collect();
    format!("client `{name}` is not one of {}", known.join(", "))
}
