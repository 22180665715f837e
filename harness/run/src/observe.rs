//! One connection with its three witnesses: client, server log, wire.

use std::path::Path;
use std::time::Instant;

use super::case_relay::CaseRelay;
use super::connect_context::ConnectContext;
use super::context::RunContext;
use super::credentials::{CredentialError, CredentialSource};
use super::gateway;
use super::not_run::{CaseError, NotRun};
use check::agree::{log_has, log_witness};
use check::judge::same_class;
use driver::{HeldSession, Opened};
use environment::Server;
use model::case::{ConnectPlan, Expectation, PasswordChoice};
use model::connect::{ConnectRequest, Password, PostgresRequest, RedisRequest, RedisTls};
use model::endpoint::{Address, Endpoint};
use model::observation::{ClientObservation, ClientOutcome, LogLine, Observation};
use model::outcome::SkipReason;
use model::refusal::Refusal;
use model::scenario::CommandPlace;
use model::server::Service;
use model::wire::WireTrace;
use os::toolchain::NAUTOBOT_DRIVERS;

/// A client's testimony, before the other witnesses were asked.
pub(super) struct PendingObservation {
    plan: ConnectPlan,
    /// What the client saw.
    pub(super) client: ClientObservation,
    /// Between client and server; `None` over a unix socket.
    relay: Option<CaseRelay>,
    /// How far the server's log had come before.
    mark: u64,
}

/// A connection that was made.
pub(super) struct Call {
    /// What its client says.
    pub(super) pending: PendingObservation,
    /// The session, where it was to be kept and there is one.
    pub(super) session: Option<Box<dyn HeldSession>>,
    /// When the client began.
    pub(super) begun: Instant,
    /// When the client had its answer.
    pub(super) ended: Instant,
}

impl RunContext {
    /// One connection with its three witnesses.
    pub(super) async fn observe(
        &self,
        plan: &ConnectPlan,
        connect_context: &ConnectContext<'_>,
        expectation: Option<&Expectation>,
        deviation: Option<&Expectation>,
    ) -> Result<Observation, NotRun> {
        let _turn = connect_context.turn().await;
        let call = self.call(plan, connect_context, false).await?;
        self.witnesses(call.pending, connect_context, expectation, deviation).await
    }

    /// One connection as its client sees it. With `keep`, a session stays open, and so does the relay.
    pub(super) async fn call(&self, plan: &ConnectPlan, connect_context: &ConnectContext<'_>, keep: bool) -> Result<Call, NotRun> {
        let driver = self.driver(plan)?;
        let mut request = request(plan, connect_context.service, connect_context.server, connect_context.credentials)?;
        let way = gateway::way(plan, connect_context)?;
        if let (Some((_, route)), None) = (&way, &plan.host) {
            request.endpoint_mut().host.clone_from(&route.host);
        }
        let client_container = driver.client_container();
        if let Some(client_container) = client_container {
            client_container.bring(request.files().into_iter().map(Path::to_path_buf)).await.map_err(CaseError::Files)?;
        }
        let relay = if plan.unix {
            if client_container.is_some() {
                let reason = format!("driver {} runs in a container, and the server's unix socket is in another", plan.driver);
                return Err(NotRun::Skip(SkipReason::DriverUnable(reason)));
            }
            let socket = connect_context
                .server
                .unix_socket()
                .map_err(CaseError::UnixSocket)?
                .ok_or_else(|| NotRun::Skip(SkipReason::EnvironmentUnable("the environment gives no unix socket".to_owned())))?;
            request.endpoint_mut().address = socket;
            None
        } else {
            let dialer = way.as_ref().map_or_else(|| connect_context.server.dialer(), |(gateway, _)| gateway.dialer());
            let source = plan.source.map(|source| self.networks.address(source)).transpose()?;
            let upstream = gateway::upstream(plan, source, way.as_ref().map(|(_, route)| route), connect_context)?;
            let relay = CaseRelay::open(client_container, dialer, source, upstream, connect_context.service).await?;
            request.endpoint_mut().address = Address::Tcp(relay.address());
            Some(relay)
        };
        let mark = connect_context.server.log_mark();
        let begun = Instant::now();
        let opened = if keep {
            driver.open(&request, connect_context.limit).await
        } else {
            driver.connect(&request, connect_context.limit).await.map(Opened::Refused)
        };
        let ended = Instant::now();
        let (client, session) = match opened {
            Ok(Opened::Session(client, session)) => (client, Some(session)),
            Ok(Opened::Refused(client)) => (client, None),
            Err(error) => return Err(error.into()),
        };
        let pending = PendingObservation { plan: plan.clone(), client, relay, mark };
        Ok(Call { pending, session, begun, ended })
    }

