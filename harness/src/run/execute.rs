//! One case: relay, driver, log, judgement.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::control::{ControlResult, Controls};
use super::material::Material;
use crate::check::agree::{disagreements, log_has, log_witness};
use crate::check::judge::{Context, describe, judge, same_class};
use crate::driver::{Driver, DriverError};
use crate::environment::{Gateway, Server};
use crate::model::case::{Action, Case, ConnectPlan, Expectation, Expected, PasswordChoice, PlannedStep};
use crate::model::connect::{ConnectRequest, Password, PostgresRequest, RedisRequest, SslMode, SslNegotiation};
use crate::model::endpoint::{Address, Endpoint};
use crate::model::observation::{ClientOutcome, LogLine, Observation, Phases};
use crate::model::outcome::{Mismatch, Outcome, SkipReason, Witness};
use crate::model::report::{CaseRecord, ClientRecord, StepRecord};
use crate::model::server::Service;
use crate::os::toolchain::NAUTOBOT_DRIVERS;
use crate::wire::{Relay, RelayOptions};

/// Every time limit of a case, in one place.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// One client call.
    pub connect: Duration,
    /// From the client's end until the relay's connections have ended on both sides.
    pub wire: Duration,
    /// Until the server's log shows what it must: only a failing case waits that long.
    pub log: Duration,
    /// A whole case, control included.
    pub case: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A handshake takes milliseconds: a machine that is busy a thousandfold still passes.
            connect: Duration::from_secs(10),
            wire: Duration::from_secs(3),
            log: Duration::from_secs(3),
            case: Duration::from_secs(30),
        }
    }
}

/// What all cases of a run share.
pub struct Workshop {
    /// Drivers by name.
    pub drivers: HashMap<String, Arc<dyn Driver>>,
    /// Credentials.
    pub material: Arc<dyn Material>,
    /// The `openssl` command.
    pub openssl: Option<PathBuf>,
    /// Time limits.
    pub limits: Limits,
    /// Where evidence of failed cases goes.
    pub evidence: Option<PathBuf>,
    /// What stands after `mtls-conformance run ID` to repeat a case in the same environment.
    pub repro_options: String,
}

/// A case that could not be carried out.
enum Trouble {
    Skip(SkipReason),
    Error(String),
}

/// Where a case's connections are made.
pub(crate) struct Scene<'a> {
    pub(crate) service: Service,
    pub(crate) server: &'a dyn Server,
    /// In front of the server, where the case has connections that go through one.
    pub(crate) gateway: Option<&'a dyn Gateway>,
    /// The clients' files.
    pub(crate) material: &'a dyn Material,
    pub(crate) controls: &'a Controls,
}

struct StepResult {
    record: StepRecord,
    mismatches: Vec<Mismatch>,
    /// The same observation against the deviation's signature.
    deviation: Option<Vec<Mismatch>>,
    session: Option<(ClientRecord, Phases)>,
    control: Option<String>,
}

impl Workshop {
    /// The record of a case that doesn't run.
    #[must_use]
    pub fn record_without_run(&self, case: &Case, outcome: Outcome) -> CaseRecord {
        CaseRecord {
            id: case.id.clone(),
            scenario: case.scenario.clone(),
            values: case.values.clone(),
            deployment: case.key.deployment.to_string(),
            outcome,
            claims: case.claims.clone(),
            steps: case
                .steps
                .iter()
                .map(|step| StepRecord { expected: expected_value(&step.expectation), observed: None, output: None })
                .collect(),
            timeline: None,
            client: None,
            phases: None,
            connections: 0,
            control: None,
            duration_ms: 0.0,
            evidence: None,
            repro: self.repro(case),
        }
    }

    fn repro(&self, case: &Case) -> String {
        let options = if self.repro_options.is_empty() { String::new() } else { format!(" {}", self.repro_options) };
        format!("mtls-conformance run {}{options}", case.id)
    }

