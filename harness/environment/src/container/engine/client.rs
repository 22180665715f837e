//! The engine itself: where it listens, and requests with their time limits.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use tokio::net::UnixStream;
use tokio::sync::Mutex;

use super::error::{EngineError, PullError, about};
use super::limits;

/// Where Docker listens unless somebody says otherwise.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// A Docker engine that answers.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    docker: Docker,
    host: String,
    /// References whose pull failed: a registry that refused once is not asked again for every server.
    pub(super) failed_pulls: Mutex<BTreeMap<String, PullError>>,
}

/// What `doctor` tells of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// Where it listens, such as `unix:///var/run/docker.sock`.
    pub host: String,
    /// The engine's own version, such as `20.10.24`.
    pub version: String,
    /// The newest version of the API that it speaks.
    pub api: String,
    /// The storage driver, such as `overlay2`.
    pub storage: String,
}

impl Engine {
    /// The engine that the environment variable `DOCKER_HOST` names, else the one at the usual places: it answered just now.
    ///
    /// # Errors
    /// [`EngineError::Absent`], [`EngineError::Denied`] or [`EngineError::Remote`], within seconds.
    pub async fn connect() -> Result<Self, EngineError> {
        let host = host();
        check_socket(&host).await?;
        let docker = Docker::connect_with_unix(&host, limits::REQUEST.as_secs(), bollard::API_DEFAULT_VERSION)
            .map_err(|error| EngineError::absent(&host, about(&error)))?;
        Self::answering(docker, host).await
    }

    pub(super) async fn answering(docker: Docker, host: String) -> Result<Self, EngineError> {
        let engine = Self { inner: Arc::new(Inner { docker, host, failed_pulls: Mutex::default() }) };
        engine.ping().await?;
        Ok(engine)
    }

    async fn ping(&self) -> Result<(), EngineError> {
        let absent = |reason| EngineError::absent(self.host(), reason);
        match tokio::time::timeout(limits::PING, self.docker().ping()).await {
            Err(_) => Err(absent(format!("it took the connection, and did not answer a ping within {:?}", limits::PING))),
            Ok(Err(error)) => Err(absent(about(&error))),
            Ok(Ok(_)) => Ok(()),
        }
    }

    /// Version, API, storage and place.
    ///
    /// # Errors
    /// [`EngineError`] if it does not answer any more.
    pub async fn info(&self) -> Result<EngineInfo, EngineError> {
        let version = self.ask(limits::LOOK, || "tell its version".to_owned(), self.docker().version()).await?;
        let info = self.ask(limits::LOOK, || "tell about itself".to_owned(), self.docker().info()).await?;
        let known = |value: Option<String>| value.unwrap_or_else(|| "unknown".to_owned());
        Ok(EngineInfo {
            host: self.host().to_owned(),
            version: known(version.version),
            api: known(version.api_version),
            storage: known(info.driver),
        })
    }

    /// Where it listens, as [`EngineInfo::host`] has it.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.inner.host
    }

    pub(super) fn docker(&self) -> &Docker {
        &self.inner.docker
    }

    /// One request with its time limit; `what` completes "could not".
    pub(super) async fn ask<T>(
        &self,
        limit: Duration,
        what: impl Fn() -> String,
        request: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, EngineError> {
        match tokio::time::timeout(limit, request).await {
            Err(_) => Err(EngineError::Slow { what: what(), limit }),
            Ok(Err(error)) => Err(EngineError::refused(what(), &error)),
            Ok(Ok(value)) => Ok(value),
        }
    }
}

/// Where the engine listens: DOCKER_HOST, else the first of the usual sockets that exists. Docker's own tools look at these places too: the
/// system's, a rootless engine's and Docker Desktop's.
pub(super) fn host() -> String {
    if let Ok(host) = std::env::var("DOCKER_HOST")
        && !host.is_empty()
    {
        return host;
    }
    let below = |variable: &str, rest: &str| std::env::var_os(variable).map(|directory| PathBuf::from(directory).join(rest));
    let places = [
        Some(PathBuf::from(DEFAULT_SOCKET)),
        below("XDG_RUNTIME_DIR", ".docker/run/docker.sock"),
        below("HOME", ".docker/run/docker.sock"),
        below("HOME", ".docker/desktop/docker.sock"),
    ];
    let found = places.into_iter().flatten().find(|place| place.exists());
    format!("unix://{}", found.map_or(Cow::Borrowed(DEFAULT_SOCKET), |place| Cow::Owned(place.display().to_string())))
}

/// Whether somebody listens at a unix socket, and lets us in: the client's own errors tell these two badly apart.
pub(super) async fn check_socket(host: &str) -> Result<(), EngineError> {
    let Some(path) = host.strip_prefix("unix://") else { return Err(EngineError::Remote { host: host.to_owned() }) };
    match tokio::time::timeout(limits::PING, UnixStream::connect(path)).await {
        Err(_) => Err(EngineError::absent(host, format!("it did not take a connection within {:?}", limits::PING))),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::PermissionDenied => Err(EngineError::Denied { host: host.to_owned() }),
        Ok(Err(error)) => Err(EngineError::absent(host, error.to_string())),
        Ok(Ok(_)) => Ok(()),
    }
}