    /// What wire and server log say of a connection that is over, or is over soon.
    pub(super) async fn witnesses(
        &self,
        pending: PendingObservation,
        connect_context: &ConnectContext<'_>,
        expectation: Option<&Expectation>,
        deviation: Option<&Expectation>,
    ) -> Result<Observation, NotRun> {
        let ConnectContext { service, server, .. } = *connect_context;
        let PendingObservation { plan, client, relay, mark } = pending;
        let mut wire = match relay {
            // A server that let a client's own limit pass is expected to be silent: it is not waited for once more.
            Some(relay) if connect_context.limit < self.limits.connect && is_timeout(&client.outcome) => {
                Some(relay.finish(self.limits.unwanted).await?)
            }
            Some(relay) => Some(relay.finish(self.limits.wire).await?),
            None => None,
        };
        let wanted = wanted_lines(service, &client.outcome, expectation, deviation);
        if let (Some(trace), Some((gateway, _))) = (&mut wire, gateway::way(&plan, connect_context)?) {
            // A gateway that was stopped says nothing of what it cut off, and nothing is to be looked up for it.
            let limit = if wanted.is_empty() { self.limits.unwanted } else { self.limits.log };
            gateway::pass_on(trace, gateway, limit).await;
        }
        // What it saw may lack the end, and the connection may have ended by its failure: nothing of that is held against client or server.
        if let Some(error) = wire.as_ref().and_then(|wire| wire.error.as_ref()) {
            return Err(CaseError::Relay(error.clone()).into());
        }
        let client = at_its_stage(client, wire.as_ref());
        let peers: Vec<_> = wire.iter().flat_map(|wire| &wire.connections).filter_map(|connection| connection.upstream).collect();
        let enough = |lines: &[LogLine]| wanted.iter().all(|text| log_has(lines, text));
        let server_log = if peers.is_empty() {
            Vec::new()
        } else if server.log_names_clients() || !connect_context.overlapping {
            server.log_lines(&peers, &enough, self.limits.log).await
        } else {
            // No line tells which of the connections at that time it is about. What is wanted must be among them; what else is there may be
            // another connection's, and is left out.
            let lines = server.all_since(mark, &enough, self.limits.log).await;
            lines.into_iter().filter(|line| wanted.iter().any(|text| line.contains(text))).collect()
        };
        Ok(Observation { client, server_log, wire })
    }
}

/// Whether the driver of a plan takes its options about TLS from the application's configuration file.
pub(super) fn takes_configuration(plan: &ConnectPlan) -> bool {
    NAUTOBOT_DRIVERS.contains(&plan.driver.as_str())
}

/// A failure without a class has a stage. Where the client can't tell it, as psycopg2, the wire does.
fn at_its_stage(mut client: ClientObservation, wire: Option<&WireTrace>) -> ClientObservation {
    if let (ClientOutcome::Refused(refused), Some(wire)) = (&mut client.outcome, wire)
        && let (Refusal::Unclassified(stage), None) = (&mut refused.refusal, refused.stage)
    {
        *stage = wire.reached();
    }
    client
}

