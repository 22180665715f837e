//! Drivers that run in the clients' container.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use agent::{ClientContainer, Python};
use driver::exec::Program;
use driver::served::OwnClient;
use driver::{DriverError, StartError, UnableError, catalogue};

/// What to start for the drivers of these names. The container's image may lack one: that is told as [`DriverError::Unable`].
pub(super) async fn programs(
    names: &[&String],
    client_container: &Arc<ClientContainer>,
    directory: &Path,
) -> BTreeMap<String, Result<Program, DriverError>> {
    let python = |name: &&&String| matches!(catalogue::in_container(name), Some("psycopg2" | "redis-py"));
    // Looking around takes its time: only for those that need it.
    let survey =
        if names.iter().any(|name| python(&name)) { Some(client_container.agent().survey().await.map_err(Arc::new)) } else { None };
    let mut programs = BTreeMap::new();
    for name in names {
        let unable = |cause| DriverError::unable(*name, cause);
        let program = match (catalogue::in_container(name), &survey) {
            (Some("rustls"), _) => Program::own_in(Arc::clone(client_container), OwnClient::Rustls, name, directory),
            (Some("redis-rs"), _) => Program::own_in(Arc::clone(client_container), OwnClient::RedisRs, name, directory),
            (Some(client @ ("psycopg2" | "redis-py")), Some(Ok(survey))) => {
                match survey.python.as_ref().filter(|python| has(python, client)) {
                    Some(python) => Program::python_in(Arc::clone(client_container), &python.interpreter, client, name, directory),
                    None => Err(unable(UnableError::NotInImage { client: client.to_owned(), release: survey.release.clone() })),
                }
            }
            (_, Some(Err(error))) => Err(DriverError::start(*name, StartError::Survey(Arc::clone(error)))),
            _ => Err(unable(UnableError::NotForContainers)),
        };
        programs.insert((*name).clone(), program);
    }
    programs
}

fn has(python: &Python, client: &str) -> bool {
    if client == "psycopg2" { python.psycopg2.is_some() } else { python.redis.is_some() }
}
