//! Arguments.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Parser, Subcommand, ValueEnum};
use thiserror::Error;

use deployment::alias::Alias;
use deployment::networks::NetworkRange;
use model::connect::NAUTOBOT_MOUNT;
use model::image::{ImageReference, ImageUse};
use model::server::DeploymentKind;
use report::target::ReportTarget;
use session::drivers::OwnDriver;

/// Tests that mutual TLS between applications, PostgreSQL and Redis does what the documents say: real servers, real clients.
#[derive(Debug, Parser)]
#[command(name = "mtls-conformance", version, max_term_width = 110, after_help = EXIT_CODES)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 conformant (known deviations included) · 1 not conformant · 2 bad usage or input · \
3 environment or harness error · 4 nothing ran · 5 interrupted";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Bring the deployment up and run cases against it
    Run(Box<RunArgs>),
    /// List scenarios, or their cases
    List(ListArgs),
    /// List the documents' claims with their verdicts in the last run
    Claims(ClaimsArgs),
    /// Tell what is installed, and what each missing piece costs
    Doctor(DoctorArgs),
    /// Print the JSON schema of a file format
    Schema {
        /// The file whose format is printed
        which: SchemaKind,
        /// Print the page of the reference instead, as in docs/reference/
        #[arg(long)]
        markdown: bool,
    },
    /// Remove a run directory when its run is gone
    #[command(name = os::rundir::WATCH_COMMAND, hide = true)]
    WatchRunDirectory {
        /// The run directory to remove
        directory: PathBuf,
    },
    /// Load a libpq and serve the driver protocol
    #[command(name = driver::libpq::COMMAND, hide = true)]
    LibpqClient(driver::libpq::ChildArgs),
    /// Serve the driver protocol with one of the harness's own clients
    #[command(name = driver::served::COMMAND, hide = true)]
    OwnClient(driver::served::ServedArgs),
    /// Serve the harness from inside a container
    #[command(name = agent::COMMAND, hide = true)]
    Agent(agent::AgentArgs),
}

/// File formats with a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum SchemaKind {
    /// Scenario files: one scenario each, in the folders beside claims.yaml
    Scenario,
    /// The JSON report, as `run --report json=FILE` writes it
    Report,
    /// claims.yaml: the documents' statements
    Claims,
    /// credentials.yaml: the certificates that scenarios name
    Credentials,
    /// deviations.yaml: known differences between documents and reality
    Deviations,
    /// images.yaml: container images by what they are used for
    Images,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum EnvironmentName {
    /// Processes of this machine, on loopback addresses
    Local,
    /// Containers, on networks of their own
    #[cfg(feature = "container")]
    Container,
}

/// When servers stay up after the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Hold {
    /// When a case failed or errored
    OnFailure,
    /// Always, after a run that conforms too
    Always,
}

#[derive(Debug, Clone, clap::Args)]
pub(super) struct PlacesArgs {
    /// Where `make setup` has put servers and clients [default: `.toolchain` here or above]
    #[arg(long, value_name = "DIR", env = "MTLS_CONFORMANCE_TOOLCHAIN")]
    pub(super) toolchain: Option<PathBuf>,
}

/// Where what outlives a run is kept.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct CacheArgs {
    /// Where prepared data directories and the last run's verdicts are kept [default: `.cache` beside the scenarios]
    #[arg(long, value_name = "DIR", env = "MTLS_CONFORMANCE_CACHE")]
    pub(super) cache: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct ImageArgs {
    /// The image for one use, which is postgres-MAJOR, redis, haproxy or clients; may be given several times [default: the environment
    /// variable MTLS_CONFORMANCE_IMAGE_POSTGRES_17 and the like, else `--images`, else the harness's own list]
    #[arg(long, value_name = "USE=REFERENCE")]
    pub(super) image: Vec<NamedImage>,
    /// A file of images, of the form of kind/images/images.yaml; what it doesn't name stays as it is there
    #[arg(long, value_name = "FILE")]
    pub(super) images: Option<PathBuf>,
    /// Only the images of this set, where it has one: official, cnpg, offline, or a set of `--images` [default: official, then offline]
    #[arg(long, value_name = "SET")]
    pub(super) image_set: Option<String>,
}