fn is_timeout(outcome: &ClientOutcome) -> bool {
    matches!(outcome, ClientOutcome::Refused(refused) if matches!(refused.refusal, Refusal::TimedOut(_)))
}

/// What a plan asks of a driver, straight to the server: names become files and passwords.
///
/// # Errors
/// [`CredentialError`] where a file can't be issued or written.
pub(crate) fn request(
    plan: &ConnectPlan,
    service: Service,
    server: &dyn Server,
    credentials: &dyn CredentialSource,
) -> Result<ConnectRequest, CredentialError> {
    let files = credentials.client_files(plan.identity.as_deref(), plan.trust.as_deref())?;
    let password = match plan.password {
        PasswordChoice::Right => Some(server.password()),
        PasswordChoice::Wrong => Some(Password::new("not-the-password")),
        PasswordChoice::None => None,
    };
    let host = plan.host.clone().unwrap_or_else(|| credentials.default_host(service));
    let endpoint = Endpoint { host, address: Address::Tcp(server.address()) };
    let application = credentials.application();
    // A configuration file decides what the scenario leaves open; to other clients it is said.
    let tls = plan.tls.or_else(|| (!takes_configuration(plan)).then(RedisTls::default));
    let with_paths = |(name, text): (&String, &String)| Ok((name.clone(), with_paths(text, CommandPlace::Here, server, credentials)?));
    let env = plan.env.iter().map(with_paths).collect::<Result<_, CredentialError>>()?;
    Ok(match service {
        Service::Postgres => ConnectRequest::Postgres(PostgresRequest {
            endpoint,
            sslmode: plan.sslmode,
            sslnegotiation: plan.sslnegotiation,
            files,
            user: plan.user.clone().unwrap_or(application.user),
            database: plan.database.clone().unwrap_or(application.database),
            password,
            min_tls: plan.min_tls,
            max_tls: plan.max_tls,
            alpn: plan.alpn.clone(),
            replication: plan.replication,
            env,
        }),
        Service::Redis => {
            ConnectRequest::Redis(RedisRequest { endpoint, tls, files, password, min_tls: plan.min_tls, max_tls: plan.max_tls, env })
        }
    })
}

/// `${identity:NAME/FILE}`, `${trust:NAME}` and `${server:FILE}` replaced by the paths that they have at a place.
///
/// # Errors
/// [`CredentialError`] where a reference has no end, or there is no such file.
pub(super) fn with_paths(
    text: &str,
    at: CommandPlace,
    server: &dyn Server,
    credentials: &dyn CredentialSource,
) -> Result<String, CredentialError> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((head, tail)) = rest.split_once("${") {
        let (reference, tail) = tail.split_once('}').ok_or_else(|| CredentialError::OpenReference(text.to_owned()))?;
        let path = match reference.strip_prefix("server:") {
            Some(file) => {
                let path = if at == CommandPlace::Server { server.own_file(file) } else { server.file(file) };
                path.ok_or_else(|| CredentialError::NoServerFile(file.to_owned()))?
            }
            None => credentials.path(reference)?,
        };
        out.push_str(head);
        out.push_str(&path.to_string_lossy());
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

/// What stands in the `${...}` of a text.
pub(super) fn file_references(text: &str) -> impl Iterator<Item = &str> {
    text.split("${").skip(1).filter_map(|tail| tail.split_once('}')).map(|(reference, _)| reference)
}

/// The log texts that a case waits for: the witness of what the client saw, and the expectation's (or the deviation's) where the class is the same.
fn wanted_lines(
    service: Service,
    outcome: &ClientOutcome,
    expectation: Option<&Expectation>,
    deviation: Option<&Expectation>,
) -> Vec<String> {
    let mut wanted: Vec<String> = log_witness(service, outcome).map(str::to_owned).into_iter().collect();
    if let Some(expectation) = [expectation, deviation].into_iter().flatten().find(|expectation| same_class(expectation, outcome)) {
        wanted.extend(expectation.server_log.iter().cloned());
    }
    wanted
}
