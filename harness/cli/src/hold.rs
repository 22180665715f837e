//! `--hold`: servers that stay up after the run, as they were for a case that failed, and command lines that connect to them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::args::Hold;
use crate::exit::Exit;
use environment::{Environment as _, Server};
use model::case::{Action, Case, ConnectPlan, DEFAULT_IDENTITY, DEFAULT_TRUST, PasswordChoice};
use model::connect::{ConnectRequest, Password, PostgresRequest, RedisRequest, RedisTls, SslMode};
use model::endpoint::Address;
use model::server::{ServerConfig, ServerKey, Service};
use os::shell::in_shell;
use os::tree;
use run::event::{Event, Reporter};
use session::Session;

/// Whether servers are to stay up after a run that ends so.
pub(super) fn is_asked_for(hold: Option<Hold>, exit: Exit) -> bool {
    match hold {
        None => false,
        Some(Hold::Always) => true,
        Some(Hold::OnFailure) => matches!(exit, Exit::NotConformant | Exit::Environment),
    }
}

/// The first case of each server that failed or errored.
pub(super) type Failed = Arc<Mutex<BTreeMap<ServerKey, Failure>>>;

/// A case that failed or errored.
pub(super) struct Failure {
    case: Arc<Case>,
    /// How many of its steps were carried out.
    steps: usize,
}

/// Finds them. Timelines have servers of their own, which end with them.
pub(super) struct FirstFailures {
    cases: BTreeMap<String, Arc<Case>>,
    failed: Failed,
}

impl FirstFailures {
    /// Those among `cases`, told to `failed`.
    pub(super) fn of(cases: &[Arc<Case>], failed: &Failed) -> Self {
        let cases = cases.iter().filter(|case| case.timeline.is_none()).map(|case| (case.id.clone(), Arc::clone(case))).collect();
        Self { cases, failed: Arc::clone(failed) }
    }
}

impl Reporter for FirstFailures {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        if let Event::CaseFinished(record) = event {
            let kind = record.outcome.kind();
            if (kind.is_failure() || kind.is_error())
                && let Some(case) = self.cases.get(&record.id)
            {
                let steps = record.steps_done();
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.entry(case.key).or_insert_with(|| Failure { case: Arc::clone(case), steps });
            }
        }
        Ok(())
    }
}

impl Failure {
    /// The connection that it made last; the first one where it came to none.
    fn connection(&self) -> Option<&ConnectPlan> {
        let connects = |step: &&model::case::PlannedStep| matches!(step.action, Action::Connect(_));
        let done = self.case.steps.get(..self.steps).unwrap_or_default().iter().rev().find(connects);
        done.or_else(|| self.case.steps.iter().find(connects)).and_then(|step| match &step.action {
            Action::Connect(plan) => Some(plan),
            Action::Openssl(_) => None,
        })
    }
}

/// Gives each server the configuration of the case that failed on it first, or the deployment's own; says where they are and how to connect,
/// and waits for Ctrl-C.
pub(super) async fn hold(session: &Session, keys: &BTreeSet<ServerKey>, failed: &Failed, mut interrupted: watch::Receiver<bool>) {
    let mut lines = vec![format!("holding the servers until Ctrl-C; credentials are in {}", session.directory().join("pki").display())];
    let failed = std::mem::take(&mut *failed.lock().unwrap_or_else(PoisonError::into_inner));
    for key in keys {
        lines.extend(held(session, *key, failed.get(key)).await.unwrap_or_else(|error| vec![format!("  {key} can't be held: {error}")]));
    }
    let _ = writeln!(io::stderr(), "{}", lines.join("\n"));
    // An error means that the sender is gone: nothing could end the wait.
    let _ = interrupted.wait_for(|interrupted| *interrupted).await;
}

/// What is said of one server.
async fn held(
    session: &Session,
    key: ServerKey,
    failure: Option<&Failure>,
) -> Result<Vec<String>, Box<dyn std::error::Error + Send + Sync>> {
    let server = session.environment().server(key).await?;
    // As it ran: with the addresses of this environment.
    let case = failure.map(|failure| failure.case.at(&session.environment().networks())).transpose()?;
    let config = case.as_ref().map_or_else(ServerConfig::default, |case| case.config.as_ref().clone());
    server.apply(&config).await?;
    let state = case.as_ref().map_or_else(|| "configured as the deployment says".to_owned(), |case| format!("as it was for {}", case.id));
    let mut lines = vec![format!("  {key}: {}, {state} (log {})", server.address(), server.log_path().display())];
    let own = own_connection(key.service);
    let plan = failure.and_then(Failure::connection).unwrap_or(&own);
    let request = session.run_context().request(plan, key.service, server.as_ref())?;
    let passwords = session.directory().join(format!("password-{key}"));
    let command = match &request {
        ConnectRequest::Postgres(request) => psql(request, plan, server.as_ref(), &passwords)?,
        ConnectRequest::Redis(request) => redis_cli(request, plan, server.as_ref(), &passwords)?,
    };
    lines.push(format!("    {command}"));
    Ok(lines)
}