#[derive(Debug, Clone, clap::Args)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    pub(super) places: PlacesArgs,
    #[command(flatten)]
    pub(super) cache: CacheArgs,
    #[command(flatten)]
    pub(super) images: ImageArgs,
}

#[derive(Debug, Clone, clap::Args)]
pub(super) struct SetArgs {
    /// Add the claims, scenarios, credentials and deviations of a directory; may be given several times
    #[arg(long, value_name = "DIR")]
    pub(super) scenarios: Vec<PathBuf>,
    /// Leave the harness's own scenarios out: only those of `--scenarios`
    #[arg(long, requires = "scenarios")]
    pub(super) only_given_scenarios: bool,
}

#[derive(Debug, Clone, clap::Args)]
pub(super) struct SelectArgs {
    /// Scenario or case ids; `*` stands for any text [default: all]
    #[arg(value_name = "ID-GLOB")]
    pub(super) ids: Vec<String>,
    /// Only these PostgreSQL major versions
    #[arg(long, value_delimiter = ',', value_name = "VERSION", value_parser = major)]
    pub(super) postgres: Vec<u16>,
    /// Only these drivers; globs
    #[arg(long, value_delimiter = ',', value_name = "DRIVER")]
    pub(super) driver: Vec<String>,
    /// Only cases of this deployment: documented or cnpg
    #[arg(long, value_name = "DEPLOYMENT", value_parser = deployment)]
    pub(super) deployment: Option<DeploymentKind>,
    /// Only the I-th of N parts of the cases
    #[arg(long, value_name = "I/N")]
    pub(super) partition: Option<Partition>,
}

#[derive(Debug, Clone, clap::Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) select: SelectArgs,
    #[command(flatten)]
    pub(super) set: SetArgs,
    #[command(flatten)]
    pub(super) places: PlacesArgs,
    #[command(flatten)]
    pub(super) cache: CacheArgs,
    #[command(flatten)]
    pub(super) images: ImageArgs,
    /// Where servers come from
    #[arg(long, value_enum, default_value = "local")]
    pub(super) environment: EnvironmentName,
    /// The deployment's Kubernetes manifests [default: `kind/deployment` of the harness]
    #[arg(long, value_name = "DIR")]
    pub(super) manifests: Option<PathBuf>,
    /// The name that an object of your manifests has in scenarios: that of a Certificate, its Secret, an Issuer; may be given several times
    #[arg(long, value_name = "NAME=OWN")]
    pub(super) alias: Vec<Alias>,
    /// The network of scenarios that a range of your manifests' pg_hba is for: pods, sites, elsewhere or gateway; may be given several times
    #[arg(long, value_name = "NAME=RANGE")]
    pub(super) network: Vec<NetworkRange>,
    /// Your nautobot_config.py, for the drivers `nautobot-*` [default: one that does what the guides describe]
    #[arg(long, value_name = "FILE")]
    pub(super) nautobot_config: Option<PathBuf>,
    /// Where your nautobot_config.py finds tls.crt, tls.key and ca.crt
    #[arg(long, value_name = "DIR", default_value = NAUTOBOT_MOUNT, value_parser = absolute)]
    pub(super) nautobot_mount: String,
    /// Write a report; FORMAT is json, junit or markdown, PATH may be `-`; may be given several times
    #[arg(long, value_name = "FORMAT=PATH")]
    pub(super) report: Vec<ReportTarget>,
    /// Cases at a time [default: four a processor]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub(super) jobs: Option<NonZeroUsize>,
    /// Time limit of one case, and of a client program until it greets, in seconds [default: 30, with a timeline 60; to greet 20]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    pub(super) timeout: Option<Duration>,
    /// Time limit of a server's start in seconds
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds, allow_negative_numbers = true)]
    pub(super) start_timeout: Duration,
    /// Keep the servers running at the end, until Ctrl-C
    #[arg(long, value_enum, value_name = "WHEN")]
    pub(super) hold: Option<Hold>,
    /// Begin no further case after the first failure or error
    #[arg(long)]
    pub(super) fail_fast: bool,
    /// Run every case N times
    #[arg(long, value_name = "N", default_value = "1", value_parser = count, allow_negative_numbers = true)]
    pub(super) repeat: NonZeroUsize,
    /// Where the evidence of failed cases goes, in a directory of the run's own; that of earlier runs is removed when a run begins
    #[arg(long, value_name = "DIR", default_value = "reports/evidence")]
    pub(super) evidence: PathBuf,
    /// Leave the evidence of earlier runs
    #[arg(long, env = "MTLS_CONFORMANCE_KEEP_EVIDENCE", value_parser = FalseyValueParser::new())]
    pub(super) keep_evidence: bool,
    /// Where the run's directory goes, which is removed at the end: servers' data, certificates, logs [default: /dev/shm, or the temporary
    /// directory where that has too little space]
    #[arg(long, value_name = "DIR", env = "MTLS_CONFORMANCE_RUN_DIR")]
    pub(super) run_dir: Option<PathBuf>,
    /// Panic after so many cases: shows tests what a panic leaves
    #[arg(long, value_name = "CASES", value_parser = count, hide = true)]
    pub(super) panic_after: Option<NonZeroUsize>,
    /// Your own client behind the exec protocol, under this name; it takes part wherever a scenario means kinds of clients
    /// (`libpq-*`); may be given several times
    #[arg(long, value_name = "[redis:]NAME=PROGRAM")]
    pub(super) exec_driver: Vec<OwnDriver>,
}

