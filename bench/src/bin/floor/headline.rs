//! The table of the README: every load in turn, beside what ringmesh is to reach.

use std::fs;
use std::io;
use std::process::Command;
use std::time::Instant;

use ringmesh_bench::client::{open_websocket, subscribe};
use ringmesh_bench::fixture::PUBLISHABLE_KEY;
use ringmesh_bench::idle;
use ringmesh_bench::machine::{Cores, raise_descriptor_limit};

use crate::compare::{Comparison, Contender, Figures, Runs, at_least_one, check_descriptors};
use crate::table::{Amount, Reach, Row, Table, grouped};
use crate::{connects, fan_out, inbound, open_loop, ping_pong};

/// Idle connections, where the machine allows so many.
const IDLE_CONNECTIONS: u64 = 18_000;
/// Connections of the widest other load.
const CONNECTIONS_MAX: usize = 1_201;
/// Channels that they are spread over.
const IDLE_CHANNELS: usize = 100;
/// Bytes of `data` in all loads but one.
const PAYLOAD: usize = 128;

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// How often each server is measured under each load.
    #[arg(long, default_value_t = 5, value_parser = at_least_one::<usize>())]
    runs: usize,
    /// One short run each: a look, no figures to publish.
    #[arg(long)]
    quick: bool,
    /// Fail when something is not reached.
    #[arg(long)]
    check: bool,
}

/// How to measure a part of the table.
type Part = fn(Runs) -> io::Result<Vec<Row>>;

/// The parts, and seconds of a run of each.
const PARTS: [(f64, Part); 12] = [
    (0.7, |runs| fan_out(1, 1_000, 1, PAYLOAD, 1.05, runs)),
    (0.7, |runs| fan_out(1, 1_000, 16, PAYLOAD, 1.15, runs)),
    (0.7, |runs| fan_out(100, 10, 100, PAYLOAD, 1.1, runs)),
    (0.7, |runs| fan_out(1, 1_000, 1, 1_024, 1.1, runs)),
    (3.0, open_loop),
    (4.0, small_channels),
    (1.0, |runs| connects(false, 20.0, runs)),
    (1.0, |runs| connects(true, 30.0, runs)),
    (3.0, ping_pong),
    (1.0, |runs| shards(1, runs)),
    (1.0, |runs| shards(16, runs)),
    (1.0, inbound),
];

impl Arguments {
    pub(crate) fn run(&self) -> io::Result<()> {
        // Rather now than at the load that needs them.
        check_descriptors(CONNECTIONS_MAX)?;
        let begun = Instant::now();
        let (count, part_count) = (if self.quick { 1 } else { self.runs }, PARTS.len() + 1);
        let mut rows = Vec::new();
        for (number, (seconds, part)) in PARTS.iter().enumerate() {
            rows.extend(part(Runs {
                runs: count,
                seconds: if self.quick { seconds / 2.0 } else { *seconds },
                only: String::new(),
                progress: format!("[{} of {part_count}] ", number + 1),
            })?);
        }
        eprintln!("[{part_count} of {part_count}] idle connections");
        rows.push(idle_memory()?);
        println!("{}\n", Table(&rows));
        println!("{}", machine());
        let medians = match count {
            1 => "One run of each".to_owned(),
            count => format!("Medians of {count} runs"),
        };
        let seconds = begun.elapsed().as_secs();
        println!("{medians}, {seconds} s in all. Times are server CPU, unless they are latencies.");
        let missed = rows.iter().filter(|row| !row.is_reached()).count();
        match missed {
            missed if self.check && missed > 0 => {
                Err(io::Error::other(format!("{missed} rows are not reached")))
            }
            _ => Ok(()),
        }
    }
}

/// The row of one figure: ringmesh, the last contender, beside the one with that name.
fn row(
    comparison: &Comparison,
    what: String,
    reach: Reach,
    floor: &str,
    figure: impl Fn(&Figures) -> f64,
) -> io::Result<Row> {
    let of = |name: &str| {
        let figures = comparison.figures.iter().find(|it| it.name == name);
        figures.map(|it| Amount::Us(figure(it)))
    };
    let last = comparison.figures.last();
    let missing = || io::Error::other("nothing was measured");
    Ok(Row {
        what,
        reach,
        floor: of(floor),
        uring: of("floor, io_uring"),
        ringmesh: last.map(|it| Amount::Us(figure(it))).ok_or_else(missing)?,
    })
}

fn fan_out(
    channels: usize,
    subscribers: usize,
    in_flight: usize,
    payload: usize,
    ratio: f64,
    runs: Runs,
) -> io::Result<Vec<Row>> {
    let comparison = fan_out::run(&fan_out::Arguments {
        channels,
        subscribers,
        in_flight,
        payload,
        runs,
    })?;
    let channels = match channels {
        1 => "1 channel".to_owned(),
        many => format!("{many} channels"),
    };
    let size = match payload {
        PAYLOAD => String::new(),
        bytes => format!(", {} bytes", grouped(bytes)),
    };
    let what = format!(
        "{channels} of {}, {in_flight} in flight{size}: per delivery",
        grouped(subscribers)
    );
    // With one publication in flight there is nothing to coalesce.
    let floor = match in_flight {
        16 => "floor, coalesced",
        _ => "floor, send",
    };
    let reach = Reach::Ratio(ratio);
    Ok(vec![row(&comparison, what, reach, floor, |it| it.cpu_us)?])
}

