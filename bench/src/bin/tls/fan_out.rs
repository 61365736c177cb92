//! One channel, one publisher, so many publications in flight; its subscribers come over
//! plaintext or over wss. The publisher is the same, over plaintext.

use std::io;
use std::time::{Duration, Instant};

use ringmesh_bench::client::{Readers, open_websocket, subscribe};
use ringmesh_bench::fixture::{PUBLISHABLE_KEY, message_frame_bytes, text_frame};
use ringmesh_bench::machine::{CpuMeter, median};
use ringmesh_bench::real::Server;
use ringmesh_bench::tls::{Exchange, RecordCounter, Suites, client_config};

use crate::{SERVER_CORE, subscribers};

/// What is not measured at the start, while caches and pools fill.
const WARM_UP: Duration = Duration::from_millis(300);
/// A delivery that takes longer is lost.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Subscribers of the channel.
    #[arg(long, default_value_t = 1_000)]
    subscribers: usize,
    /// Publications that all subscribers do not have yet.
    #[arg(long, default_value_t = 1)]
    in_flight: usize,
    /// Bytes of `data`.
    #[arg(long, default_value_t = 200)]
    payload: usize,
    /// How often each kind is measured.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// How long each time.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
}

pub(crate) fn run(arguments: &Arguments) -> io::Result<()> {
    let data = format!("\"{}\"", "x".repeat(arguments.payload.saturating_sub(2)));
    let mut figures: [Vec<f64>; 2] = Default::default();
    for _ in 0..arguments.runs.max(1) {
        for (is_tls, figures) in [false, true].into_iter().zip(&mut figures) {
            figures.push(measure(arguments, is_tls, &data)?);
        }
    }
    println!(
        "1 channel x {} subscribers, {} in flight, {} bytes of data; medians of {} runs",
        arguments.subscribers, arguments.in_flight, arguments.payload, arguments.runs
    );
    let [plain, wss] = figures.map(|mut figures| median(&mut figures));
    println!("plaintext {plain:>8.3} us of server CPU per delivery");
    println!("wss       {wss:>8.3} us of server CPU per delivery");
    println!("ratio     {:>8.2}", wss / plain);
    Ok(())
}

fn measure(arguments: &Arguments, is_tls: bool, data: &str) -> io::Result<f64> {
    let server = crate::start()?;
    let mut sockets = if is_tls {
        let config = client_config(Exchange::Hybrid, Suites::All, false);
        subscribers(&server, &config, arguments.subscribers)?
    } else {
        plain_subscribers(&server, arguments.subscribers)?
    };
    let query = format!("key={PUBLISHABLE_KEY}");
    sockets.push(open_websocket(server.address, &query)?);
    let publish = format!(r#"{{"type":"publish","channel":"bench","data":{data}}}"#);
    let mut load = Load {
        readers: Readers::new(sockets)?,
        publish: text_frame(&publish),
        delivery_bytes: message_frame_bytes("bench", data) as u64,
        is_tls,
        received: vec![RecordCounter::default(); arguments.subscribers],
        incomplete: vec![0; arguments.in_flight],
        completed: 0,
        delivered: 0,
    };
    load.publish(arguments.in_flight)?;
    load.run(WARM_UP)?;
    let (meter, delivered) = (CpuMeter::start(server.pid(), SERVER_CORE), load.delivered);
    load.run(Duration::from_secs_f64(arguments.seconds))?;
    Ok(meter.per_unit_us(load.delivered - delivered))
}

fn plain_subscribers(server: &Server, count: usize) -> io::Result<Vec<std::net::TcpStream>> {
    let query = format!("key={PUBLISHABLE_KEY}");
    let one = |_| {
        let mut socket = open_websocket(server.address, &query)?;
        subscribe(&mut socket, "bench")?;
        Ok(socket)
    };
    (0..count).map(one).collect()
}

struct Load {
    /// The publisher is the last.
    readers: Readers,
    publish: Vec<u8>,
    delivery_bytes: u64,
    is_tls: bool,
    received: Vec<RecordCounter>,
    /// How many subscribers have each of the publications in flight, by number modulo length.
    incomplete: Vec<usize>,
    /// Publications that everybody has.
    completed: u64,
    delivered: u64,
}

impl Load {
    fn publish(&self, count: usize) -> io::Result<()> {
        let publisher = self.received.len();
        self.readers.send(publisher, &self.publish.repeat(count))
    }

    /// Publishes again whenever all subscribers have a publication.
    fn run(&mut self, duration: Duration) -> io::Result<()> {
        let end = Instant::now() + duration;
        let mut progress = Instant::now();
        while Instant::now() < end {
            let before = (self.completed, self.delivered);
            self.receive()?;
            if self.completed > before.0 {
                self.publish((self.completed - before.0) as usize)?;
            }
            if self.delivered > before.1 {
                progress = Instant::now();
            } else if progress.elapsed() > DELIVERY_TIMEOUT {
                return Err(io::Error::other("a delivery is missing"));
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> io::Result<()> {
        let Self {
            readers,
            delivery_bytes,
            is_tls,
            received,
            incomplete,
            completed,
            delivered,
            ..
        } = self;
        let subscribers = received.len();
        readers.wait_for_bytes(Duration::from_millis(100), |at, bytes| {
            let Some(counter) = received.get_mut(at) else {
                return; // the publisher gets no deliveries
            };
            let have = counter.plaintext / *delivery_bytes;
            if *is_tls {
                counter.add(bytes);
            } else {
                counter.plaintext += bytes.len() as u64;
            }
            for number in have..counter.plaintext / *delivery_bytes {
                *delivered += 1;
                let window = incomplete.len() as u64;
                let entry = &mut incomplete[(number % window) as usize];
                *entry += 1;
                if *entry == subscribers {
                    *entry = 0;
                    *completed += 1;
                }
            }
        })
    }
}