#[derive(Debug, Clone, clap::Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    pub(super) select: SelectArgs,
    #[command(flatten)]
    pub(super) set: SetArgs,
    /// One line a case instead of one a scenario
    #[arg(long)]
    pub(super) cases: bool,
}

#[derive(Debug, Clone, clap::Args)]
pub(super) struct ClaimsArgs {
    #[command(flatten)]
    pub(super) set: SetArgs,
    #[command(flatten)]
    pub(super) cache: CacheArgs,
    /// Only claims that no scenario names, with what they wait for
    #[arg(long)]
    pub(super) uncovered: bool,
    /// The JSON report to take verdicts from [default: the last run's]
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
}

/// One `--image USE=REFERENCE`: what the use gets before all other settings of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamedImage {
    pub(super) image_use: ImageUse,
    pub(super) reference: ImageReference,
}

impl FromStr for NamedImage {
    type Err = ArgumentError;

    fn from_str(text: &str) -> Result<Self, ArgumentError> {
        let (image_use, reference) = text.split_once('=').ok_or(ArgumentError::NamedImage)?;
        let image_use = image_use.parse().map_err(ArgumentError::ImageUse)?;
        let reference = reference.parse().map_err(ArgumentError::ImageReference)?;
        Ok(Self { image_use, reference })
    }
}

impl fmt::Display for NamedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.image_use, self.reference)
    }
}

/// An option's value that is not what the option takes; clap says which option it was and what was given.
#[derive(Debug, Error)]
pub(super) enum ArgumentError {
    #[error("it takes a whole number from 1")]
    Count,
    #[error("it takes major versions such as 17, with commas between them")]
    Major,
    #[error("it takes seconds, more than 0 and less than a day (86400), such as 30 or 2.5")]
    Seconds,
    #[error("it takes an absolute path, since the configuration file reads the certificates there")]
    Absolute,
    #[error("it takes documented or cnpg")]
    Deployment,
    #[error("it takes I/N with I from 1 to N, such as 2/4")]
    Partition,
    #[error("it takes USE=REFERENCE, such as postgres-17=postgres:17")]
    NamedImage,
    #[error(transparent)]
    ImageUse(<ImageUse as FromStr>::Err),
    #[error(transparent)]
    ImageReference(<ImageReference as FromStr>::Err),
}

