//! Arguments, and how much is measured.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, ValueEnum};

/// Measures the harness beside what is possible: a bare loop of the same connections, and `pgbench -C`.
#[derive(Debug, Parser)]
#[command(name = "speed")]
pub(crate) struct Args {
    /// Measure less: half a minute instead of some minutes, for trying the measurement itself
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Also measure ten times all cases: some minutes more
    #[arg(long)]
    full: bool,
    /// Only this part; may be given several times
    #[arg(long = "only", value_enum, value_name = "PART")]
    parts: Vec<Part>,
    /// Where the samples go [default: reports/bench.json of the repository]
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// What `cargo bench` adds for every bench
    #[arg(long, hide = true)]
    bench: bool,
    /// Make the connections of a run of this size and nothing else: the measurement's own yardstick
    #[arg(long, hide = true, value_name = "SIZE", requires = "output")]
    pub(crate) bare_loop: Option<Size>,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Cases a second of whole runs, beside the bare loop
    Throughput,
    /// Server starts from the cache
    Starts,
    /// Single connections beside `pgbench -C`
    Connections,
    /// All timelines: how long they take, and how exactly outages are known
    Timelines,
    /// A run of all cases: how much room it takes in memory
    Space,
    /// Servers in containers, beside the same as processes here; needs a container engine and `make images`
    #[cfg(feature = "container")]
    Containers,
}

/// How much is measured.
#[derive(Debug, Clone)]
pub(crate) struct Effort {
    /// Whole runs, in order.
    pub(crate) runs: Vec<Size>,
    /// Starts of each server.
    pub(crate) starts: usize,
    /// Rounds over all clients in each situation.
    pub(crate) rounds: usize,
    /// Connections of each client in a round.
    pub(crate) connections: usize,
}

/// The cases of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// One in so many cases is taken.
    pub(crate) every: usize,
    /// How often each of them is carried out.
    pub(crate) repeat: usize,
}

impl Size {
    /// All cases, as `make run` runs them.
    const ALL: Self = Self { every: 1, repeat: 1 };

    /// As it stands in tables.
    pub(crate) fn name(self) -> String {
        match self {
            Self { every: 1, repeat: 1 } => "all".to_owned(),
            Self { every: 1, repeat } => format!("all x{repeat}"),
            Self { every, repeat: 1 } => format!("1/{every}"),
            Self { every, repeat } => format!("1/{every} x{repeat}"),
        }
    }
}

/// As the bare loop's process is told.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.every, self.repeat)
    }
}

/// A text that is no [`Size`].
#[derive(Debug, thiserror::Error)]
#[error("expected EVERYxREPEAT, such as 10x1")]
pub(crate) struct NoSize;

impl FromStr for Size {
    type Err = NoSize;

    fn from_str(text: &str) -> Result<Self, NoSize> {
        let parsed = text.split_once('x').and_then(|(every, repeat)| Some((every.parse().ok()?, repeat.parse().ok()?)));
        match parsed {
            Some((every, repeat)) if every > 0 && repeat > 0 => Ok(Self { every, repeat }),
            _ => Err(NoSize),
        }
    }
}

impl Args {
    /// Whether little is measured.
    pub(crate) fn is_quick(&self) -> bool {
        self.quick
    }

    /// Whether a part is wanted.
    pub(crate) fn measures(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }

    /// How much is measured.
    pub(crate) fn effort(&self) -> Effort {
        let tenth = Size { every: 10, ..Size::ALL };
        if self.quick {
            let some = Size { every: 100, ..Size::ALL };
            return Effort { runs: vec![some, Size { repeat: 10, ..some }], starts: 3, rounds: 5, connections: 10 };
        }
        // The small size before and after the large one: it takes seconds, and says whether the machine changed meanwhile.
        let mut runs = vec![tenth, Size::ALL, tenth];
        if self.full {
            runs.push(Size { repeat: 10, ..Size::ALL });
        }
        Effort { runs, starts: 10, rounds: 12, connections: 25 }
    }
}