    /// Runs a case on a server that has its configuration.
    pub(crate) async fn execute(&self, case: &Case, server: &dyn Server, gateway: Option<&dyn Gateway>, controls: &Controls) -> CaseRecord {
        let scene = Scene { service: case.key.service, server, gateway, material: self.material.as_ref(), controls };
        let start = Instant::now();
        let mut record = self.record_without_run(case, Outcome::Errored("the case was not carried out".to_owned()));
        let outcome = match tokio::time::timeout(self.limits.case, self.steps(case, &scene, &mut record)).await {
            Err(_) => Outcome::TimedOut(format!(
                "no end within {:?}; {} of {} steps were done",
                self.limits.case,
                steps_done(&record),
                case.steps.len()
            )),
            Ok(Err(Trouble::Skip(reason))) => Outcome::Skipped(reason),
            Ok(Err(Trouble::Error(message))) => Outcome::Errored(message),
            Ok(Ok(outcome)) => outcome,
        };
        record.outcome = outcome;
        record.duration_ms = start.elapsed().as_secs_f64() * 1e3;
        if record.outcome.kind().is_failure() || record.outcome.kind().is_error() {
            record.evidence = self.keep_evidence(case, server, &record);
        }
        record
    }

    async fn steps(&self, case: &Case, scene: &Scene<'_>, record: &mut CaseRecord) -> Result<Outcome, Trouble> {
        let mut mismatches = Vec::new();
        let mut as_deviation = case.deviation.is_some();
        for (index, step) in case.steps.iter().enumerate() {
            let result = match &step.action {
                Action::Connect(plan) => self.connect_step(case, index, step, plan, scene, &mut record.connections).await?,
                Action::Openssl(args) => {
                    let deviation = case.deviation.as_ref().map(|deviation| &deviation.observed);
                    self.openssl_step(index, step, args, scene.server, deviation).await?
                }
            };
            record.steps[index] = result.record;
            if let Some((client, phases)) = result.session {
                (record.client, record.phases) = (Some(client), Some(phases));
            }
            record.control = result.control.or(record.control.take());
            // A step that passes may stand beside one that deviates; one that fails must show the deviation's signature.
            as_deviation &= result.mismatches.is_empty() || result.deviation.is_some_and(|mismatches| mismatches.is_empty());
            mismatches.extend(result.mismatches);
        }
        Ok(match (&case.deviation, mismatches.is_empty()) {
            (None, true) => Outcome::Pass,
            (Some(deviation), true) => Outcome::UnexpectedPass { deviation: deviation.id.clone() },
            (Some(deviation), false) if as_deviation => Outcome::Deviates { deviation: deviation.id.clone() },
            (_, false) => Outcome::Fail(mismatches),
        })
    }

    async fn connect_step(
        &self,
        case: &Case,
        index: usize,
        step: &PlannedStep,
        plan: &ConnectPlan,
        scene: &Scene<'_>,
        connections: &mut u32,
    ) -> Result<StepResult, Trouble> {
        let service = scene.service;
        let driver = self.driver(plan)?;
        let deviation = case.deviation.as_ref().map(|deviation| &deviation.observed);
        let observation = self.observe(plan, scene, Some(&step.expectation), deviation).await?;
        *connections += 1;
        let mut control = None;
        if let (ClientOutcome::Refused(_), Some(control_plan)) = (&observation.client.outcome, &step.control) {
            let (result, made) = scene.controls.result(control_plan, || self.control(control_plan, scene)).await;
            *connections += u32::from(made);
            result.map_err(|reason| Trouble::Error(format!("its positive control failed, so the refusal proves nothing: {reason}")))?;
            control = Some(describe_control(plan, control_plan));
        }
        let sha256 = |identity: &str| scene.material.certificate_sha256(identity);
        let context = Context { step: index, family: driver.info().family, certificate_sha256: &sha256 };
        let agreement = disagreements(index, service, &observation);
        let judged = |expectation: &Expectation| {
            let mut mismatches = judge(expectation, &observation, &context);
            mismatches.extend(agreement.iter().cloned());
            mismatches
        };
        let mismatches = judged(&step.expectation);
        let deviation = deviation.map(judged);
        let session = match &observation.client.outcome {
            ClientOutcome::Session(session) => Some((client_record(plan, service, session.tls), observation.client.phases)),
            ClientOutcome::Refused(_) => None,
        };
        let record = StepRecord { expected: expected_value(&step.expectation), observed: Some(observation), output: None };
        Ok(StepResult { record, mismatches, deviation, session, control })
    }

