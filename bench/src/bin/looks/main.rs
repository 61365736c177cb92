//! What it costs a shard when operators look: how long a list takes, and what of a millisecond.
//!
//! A shard value with many channels and their members is asked for each list, a millisecond after
//! the other, as the shard's loop does. A portion of a walk is all that a look may delay anybody.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program's output"
)]

mod node;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use hdrhistogram::Histogram;
use ringmesh::domain::app_id::AppTag;
use ringmesh::domain::look::{ChannelOrder, ConnectionOrder, Filter, Look, Rows};
use ringmesh::proto::pattern::Pattern;
use ringmesh::shard::query::Query;
use ringmesh_bench::fixture::{APP_ID, Fixture};

/// Channels of a connection.
const CHANNELS_EACH: usize = 100;
/// How long a turn of the server is.
const TURN: Duration = Duration::from_secs(2);

/// Measures what a shard does for operators who look.
#[derive(Parser)]
#[command(
    name = "looks",
    after_help = "Examples: cargo run --release -p ringmesh-bench --bin looks\n\
                  cargo run --release -p ringmesh-bench --bin looks -- \
                  --node target/release/ringmesh\n\
                  A million channels on four shards are 250,000 on each."
)]
struct Arguments {
    /// Asks a whole server, which is this program, over its admin API.
    #[arg(long, value_name = "PROGRAM")]
    node: Option<PathBuf>,
    /// Shards of the server.
    #[arg(long, default_value_t = 4)]
    shards: u16,
    /// Turns of the server without somebody who looks, and as many with one.
    #[arg(long, default_value_t = 8)]
    turns: usize,
    /// Fail when the p99 of deliveries is so many times that of the turns without.
    #[arg(long, default_value_t = 1.1)]
    p99_ratio_max: f64,
    /// Channels on the shard (default: 250,000), or the server (1,000,000).
    #[arg(long)]
    channels: Option<usize>,
    /// Connections on the shard (default: 4,000), each with a hundred of the channels or none, or
    /// on the server (15,000).
    #[arg(long)]
    connections: Option<usize>,
    /// Fail when a list takes more milliseconds.
    #[arg(long, default_value_t = 300)]
    list_ms_max: usize,
    /// Fail when the median of what is looked at in a millisecond takes more microseconds.
    #[arg(long, default_value_t = 100)]
    portion_us_max: u128,
}

/// How a list went.
struct Went {
    portions: Vec<Duration>,
}

impl Went {
    fn percent(&self, percent: usize) -> Duration {
        self.portions[(self.portions.len() - 1) * percent / 100]
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.node {
        Some(server) => of_node(server.clone(), &arguments),
        None => Ok(of_shard(&arguments)),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures a server. Returns whether it is as good as it has to be.
fn of_node(server: PathBuf, arguments: &Arguments) -> io::Result<bool> {
    let found = node::measure(&node::Plan {
        server,
        shards: arguments.shards,
        connections: arguments.connections.unwrap_or(15_000),
        channels: arguments.channels.unwrap_or(1_000_000),
        turns: arguments.turns,
        turn: TURN,
    })?;
    println!(
        "{:<48} {:>6} {:>7} {:>7}",
        "view", "times", "p50 ms", "max ms"
    );
    let mut is_good = true;
    for (path, took) in &found.views {
        let (p50, max) = (took.value_at_quantile(0.5), took.max());
        println!("{path:<48} {:>6} {p50:>7} {max:>7}", took.len());
        is_good &= max <= arguments.list_ms_max as u64;
    }
    println!(
        "deliveries {:>14} {:>7} {:>7} {:>7}",
        "times", "p50 us", "p99 us", "p99.9"
    );
    for (name, of) in [("quiet", &found.quiet), ("looked at", &found.looked_at)] {
        let us = [0.5, 0.99, 0.999].map(|it| of.value_at_quantile(it));
        println!(
            "{name:<10} {:>14} {:>7} {:>7} {:>7}",
            of.len(),
            us[0],
            us[1],
            us[2]
        );
    }
    let p99 = |of: &Histogram<u64>| of.value_at_quantile(0.99) as f64;
    let ratio = p99(&found.looked_at) / p99(&found.quiet);
    println!("the p99 is {ratio:.3} times that of the turns without");
    Ok(is_good && ratio <= arguments.p99_ratio_max)
}

/// Measures a shard. Returns whether it is as good as it has to be.
fn of_shard(arguments: &Arguments) -> bool {
    let mut fixture = Fixture::new();
    let mut left = arguments.channels.unwrap_or(250_000);
    for number in 0..arguments.connections.unwrap_or(4_000) {
        let connection = fixture.connect();
        for channel in 0..left.min(CHANNELS_EACH) {
            let json = format!(r#"{{"type":"subscribe","channel":"room/{number}/{channel}"}}"#);
            fixture.say(connection, &json);
        }
        left -= left.min(CHANNELS_EACH);
    }
    if left > 0 {
        eprintln!("error: {left} channels are left: use more --connections");
        return false;
    }
    fixture.end_pauses();
    println!("list                       ms  portion p50   p99   max");
    let mut is_good = true;
    for (name, look) in looks() {
        let went = look_once(&mut fixture, look);
        let ms = went.portions.len();
        let us = |percent| went.percent(percent).as_micros();
        println!(
            "{name:<22} {ms:>6} {:>9} us {:>5} {:>5}",
            us(50),
            us(99),
            us(100)
        );
        is_good &= ms <= arguments.list_ms_max && us(50) <= arguments.portion_us_max;
    }
    is_good
}

fn looks() -> Vec<(&'static str, Look)> {
    let app = AppTag::of(APP_ID);
    let rows = |matching: Option<&str>| Rows {
        app,
        matching: matching.and_then(|it| Pattern::parse(it).ok()),
        after: None,
        limit: 200,
    };
    let by = |order| Look::Connections(rows(None), Filter::default(), order);
    vec![
        (
            "channels by name",
            Look::Channels(rows(None), ChannelOrder::Name),
        ),
        (
            "channels by rate",
            Look::Channels(rows(None), ChannelOrder::Rate),
        ),
        (
            "channels by pattern",
            Look::Channels(rows(Some("room/*/7*")), ChannelOrder::Name),
        ),
        ("one channel", Look::Channel(app, "room/1/1".into())),
        ("its members", Look::Members(rows(None), "room/1/1".into())),
        ("connections by queue", by(ConnectionOrder::Queue)),
        ("newest connections", by(ConnectionOrder::Newest)),
        ("addresses", Look::Networks(rows(None), Filter::default())),
        ("peers", Look::Peers(rows(None))),
        ("one peer", Look::Peer(app, "nobody".into())),
    ]
}

fn look_once(fixture: &mut Fixture, look: Look) -> Went {
    fixture.ask(Query::Look(look), 1);
    let mut portions = Vec::new();
    loop {
        let began = Instant::now();
        fixture.millisecond();
        portions.push(began.elapsed());
        if !fixture.answers().is_empty() {
            portions.sort_unstable();
            return Went { portions };
        }
    }
}