/// As the deployment's own client connects.
fn own_connection(service: Service) -> ConnectPlan {
    ConnectPlan {
        sslmode: Some(SslMode::VerifyFull),
        identity: Some(DEFAULT_IDENTITY.to_owned()),
        trust: Some(DEFAULT_TRUST.to_owned()),
        password: if service == Service::Redis { PasswordChoice::Right } else { PasswordChoice::None },
        ..ConnectPlan::bare("")
    }
}

/// A command line of psql that asks for the same.
fn psql(
    request: &PostgresRequest,
    plan: &ConnectPlan,
    server: &dyn Server,
    passwords: &Path,
) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let mut options = Vec::new();
    match (plan.unix, server.unix_socket()?) {
        (true, Some(Address::Unix { directory, port })) => {
            options.extend([("host", directory.display().to_string()), ("port", port.to_string())]);
        }
        _ => {
            let address = server.address();
            options.extend([
                ("host", request.endpoint.host.clone()),
                ("hostaddr", address.ip().to_string()),
                ("port", address.port().to_string()),
            ]);
        }
    }
    options.extend([("user", request.user.clone()), ("dbname", request.database.clone())]);
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let optional = [
        ("sslmode", request.sslmode.map(|mode| mode.name().to_owned())),
        ("sslnegotiation", request.sslnegotiation.map(|negotiation| negotiation.name().to_owned())),
        ("sslcert", path(&request.files.certificate)),
        ("sslkey", path(&request.files.key)),
        ("sslrootcert", path(&request.files.root)),
        ("ssl_min_protocol_version", request.min_tls.map(|version| version.name().to_owned())),
        ("ssl_max_protocol_version", request.max_tls.map(|version| version.name().to_owned())),
        ("replication", request.replication.then(|| "true".to_owned())),
        ("passfile", keep_password(passwords, request.password.as_ref(), "*:*:*:*:")?),
    ];
    options.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
    let conninfo: Vec<String> = options.iter().map(|(name, value)| format!("{name}={}", in_conninfo(value))).collect();
    Ok(format!("psql --no-psqlrc --no-password {}", in_shell(&conninfo.join(" "))))
}

/// A command line of redis-cli that asks for the same. It never looks at the host name in a certificate.
fn redis_cli(request: &RedisRequest, plan: &ConnectPlan, server: &dyn Server, passwords: &Path) -> io::Result<String> {
    let address = server.address();
    let port = if plan.plaintext_port { server.plaintext_port() } else { None }.unwrap_or(address.port());
    let mut command = String::new();
    if let Some(file) = keep_password(passwords, request.password.as_ref(), "")? {
        let _ = write!(command, "REDISCLI_AUTH=\"$(cat {})\" ", in_shell(&file));
    }
    let _ = write!(command, "redis-cli -h {} -p {port}", address.ip());
    let tls = request.tls.unwrap_or_default();
    if tls != RedisTls::Off {
        let _ = write!(command, " --tls --sni {}", in_shell(&request.endpoint.host));
        if tls == RedisTls::NoVerify {
            command.push_str(" --insecure");
        }
        let files = [("--cert", &request.files.certificate), ("--key", &request.files.key), ("--cacert", &request.files.root)];
        for (option, file) in files.into_iter().filter_map(|(option, file)| Some((option, file.as_ref()?))) {
            let _ = write!(command, " {option} {}", in_shell(&file.display().to_string()));
        }
    }
    Ok(command)
}

/// Writes a password to a file that nobody else may read; its path. It goes with the run's directory.
fn keep_password(file: &Path, password: Option<&Password>, before: &str) -> io::Result<Option<String>> {
    let Some(password) = password else { return Ok(None) };
    tree::write_private(file, format!("{before}{}\n", password.reveal()).as_bytes())?;
    Ok(Some(file.display().to_string()))
}

/// A value of a connection string: PostgreSQL manual, libpq, "Keyword/Value Connection Strings".
fn in_conninfo(value: &str) -> String {
    if !value.is_empty() && value.chars().all(is_plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Whether a character means itself everywhere.
fn is_plain(character: char) -> bool {
    character.is_ascii_alphanumeric() || "/.:_-@%+,".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libpq_would_take_apart_is_quoted() {
        assert_eq!((in_conninfo("/a/b"), in_conninfo("")), ("/a/b".to_owned(), "''".to_owned()));
        assert_eq!(in_conninfo("it's \\"), "'it\\'s \\\\'");
    }
}