    async fn control(&self, plan: &ConnectPlan, scene: &Scene<'_>) -> ControlResult {
        let observation = match self.observe(plan, scene, None, None).await {
            Ok(observation) => observation,
            Err(Trouble::Error(message)) => return Err(message),
            Err(Trouble::Skip(reason)) => return Err(reason.to_string()),
        };
        match &observation.client.outcome {
            ClientOutcome::Refused(refused) => Err(format!("it was refused too ({}): {}", refused.refusal, refused.text.trim())),
            ClientOutcome::Session(_) => match disagreements(0, scene.service, &observation).first() {
                None => Ok(()),
                Some(mismatch) => {
                    Err(format!("{:?} disagrees: expected {}, saw {}", mismatch.witness, mismatch.expected, mismatch.observed))
                }
            },
        }
    }

    fn driver(&self, plan: &ConnectPlan) -> Result<&Arc<dyn Driver>, Trouble> {
        self.drivers
            .get(&plan.driver)
            .ok_or_else(|| Trouble::Skip(SkipReason::DriverMissing(format!("driver {} is not there", plan.driver))))
    }

    /// One connection with its three witnesses.
    async fn observe(
        &self,
        plan: &ConnectPlan,
        scene: &Scene<'_>,
        expectation: Option<&Expectation>,
        deviation: Option<&Expectation>,
    ) -> Result<Observation, Trouble> {
        let Scene { service, server, controls, .. } = *scene;
        let driver = self.driver(plan)?;
        let _turn = if server.log_names_clients() { None } else { Some(controls.turn().await) };
        let mut request = request(plan, service, server, scene.material).map_err(Trouble::Error)?;
        let relay = if plan.unix {
            let socket = server
                .unix_socket()
                .ok_or_else(|| Trouble::Skip(SkipReason::EnvironmentUnable("the environment gives no unix socket".to_owned())))?;
            request.endpoint_mut().address = socket;
            None
        } else {
            let relay = open_relay(plan, service, server).await?;
            request.endpoint_mut().address = Address::Tcp(relay.address());
            Some(relay)
        };
        let client = driver.connect(&request, self.limits.connect).await.map_err(|error| match error {
            DriverError::Unable { .. } => Trouble::Skip(SkipReason::DriverUnable(error.to_string())),
            other => Trouble::Error(other.to_string()),
        })?;
        let wire = match relay {
            Some(relay) => Some(relay.finish(self.limits.wire).await),
            None => None,
        };
        if let Some(error) = wire.as_ref().and_then(|wire| wire.error.as_ref()) {
            return Err(Trouble::Error(format!("the relay failed: {error}")));
        }
        let peers: Vec<_> = wire.iter().flat_map(|wire| &wire.connections).filter_map(|connection| connection.upstream).collect();
        let server_log = if peers.is_empty() {
            Vec::new()
        } else {
            let wanted = wanted_lines(service, &client.outcome, expectation, deviation);
            server.log_lines(&peers, &|lines: &[LogLine]| wanted.iter().all(|text| log_has(lines, text)), self.limits.log).await
        };
        Ok(Observation { client, server_log, wire })
    }

    /// What a plan asks of a driver, straight to the server: names become files and passwords.
    ///
    /// # Errors
    /// A line of text where a file can't be issued or written.
    pub fn request(&self, plan: &ConnectPlan, service: Service, server: &dyn Server) -> Result<ConnectRequest, String> {
        request(plan, service, server, self.material.as_ref())
    }

