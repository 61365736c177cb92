//! Live traffic over wss, first alone, then while so many clients connect at once.
//!
//! The storm is a process of its own. It makes all first flights beforehand, then connects and
//! sends without a pause, so that the server has them all to do. It shares the load core with
//! the live client but runs as `SCHED_IDLE`: the kernel takes the core from it whenever the live
//! client has something to do, so that what is measured is the server's delay.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use ringmesh_bench::client::{Readers, open, open_websocket};
use ringmesh_bench::fixture::{PUBLISHABLE_KEY, message_frame_bytes, text_frame, upgrade_request};
use ringmesh_bench::machine::median;
use ringmesh_bench::real::Server;
use ringmesh_bench::tls::{Exchange, RecordCounter, Suites, TlsClient, client_config, connection};

use crate::subscribers;

/// Live traffic before a storm.
const QUIET: Duration = Duration::from_secs(2);
/// For the closes of a storm's connections.
const REST: Duration = Duration::from_secs(1);
/// Publications of which some deliveries may be missing yet.
const WINDOW: usize = 4_096;

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Clients that connect.
    #[arg(long, default_value_t = 2_000)]
    connects: usize,
    /// How often they do.
    #[arg(long, default_value_t = 9)]
    storms: usize,
    /// Live connections, all subscribed to one channel.
    #[arg(long, default_value_t = 20)]
    live: usize,
    /// Publications per second.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Fail when the p99 of the storms is more than so many times the quiet one.
    #[arg(long, default_value_t = 5.0)]
    ratio_max: f64,
}

pub(crate) fn run(arguments: &Arguments) -> io::Result<()> {
    let server = crate::start()?;
    let mut live = Live::start(arguments, &server)?;
    let (mut quiet, mut stormy, mut took) = (Phases::default(), Phases::default(), Vec::new());
    live.run(&mut Vec::new(), |at| at >= QUIET)?;
    for _ in 0..arguments.storms.max(1) {
        live.run(quiet.next(), |at| at >= QUIET)?;
        let mut storm = Storm::gather(arguments, server.tls_address()?)?;
        let begun = storm.release()?;
        live.run(stormy.next(), |_| storm.is_over())?;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
        drop(storm);
        live.run(&mut Vec::new(), |at| at >= REST)?;
    }
    println!(
        "{} live wss connections, {} publications/s; {} storms of {} connects, {:.0} ms each",
        arguments.live,
        arguments.rate,
        took.len(),
        arguments.connects,
        median(&mut took)
    );
    Phases(vec![live.late_us]).print("sent late by");
    let quiet_p99 = quiet.print("quiet");
    let ratio = stormy.print("storm") / quiet_p99;
    println!("ratio of p99: {ratio:.1}");
    if ratio > arguments.ratio_max {
        let limit = arguments.ratio_max;
        return Err(io::Error::other(format!("more than {limit} times quiet")));
    }
    Ok(())
}

/// The latencies of each phase of a kind, in microseconds.
#[derive(Default)]
struct Phases(Vec<Vec<f64>>);

impl Phases {
    /// Where the next phase's go.
    fn next(&mut self) -> &mut Vec<f64> {
        self.0.push(Vec::new());
        let last = self.0.len() - 1;
        &mut self.0[last]
    }

    /// Prints the medians of the phases' quantiles. Returns that of p99. A median, because other
    /// programs of a machine take the server's core for some milliseconds now and then, which
    /// says nothing about the server: a phase or two have it in their p99, the worst tells of it.
    fn print(mut self, name: &str) -> f64 {
        self.0.iter_mut().for_each(|it| it.sort_by(f64::total_cmp));
        let of_phases = |part: f64| -> Vec<f64> {
            let quantile = |phase: &Vec<f64>| {
                let at = (phase.len() as f64 * part) as usize;
                phase.get(at.min(phase.len().saturating_sub(1))).copied()
            };
            self.0.iter().filter_map(quantile).collect()
        };
        let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|part| median(&mut of_phases(part)));
        let worst = of_phases(0.99).into_iter().fold(0.0, f64::max);
        println!("{name:<12} p50 {p50:.0} us, p90 {p90:.0} us, p99 {p99:.0} us (worst {worst:.0})");
        p99
    }
}

/// The live traffic. The publisher, over plaintext, is the last of the readers.
struct Live {
    readers: Readers,
    publish: Vec<u8>,
    delivery_bytes: u64,
    received: Vec<RecordCounter>,
    interval: Duration,
    /// When each of the last publications was due, by number modulo length.
    due: Vec<Instant>,
    published: u64,
    /// By how much each left too late, which is the load's fault.
    late_us: Vec<f64>,
}

