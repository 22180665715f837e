//! The engine as others see it: asked through its socket, without the harness's code.

use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::io::Write as _;
use std::process::{Child, Command, ExitStatus};

use environment::container::engine::Engine;
use serde_json::Value;

use crate::support::{PATIENCE, not_in_ci, until};

/// An image with PostgreSQL, of the set that `--image-set offline` names.
pub(super) const POSTGRES: &str = "mtls-conformance/postgres:17";

/// What a run of `--image-set offline` with PostgreSQL 17 starts containers from.
pub(crate) const IMAGES: [&str; 4] =
    [POSTGRES, "mtls-conformance/redis:8.0", "mtls-conformance/haproxy:3.0", "mtls-conformance/clients:trixie"];

/// The label of everything that a run makes: its value is the run's id.
const RUN: &str = "mtls-conformance.run";

/// An engine that answers.
pub(crate) struct Outside {
    socket: String,
}

/// The engine did not do what it was asked for.
#[derive(Debug)]
pub(super) struct Failed {
    path: String,
    status: ExitStatus,
    said: String,
}

impl Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.path, self.status, self.said)
    }
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
    pub(crate) fn here(images: &[&str]) -> Option<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(Self::find(images))
    }

    /// Asks the engine: arguments of curl beside the address.
    pub(super) fn ask(&self, path: &str, more: &[&str]) -> Result<Value, Failed> {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--globoff", "--unix-socket", &self.socket])
            .args(more)
            .arg(format!("http://localhost/{path}"))
            .output()
            .expect("curl runs");
        if !output.status.success() {
            return Err(Failed {
                path: path.to_owned(),
                status: output.status,
                said: String::from_utf8_lossy(&output.stderr).into_owned(),
            });
        }
        Ok(serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
    }

    /// Writes down what happens to containers from now on.
    pub(super) fn events(&self) -> Events {
        let log = tempfile::NamedTempFile::new().expect("a file");
        let curl = Command::new("curl")
            .args(["--silent", "--no-buffer", "--globoff", "--unix-socket", &self.socket])
            .arg(r"http://localhost/events?filters={%22type%22:[%22container%22],%22event%22:[%22create%22,%22destroy%22]}")
            .stdout(log.reopen().expect("opens"))
            .spawn()
            .expect("curl runs");
        Events { log, curl }
    }

    /// Sends `body` as JSON; gives the engine's answer, null where it has none.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, Failed> {
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

/// What happens to containers. (Asked for afterwards, the engine remembers a few hundred events of all runs together.)
pub(super) struct Events {
    log: tempfile::NamedTempFile,
    curl: Child,
}

impl Events {
    /// The images of all containers that the harness with this process id has made, once all of them are gone.
    pub(super) fn created(&self, harness: i32) -> Vec<String> {
        let harness = harness.to_string();
        until("as many ends as beginnings", PATIENCE, || {
            let log = std::fs::read(self.log.path()).expect("reads");
            // The last line may not be whole yet.
            let events = serde_json::Deserializer::from_slice(&log).into_iter::<Value>().map_while(Result::ok);
            let ours: Vec<Value> =
                events.filter(|event| event["Actor"]["Attributes"]["mtls-conformance.pid"] == harness.as_str()).collect();
            let of = |action: &str| -> Vec<String> {
                let events = ours.iter().filter(|event| event["Action"] == action);
                // The one that fills the volume has no image of its own to tell.
                events.map(|event| event["Actor"]["Attributes"]["mtls-conformance.image"].as_str().unwrap_or_default().to_owned()).collect()
            };
            let (created, destroyed) = (of("create"), of("destroy"));
            if !created.is_empty() && created.len() == destroyed.len() { Ok(created) } else { Err(format!("{created:?}, {destroyed:?}")) }
        })
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // Nothing to do where it has ended.
        let _ = self.curl.kill();
        let _ = self.curl.wait();
    }
}