    async fn openssl_step(
        &self,
        index: usize,
        step: &PlannedStep,
        args: &[String],
        server: &dyn Server,
        deviation: Option<&Expectation>,
    ) -> Result<StepResult, Trouble> {
        let Some(openssl) = &self.openssl else {
            return Err(Trouble::Skip(SkipReason::MachineLacks("the `openssl` command is not installed".to_owned())));
        };
        let args = args
            .iter()
            .map(|arg| with_paths(arg, server, self.material.as_ref()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(Trouble::Error)?;
        let run = tokio::process::Command::new(openssl).args(&args).stdin(std::process::Stdio::null()).kill_on_drop(true).output();
        let finished = tokio::time::timeout(self.limits.connect, run)
            .await
            .map_err(|_| Trouble::Error(format!("`openssl {}` did not end within {:?}", args.join(" "), self.limits.connect)))?
            .map_err(|error| Trouble::Error(format!("could not run {}: {error}", openssl.display())))?;
        let output = format!("{}{}", String::from_utf8_lossy(&finished.stdout), String::from_utf8_lossy(&finished.stderr));
        let status = finished.status.code();
        let judged = |expectation: &Expectation| self.judge_output(index, expectation, status, &output, server).map_err(Trouble::Error);
        let mismatches = judged(&step.expectation)?;
        let deviation = deviation.map(judged).transpose()?;
        let record = StepRecord { expected: expected_value(&step.expectation), observed: None, output: Some(output) };
        Ok(StepResult { record, mismatches, deviation, session: None, control: None })
    }

    fn judge_output(
        &self,
        step: usize,
        expectation: &Expectation,
        status: Option<i32>,
        output: &str,
        server: &dyn Server,
    ) -> Result<Vec<Mismatch>, String> {
        let mut mismatches = Vec::new();
        let mut add = |what: &str, expected: String, observed: String| {
            mismatches.push(Mismatch { step, witness: Witness::Command, what: what.to_owned(), expected, observed });
        };
        match &expectation.expected {
            Expected::Output { lines, status: expected } => {
                if status != Some(*expected) {
                    add("status", expected.to_string(), status.map_or_else(|| "ended by a signal".to_owned(), |status| status.to_string()));
                }
                for line in lines {
                    let line = with_paths(line, server, self.material.as_ref())?;
                    if !output.contains(&line) {
                        add("output", format!("a line with `{line}`"), output.trim().to_owned());
                    }
                }
            }
            other => add("outcome", describe(other), output.trim().to_owned()),
        }
        Ok(mismatches)
    }

    /// Copies what a person needs to look into a failure; `None` if nothing could be kept.
    fn keep_evidence(&self, case: &Case, server: &dyn Server, record: &CaseRecord) -> Option<String> {
        let name: String = case.id.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.=".contains(c) { c } else { '_' }).collect();
        let directory = self.evidence.as_ref()?.join(name);
        std::fs::create_dir_all(&directory).ok()?;
        std::fs::write(directory.join("case.json"), serde_json::to_vec_pretty(record).ok()?).ok()?;
        for file in ["postgresql.conf", "pg_hba.conf", "pg_ident.conf", "redis.conf", "server.crt", "client-ca.crt"] {
            if let Some(path) = server.file(file) {
                // Not every server has every file.
                let _ = std::fs::copy(path, directory.join(file));
            }
        }
        copy_log(&server.log_path(), &directory);
        Some(directory.display().to_string())
    }
}

/// What a plan asks of a driver, straight to the server.
pub(crate) fn request(
    plan: &ConnectPlan,
    service: Service,
    server: &dyn Server,
    material: &dyn Material,
) -> Result<ConnectRequest, String> {
    let files = material.client_files(plan.identity.as_deref(), plan.trust.as_deref())?;
    let password = match plan.password {
        PasswordChoice::Right => Some(server.password()),
        PasswordChoice::Wrong => Some(Password::new("not-the-password")),
        PasswordChoice::None => None,
    };
    let host = plan.host.clone().unwrap_or_else(|| material.default_host(service));
    let endpoint = Endpoint { host, address: Address::Tcp(server.address()) };
    let application = material.application();
    let with_paths = |(name, text): (&String, &String)| Ok((name.clone(), with_paths(text, server, material)?));
    let env = plan.env.iter().map(with_paths).collect::<Result<_, String>>()?;
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
        Service::Redis => ConnectRequest::Redis(RedisRequest {
            endpoint,
            tls: plan.tls,
            files,
            password,
            min_tls: plan.min_tls,
            max_tls: plan.max_tls,
            env,
        }),
    })
}