fn shards(in_flight: usize, runs: Runs) -> io::Result<Vec<Row>> {
    let comparison = fan_out::run_shards(&fan_out::Arguments {
        channels: 1,
        subscribers: 1_000,
        in_flight,
        payload: PAYLOAD,
        runs,
    })?;
    let what = format!("two shards beside one (as floor), {in_flight} in flight: per delivery");
    let reach = Reach::Ratio(1.1);
    let row = row(&comparison, what, reach, "one shard", |it| it.cpu_us)?;
    Ok(vec![row])
}

/// The wide channel of 1,000 with so many small ones beside it.
fn open_loop_with(small: usize, runs: Runs) -> io::Result<Comparison> {
    open_loop::run(&open_loop::Arguments {
        subscribers: 1_000,
        rate: 80,
        small,
        payload: PAYLOAD,
        runs,
    })
}

fn open_loop(runs: Runs) -> io::Result<Vec<Row>> {
    let comparison = open_loop_with(0, runs)?;
    let rows = ["p50", "p99", "p99.9"].into_iter().enumerate();
    rows.map(|(at, quantile)| {
        let what = format!("80 publications/s to 1,000: {quantile} latency");
        let reach = Reach::Ratio(1.15);
        row(&comparison, what, reach, "floor, send", |it| it.more[at])
    })
    .collect()
}

fn small_channels(runs: Runs) -> io::Result<Vec<Row>> {
    let comparison = open_loop_with(100, runs)?;
    let what = "beside it, 100 channels of 2: their p99 latency".to_owned();
    let reach = Reach::AtMost(Amount::Us(1_000.0));
    let last = |it: &Figures| it.more.last().copied().unwrap_or_default();
    Ok(vec![row(&comparison, what, reach, "floor, send", last)?])
}

fn connects(token: bool, us_max: f64, runs: Runs) -> io::Result<Vec<Row>> {
    let comparison = connects::run(&connects::Arguments {
        parallel: 32,
        token,
        runs,
    })?;
    let with = if token {
        "a token"
    } else {
        "a publishable key"
    };
    let what = format!("connect with {with}, to `welcome`, and close");
    let reach = Reach::AtMost(Amount::Us(us_max));
    let row = row(&comparison, what, reach, "floor, send", |it| it.cpu_us)?;
    Ok(vec![row])
}

fn ping_pong(runs: Runs) -> io::Result<Vec<Row>> {
    let comparison = ping_pong::run(&ping_pong::Arguments {
        pairs: 100,
        rate: 500,
        payload: PAYLOAD,
        runs,
    })?;
    let what = |figure: &str| format!("direct, 100 pairs, 500 round trips/s: {figure}");
    let (reach, floor) = (Reach::Ratio(1.2), "floor, send");
    let cpu = row(&comparison, what("per round trip"), reach, floor, |it| {
        it.cpu_us
    })?;
    let p99 = row(&comparison, what("p99 latency"), reach, floor, |it| {
        it.more[1]
    })?;
    Ok(vec![cpu, p99])
}

fn inbound(runs: Runs) -> io::Result<Vec<Row>> {
    let comparison = inbound::run(&inbound::Arguments {
        connections: 1_000,
        payload: PAYLOAD,
        runs,
    })?;
    let what = "1,000 publish to empty channels: per message and ack".to_owned();
    let reach = Reach::Ratio(1.5);
    let row = row(&comparison, what, reach, "floor, send", |it| it.cpu_us)?;
    Ok(vec![row])
}

fn idle_memory() -> io::Result<Row> {
    let possible = idle::connections_max(raise_descriptor_limit());
    let connections = possible.min(IDLE_CONNECTIONS);
    if connections < IDLE_CONNECTIONS {
        eprintln!(
            "warning: {connections} idle connections instead of {IDLE_CONNECTIONS}: raise the \
             limit on open files (ulimit -n) for more"
        );
    }
    let server = Contender::RINGMESH.start()?;
    let query = format!("key={PUBLISHABLE_KEY}");
    let memory = idle::measure(server.pid(), connections as usize, |number| {
        let mut socket = open_websocket(server.address, &query)?;
        subscribe(&mut socket, &format!("room-{}", number % IDLE_CHANNELS))?;
        Ok(socket)
    })?;
    let kernel = Amount::Bytes(memory.kernel as f64);
    Ok(Row {
        what: format!(
            "{} idle, one subscription each: process memory (kernel, both ends: {kernel})",
            grouped(connections as usize)
        ),
        reach: Reach::AtMost(Amount::Bytes(1_024.0)),
        floor: None,
        uring: None,
        ringmesh: Amount::Bytes(memory.process as f64),
    })
}

/// What the figures were taken on.
fn machine() -> String {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == "model name").then_some(value.trim())
    });
    let kernel = read("/proc/sys/kernel/osrelease");
    let rustc = Command::new("rustc").arg("--version").output();
    let rustc = rustc.map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned());
    let cores = match Cores::get().count {
        1 => "one core, which the load shares with the server: latencies hold its time too".into(),
        count => format!("{count} cores, one for the server, one for the load"),
    };
    format!(
        "{}, {cores}; Linux {}; {}.",
        model.unwrap_or("unknown processor"),
        kernel.trim(),
        rustc.unwrap_or_else(|_| "unknown rustc".to_owned()),
    )
}
