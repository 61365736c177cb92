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
pub struct Arguments {
    /// Clients that connect.
    #[arg(long, default_value_t = 2_000)]
    connects: usize,
    /// How often they do.
    #[arg(long, default_value_t = 5)]
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

pub fn run(arguments: &Arguments) -> io::Result<()> {
    let server = crate::start()?;
    let mut live = Live::start(arguments, &server)?;
    let (mut quiet, mut stormy, mut took) = (Vec::new(), Vec::new(), Vec::new());
    live.run(&mut Vec::new(), |at| at >= QUIET)?;
    for _ in 0..arguments.storms.max(1) {
        live.run(&mut quiet, |at| at >= QUIET)?;
        let mut storm = Storm::gather(arguments, server.tls_address()?)?;
        let begun = storm.release()?;
        live.run(&mut stormy, |_| storm.is_over())?;
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
        took.iter().sum::<f64>() / took.len() as f64
    );
    print_row(("late", &mut live.late_us));
    let [quiet_p99, storm_p99] = [("quiet", &mut quiet), ("storm", &mut stormy)].map(print_row);
    let ratio = storm_p99 / quiet_p99;
    println!("ratio of p99 {ratio:.1}");
    if ratio > arguments.ratio_max {
        let limit = arguments.ratio_max;
        return Err(io::Error::other(format!("more than {limit} times quiet")));
    }
    Ok(())
}

/// Prints the latencies of a phase; answers their p99.
fn print_row((name, latencies_us): (&str, &mut Vec<f64>)) -> f64 {
    latencies_us.sort_by(f64::total_cmp);
    let quantile = |part: f64| {
        let at = (latencies_us.len() as f64 * part) as usize;
        let last = latencies_us.len().saturating_sub(1);
        latencies_us.get(at.min(last)).copied().unwrap_or(f64::NAN)
    };
    println!(
        "{name}: {} deliveries, p50 {:.0} us, p90 {:.0} us, p99 {:.0} us, p99.9 {:.0} us",
        latencies_us.len(),
        quantile(0.5),
        quantile(0.9),
        quantile(0.99),
        quantile(0.999)
    );
    quantile(0.99)
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
pub struct Clients {
    #[arg(long)]
    connects: usize,
    #[arg(long)]
    address: SocketAddr,
}

impl Clients {
    pub fn run(&self) -> io::Result<()> {
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