/// `${identity:NAME/FILE}`, `${trust:NAME}` and `${server:FILE}` replaced by paths.
fn with_paths(text: &str, server: &dyn Server, material: &dyn Material) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((head, tail)) = rest.split_once("${") {
        let (reference, tail) = tail.split_once('}').ok_or_else(|| format!("`${{` without `}}` in {text:?}"))?;
        let path = match reference.strip_prefix("server:") {
            Some(file) => server.file(file).ok_or_else(|| format!("the server has no file `{file}`"))?,
            None => material.path(reference)?,
        };
        out.push_str(head);
        out.push_str(&path.to_string_lossy());
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

fn copy_log(log: &Path, directory: &Path) {
    // The log is worth little against the case's own lines in case.json: a failure to copy it is no failure of the case.
    let _ = std::fs::copy(log, directory.join("server.log"));
}

fn steps_done(record: &CaseRecord) -> usize {
    record.steps.iter().filter(|step| step.observed.is_some() || step.output.is_some()).count()
}

fn expected_value(expectation: &Expectation) -> serde_json::Value {
    serde_json::to_value(expectation).unwrap_or_default()
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

async fn open_relay(plan: &ConnectPlan, service: Service, server: &dyn Server) -> Result<Relay, Trouble> {
    let v6 = plan.source.is_some_and(|source| source.is_ipv6());
    let upstream = if v6 {
        server.address_v6().ok_or_else(|| Trouble::Skip(SkipReason::MachineLacks("no IPv6 loopback address (::1)".to_owned())))?
    } else {
        server.address()
    };
    let listen = if v6 { IpAddr::V6(Ipv6Addr::LOCALHOST) } else { IpAddr::V4(Ipv4Addr::LOCALHOST) };
    let options = RelayOptions { upstream, source: plan.source, listen, service, faults: Vec::new() };
    Relay::open(options).await.map_err(|error| Trouble::Error(error.to_string()))
}

/// How the latencies of a session are grouped.
fn client_record(plan: &ConnectPlan, service: Service, tls: bool) -> ClientRecord {
    // A configuration file decides.
    let configured = NAUTOBOT_DRIVERS.contains(&plan.driver.as_str());
    let mode = match service {
        Service::Postgres if configured => match plan.env.get("NAUTOBOT_DB_SSLMODE").map(String::as_str) {
            None | Some("") => "unset".to_owned(),
            Some(mode) => mode.to_owned(),
        },
        Service::Redis if configured => "configured".to_owned(),
        Service::Postgres => plan.sslmode.map_or("unset", SslMode::name).to_owned(),
        Service::Redis => serde_json::to_value(plan.tls).ok().and_then(|mode| mode.as_str().map(str::to_owned)).unwrap_or_default(),
    };
    let negotiation = match (tls, service, plan.sslnegotiation) {
        (false, ..) => "none",
        (true, Service::Redis, _) | (true, _, Some(SslNegotiation::Direct)) => "direct",
        (true, ..) => "postgres",
    };
    ClientRecord { driver: plan.driver.clone(), mode, negotiation: negotiation.to_owned() }
}

/// What the control did differently, for the record.
fn describe_control(plan: &ConnectPlan, control: &ConnectPlan) -> String {
    let (Ok(serde_json::Value::Object(plan)), Ok(serde_json::Value::Object(control))) =
        (serde_json::to_value(plan), serde_json::to_value(control))
    else {
        return String::new();
    };
    let differences: Vec<String> =
        control.iter().filter(|(field, value)| plan.get(*field) != Some(*value)).map(|(field, value)| format!("{field}={value}")).collect();
    format!("connected with {}", differences.join(", "))
}