/// `I/N`, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Partition {
    pub(super) index: usize,
    pub(super) count: usize,
}

impl FromStr for Partition {
    type Err = ArgumentError;

    fn from_str(text: &str) -> Result<Self, ArgumentError> {
        let parsed = text.split_once('/').and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        match parsed {
            Some((index, count)) if (1..=count).contains(&index) => Ok(Self { index, count }),
            _ => Err(ArgumentError::Partition),
        }
    }
}

fn count(text: &str) -> Result<NonZeroUsize, ArgumentError> {
    text.parse().map_err(|_| ArgumentError::Count)
}

fn major(text: &str) -> Result<u16, ArgumentError> {
    text.parse().map_err(|_| ArgumentError::Major)
}

fn seconds(text: &str) -> Result<Duration, ArgumentError> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds < 86_400.0 => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(ArgumentError::Seconds),
    }
}

fn absolute(text: &str) -> Result<String, ArgumentError> {
    if text.starts_with('/') { Ok(text.to_owned()) } else { Err(ArgumentError::Absolute) }
}

fn deployment(text: &str) -> Result<DeploymentKind, ArgumentError> {
    DeploymentKind::ALL.into_iter().find(|kind| kind.name() == text).ok_or(ArgumentError::Deployment)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_named_image_is_a_use_and_a_reference() {
        let named: NamedImage = "postgres-17=registry.example:5000/postgres:17".parse().expect("is valid");
        assert_eq!(named.image_use, ImageUse::Postgres(17));
        assert_eq!(named.to_string(), "postgres-17=registry.example:5000/postgres:17");
        for (bad, reason) in [
            ("postgres:17", "it takes USE=REFERENCE, such as postgres-17=postgres:17"),
            ("postgres=postgres:17", "`postgres` is nothing that an image is for"),
            ("redis=", "`` is no image's name: it is empty"),
        ] {
            let error = bad.parse::<NamedImage>().expect_err(bad).to_string();
            assert!(error.starts_with(reason), "{error}");
        }
    }

    #[test]
    fn a_number_that_an_option_does_not_take_says_what_it_takes() {
        let table = [
            (["--repeat", "0"], "it takes a whole number from 1"),
            (["--repeat", "-1"], "it takes a whole number from 1"),
            (["--jobs", "many"], "it takes a whole number from 1"),
            (["--postgres", "17.2"], "it takes major versions such as 17"),
            (["--postgres", "99999999"], "it takes major versions such as 17"),
            (["--timeout", "-1"], "it takes seconds, more than 0"),
            (["--alias", "app"], "it takes NAME=OWN"),
            (["--network", "pods"], "it takes NAME=RANGE"),
            (["--nautobot-mount", "certs"], "it takes an absolute path"),
            (["--start-timeout", "0"], "it takes seconds, more than 0"),
            (["--partition", "0/3"], "it takes I/N with I from 1 to N"),
            (["--deployment", "cnp"], "it takes documented or cnpg"),
        ];
        for (args, expected) in table {
            let error = Args::try_parse_from([&["mtls-conformance", "run"], &args[..]].concat()).expect_err("refused").to_string();
            assert!(error.contains(expected) && error.contains(args[0]), "{args:?}: {error}");
        }
    }

    #[test]
    fn a_partition_counts_from_one() {
        assert_eq!("2/4".parse::<Partition>().expect("is valid"), Partition { index: 2, count: 4 });
        for bad in ["0/4", "5/4", "1", "a/b", "1/0"] {
            assert!(bad.parse::<Partition>().is_err(), "{bad}");
        }
    }
}