impl Live {
    fn start(arguments: &Arguments, server: &Server) -> io::Result<Self> {
        let config = client_config(Exchange::Hybrid, Suites::All, false);
        let mut sockets = subscribers(server, &config, arguments.live)?;
        let query = format!("key={PUBLISHABLE_KEY}");
        sockets.push(open_websocket(server.address, &query)?);
        let data = format!("\"{}\"", "x".repeat(198));
        let publish = format!(r#"{{"type":"publish","channel":"bench","data":{data}}}"#);
        Ok(Self {
            readers: Readers::new(sockets)?,
            publish: text_frame(&publish),
            delivery_bytes: message_frame_bytes("bench", &data) as u64,
            received: vec![RecordCounter::default(); arguments.live],
            interval: Duration::from_secs(1) / arguments.rate.max(1),
            due: vec![Instant::now(); WINDOW],
            published: 0,
            late_us: Vec::new(),
        })
    }

    /// Publishes at the fixed rate until it is enough, and waits for the last deliveries. A
    /// delivery's latency counts from when its publication was due.
    fn run(
        &mut self,
        latencies_us: &mut Vec<f64>,
        mut is_enough: impl FnMut(Duration) -> bool,
    ) -> io::Result<()> {
        let start = Instant::now();
        let mut next = start;
        while !is_enough(start.elapsed()) {
            while Instant::now() >= next {
                self.due[(self.published % WINDOW as u64) as usize] = next;
                self.published += 1;
                self.late_us.push(next.elapsed().as_secs_f64() * 1e6);
                self.readers.send(self.received.len(), &self.publish)?;
                next += self.interval;
            }
            let patience = next.saturating_duration_since(Instant::now());
            self.receive(patience, latencies_us)?;
        }
        let end = Instant::now() + Duration::from_secs(5);
        while self.is_missing_some() {
            if Instant::now() > end {
                return Err(io::Error::other("a delivery is missing"));
            }
            self.receive(Duration::from_millis(100), latencies_us)?;
        }
        Ok(())
    }

    fn is_missing_some(&self) -> bool {
        let all = self.published * self.delivery_bytes;
        self.received.iter().any(|counter| counter.plaintext < all)
    }

    fn receive(&mut self, patience: Duration, latencies_us: &mut Vec<f64>) -> io::Result<()> {
        let (received, length, due) = (&mut self.received, self.delivery_bytes, &self.due);
        self.readers.wait_for_bytes(patience, |at, bytes| {
            let Some(counter) = received.get_mut(at) else {
                return; // the publisher gets no deliveries
            };
            let now = Instant::now();
            let have = counter.plaintext / length;
            counter.add(bytes);
            for number in have..counter.plaintext / length {
                let due = due[(number % WINDOW as u64) as usize];
                latencies_us.push(now.duration_since(due).as_secs_f64() * 1e6);
            }
        })
    }
}

/// The process whose clients connect.
struct Storm {
    child: Child,
    lines: Receiver<String>,
}

impl Storm {
    /// Has the clients made, which takes a while.
    fn gather(arguments: &Arguments, address: SocketAddr) -> io::Result<Self> {
        let mut child = Command::new("chrt")
            .args(["--idle", "0"])
            .arg(std::env::current_exe()?)
            .arg("storm-clients")
            .args(["--connects", &arguments.connects.to_string()])
            .args(["--address", &address.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (sender, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        let storm = Self { child, lines };
        storm.lines.recv().map_err(io::Error::other)?;
        Ok(storm)
    }

    /// Lets them go.
    fn release(&mut self) -> io::Result<Instant> {
        if let Some(stdin) = &mut self.child.stdin {
            stdin.write_all(b"\n")?;
        }
        Ok(Instant::now())
    }

    /// All have their welcome, or it has failed.
    fn is_over(&self) -> bool {
        !matches!(self.lines.try_recv(), Err(TryRecvError::Empty))
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// What that process does.
#[derive(clap::Args, Debug)]
pub(crate) struct Clients {
    #[arg(long)]
    connects: usize,
    #[arg(long)]
    address: SocketAddr,
}

impl Clients {
    pub(crate) fn run(&self) -> io::Result<()> {
        crate::pin_to_load_core();
        let config = client_config(Exchange::Hybrid, Suites::All, false);
        let mut flights = Vec::new();
        for number in 0..self.connects {
            let (mut session, mut flight) = (connection(&config, number)?, Vec::new());
            session.write_tls(&mut flight)?;
            flights.push((session, flight));
        }
        println!("ready");
        io::stdin().read_exact(&mut [0])?;
        let mut clients = Vec::new();
        for (session, flight) in flights {
            let mut socket = open(self.address)?;
            socket.write_all(&flight)?;
            clients.push(TlsClient { session, socket });
        }
        let request = upgrade_request(&format!("key={PUBLISHABLE_KEY}"));
        for client in &mut clients {
            while client.session.is_handshaking() {
                client.take_in()?;
                client.flush()?;
            }
            client.session.writer().write_all(request.as_bytes())?;
            client.flush()?;
        }
        for client in &mut clients {
            client.ask(b"", b"\"maxMessageSize\":65536}")?;
        }
        println!("over");
        // They stay until this is told to end.
        io::stdin().read_to_end(&mut Vec::new())?;
        Ok(())
    }
}
