//! The engine as others see it: asked through its socket, without the harness's code.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use mtls_conformance::environment::container::engine::Engine;
use serde_json::{Value, json};

use crate::support::not_in_ci;

/// An image with PostgreSQL, of the set that `--image-set offline` names.
pub(super) const POSTGRES: &str = "mtls-conformance/postgres:17";

/// What a run of `--image-set offline` with PostgreSQL 17 starts containers from.
pub(super) const IMAGES: [&str; 4] =
    [POSTGRES, "mtls-conformance/redis:8.0", "mtls-conformance/haproxy:3.0", "mtls-conformance/clients:trixie"];

/// The label of everything that a run makes: its value is the run's id.
const RUN: &str = "mtls-conformance.run";

/// An engine that answers.
pub(super) struct Outside {
    socket: String,
}

impl Outside {
    /// `None`, with a line that says why, where no engine answers or an image is missing.
    pub(super) async fn find(images: &[&str]) -> Option<Self> {
        let engine = match Engine::connect().await {
            Ok(engine) => engine,
            Err(error) => {
                not_in_ci(&error.to_string());
                return None;
            }
        };
        for image in images {
            if !engine.present(image).await.expect("the engine tells") {
                not_in_ci(&format!("the image {image} is not there; `make images` builds it"));
                return None;
            }
        }
        let socket = engine.host().strip_prefix("unix://").expect("a unix socket").to_owned();
        Some(Self { socket })
    }

    /// The same, for tests without a runtime.
    pub(super) fn here(images: &[&str]) -> Option<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(Self::find(images))
    }

    /// Asks the engine: arguments of curl beside the address.
    pub(super) fn ask(&self, path: &str, more: &[&str]) -> Result<Value, String> {
        Ok(serde_json::from_slice(&self.ask_for_bytes(path, more)?).unwrap_or(Value::Null))
    }

    fn ask_for_bytes(&self, path: &str, more: &[&str]) -> Result<Vec<u8>, String> {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--globoff", "--unix-socket", &self.socket])
            .args(more)
            .arg(format!("http://localhost/{path}"))
            .output()
            .expect("curl runs");
        if !output.status.success() {
            return Err(format!("{path}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)));
        }
        Ok(output.stdout)
    }

    /// The images of all containers that the harness with this process id has made since then.
    pub(super) fn created(&self, harness: i32, since: SystemTime) -> Vec<String> {
        let filters = json!({"type": ["container"], "event": ["create"], "label": [format!("mtls-conformance.pid={harness}")]});
        // With an end in the past they come at once.
        let [since, until] = [since, SystemTime::now()].map(|time| time.duration_since(UNIX_EPOCH).expect("past 1970").as_secs_f64());
        let path = format!("events?since={since}&until={until}&filters={filters}");
        let events = self.ask_for_bytes(&path.replace('"', "%22"), &[]).expect("the engine tells");
        let events = serde_json::Deserializer::from_slice(&events).into_iter::<Value>();
        let image = |event: Value| event["Actor"]["Attributes"]["mtls-conformance.image"].as_str().map(str::to_owned);
        events.filter_map(|event| image(event.expect("is JSON"))).collect()
    }

    /// Sends JSON.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.ask(path, &["--header", "Content-Type: application/json", "--data", &body.to_string()])
    }

    /// Removes something; that it can't is told on standard error, since it mostly happens while a test fails.
    pub(super) fn remove(&self, path: &str) {
        if let Err(error) = self.ask(path, &["--request", "DELETE"]) {
            let _ = writeln!(std::io::stderr(), "could not remove {error}");
        }
    }

    /// Everything that carries a run's label: `container NAME`, `network NAME`, `volume NAME`.
    pub(super) fn owned(&self, run: &str) -> Vec<String> {
        let ask = |path: &str| self.ask(path, &[]).expect("the engine tells");
        let lists =
            [("container", ask("containers/json?all=true")), ("network", ask("networks")), ("volume", ask("volumes")["Volumes"].take())];
        let mut owned = Vec::new();
        for (kind, list) in &lists {
            for item in list.as_array().into_iter().flatten().filter(|item| item["Labels"][RUN] == run) {
                let name = item["Name"].as_str().or_else(|| item["Names"][0].as_str()).unwrap_or("without a name");
                owned.push(format!("{kind} {name}"));
            }
        }
        owned
    }

    /// The processes in a run's containers, by their numbers here.
    pub(super) fn processes(&self, run: &str) -> BTreeSet<i32> {
        let containers = self.owned(run).into_iter().filter_map(|owned| owned.strip_prefix("container /").map(str::to_owned));
        let tables = containers.map(|name| self.ask(&format!("containers/{name}/top"), &[]).unwrap_or(Value::Null));
        let mut processes = BTreeSet::new();
        for table in tables {
            let titles: Vec<&str> = table["Titles"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let Some(column) = titles.iter().position(|title| *title == "PID") else { continue };
            let rows = table["Processes"].as_array().into_iter().flatten();
            processes.extend(rows.filter_map(|row| row[column].as_str()?.parse::<i32>().ok()));
        }
        processes
    }
}
