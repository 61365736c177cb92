//! Servers that are measured in turn under the same load, and their medians side by side.

use std::fmt::{self, Write};
use std::io;
use std::time::Duration;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use ringmesh_bench::machine::{Cores, median, raise_descriptor_limit};
use ringmesh_bench::real::Server;

use crate::server::{FloorServer, Sending};

/// Descriptors that a process has open beside its connections.
const OTHER_DESCRIPTORS: u64 = 100;
/// What is not measured at the start, while caches and pools fill.
pub(crate) const WARM_UP: Duration = Duration::from_millis(300);

/// What all measurements share.
#[derive(Args, Clone, Debug)]
pub(crate) struct Runs {
    /// How often each server is measured.
    #[arg(long, default_value_t = 5, value_parser = at_least_one::<usize>())]
    pub runs: usize,
    /// How long each time.
    #[arg(long, default_value_t = 2.0)]
    pub seconds: f64,
    /// Only servers whose name contains this.
    #[arg(long, default_value = "")]
    pub only: String,
    /// What progress is reported with.
    #[arg(skip)]
    pub progress: String,
}

impl Runs {
    /// How long one run is.
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

/// A server under test.
#[derive(Clone)]
pub(crate) struct Contender {
    pub name: &'static str,
    /// `None` is ringmesh.
    pub floor: Option<FloorServer>,
    /// Shards of ringmesh, all on the server's core.
    shards: u16,
}

impl Contender {
    /// With one shard.
    pub(crate) const RINGMESH: Self = Self::ringmesh("ringmesh", 1);

    /// ringmesh with so many shards.
    pub(crate) const fn ringmesh(name: &'static str, shards: u16) -> Self {
        Self {
            name,
            floor: None,
            shards,
        }
    }

    /// The bare server with that way to send.
    pub(crate) fn floor(sending: Sending, server: &FloorServer) -> Self {
        let name = match sending {
            Sending::Each => "floor, send",
            Sending::Coalesced => "floor, coalesced",
            Sending::Uring => "floor, io_uring",
        };
        let floor = FloorServer {
            sending,
            ..server.clone()
        };
        Self {
            name,
            floor: Some(floor),
            shards: 0,
        }
    }

    /// Starts it on the server's core.
    pub(crate) fn start(&self) -> io::Result<Server> {
        let mut arguments = match &self.floor {
            Some(floor) => floor.arguments(),
            None => vec!["serve-ringmesh".into(), format!("--shards={}", self.shards)],
        };
        arguments.push(format!("--core={}", Cores::get().server));
        Server::start(&arguments)
    }
}

/// What one run of one server came to.
pub(crate) struct Outcome {
    /// Server and softirq time per unit of work, in microseconds.
    pub cpu_us: f64,
    /// Further figures, named by the measurement.
    pub more: Vec<f64>,
}

/// Medians of one server.
pub(crate) struct Figures {
    pub name: &'static str,
    /// See [`Outcome::cpu_us`].
    pub cpu_us: f64,
    /// See [`Outcome::more`].
    pub more: Vec<f64>,
}

/// Medians of all servers.
pub(crate) struct Comparison {
    title: String,
    unit: &'static str,
    columns: &'static [&'static str],
    runs: usize,
    /// In the order of the contenders.
    pub figures: Vec<Figures>,
}

/// A load that servers are compared under.
pub(crate) struct Load<'a> {
    /// Its connections.
    pub connections: usize,
    /// What it is.
    pub title: String,
    /// What CPU time is divided by.
    pub unit: &'static str,
    /// Names of the further figures.
    pub columns: &'static [&'static str],
    /// Who takes part; ratios are to the first.
    pub contenders: &'a [Contender],
}

impl Load<'_> {
    /// Measures the contenders in turn, so that what else happens on the machine meets all.
    pub(crate) fn compare(
        self,
        runs: &Runs,
        measure: impl Fn(&Contender, &Server) -> io::Result<Outcome>,
    ) -> io::Result<Comparison> {
        let named = |contender: &&Contender| contender.name.contains(&runs.only);
        let chosen: Vec<_> = self.contenders.iter().filter(named).collect();
        if chosen.is_empty() {
            let message = format!("no server's name contains {:?}", runs.only);
            return Err(io::Error::other(message));
        }
        check_descriptors(self.connections)?;
        let mut outcomes: Vec<Vec<Outcome>> = chosen.iter().map(|_| Vec::new()).collect();
        let count = runs.runs;
        for run in 1..=count {
            for (contender, outcomes) in chosen.iter().zip(&mut outcomes) {
                let (title, name) = (&self.title, contender.name);
                eprintln!("{}{title}: run {run} of {count}, {name}", runs.progress);
                let server = contender.start()?;
                outcomes.push(measure(contender, &server)?);
            }
        }
        let medians = |(contender, outcomes): (&&Contender, &Vec<Outcome>)| Figures {
            name: contender.name,
            cpu_us: median_of(outcomes, |it| it.cpu_us),
            more: (0..self.columns.len())
                .map(|column| median_of(outcomes, |it| it.more[column]))
                .collect(),
        };
        Ok(Comparison {
            title: self.title,
            unit: self.unit,
            columns: self.columns,
            runs: count,
            figures: chosen.iter().zip(&outcomes).map(medians).collect(),
        })
    }
}

/// Whether this process and the server may have so many connections.
pub(crate) fn check_descriptors(connections: usize) -> io::Result<()> {
    let (needed, allowed) = (
        connections as u64 + OTHER_DESCRIPTORS,
        raise_descriptor_limit(),
    );
    if needed > allowed {
        return Err(io::Error::other(format!(
            "{needed} open files are needed and {allowed} allowed: raise the limit \
             (ulimit -n {needed})"
        )));
    }
    Ok(())
}

/// For arguments that cannot be zero.
pub(crate) fn at_least_one<T: TryFrom<u64>>() -> RangedU64ValueParser<T> {
    RangedU64ValueParser::new().range(1..)
}

fn median_of(outcomes: &[Outcome], figure: impl Fn(&Outcome) -> f64) -> f64 {
    median(&mut outcomes.iter().map(figure).collect::<Vec<_>>())
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.runs {
            1 => writeln!(f, "{}; one run", self.title)?,
            runs => writeln!(f, "{}; medians of {runs} runs", self.title)?,
        }
        let unit = format!("us/{}", self.unit);
        write!(f, "{:<20} {unit:>13} {:>8}", "server", "ratio")?;
        for column in self.columns {
            write!(f, " {column:>13}")?;
        }
        let first = self.figures.first().map_or(0.0, |it| it.cpu_us);
        for figures in &self.figures {
            let (name, cpu_us) = (figures.name, figures.cpu_us);
            let mut line = format!("\n{name:<20} {cpu_us:>13.3} {:>8.2}", cpu_us / first);
            for figure in &figures.more {
                write!(line, " {figure:>13.1}")?;
            }
            f.write_str(&line)?;
        }
        Ok(())
    }
}
