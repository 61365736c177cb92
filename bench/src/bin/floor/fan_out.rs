//! One channel, one publisher, so many publications in flight.

use std::io;
use std::time::{Duration, Instant};

use ringmesh_bench::client::{Readers, open, open_websocket, subscribe};
use ringmesh_bench::fixture::{PUBLISHABLE_KEY, message_frame_bytes, text_frame};
use ringmesh_bench::machine::CpuMeter;
use ringmesh_bench::real::Server;

use crate::server::{Sending, Work};
use crate::{Contender, Outcome, Runs, SERVER_CORE, compare};

/// What is not measured at the start, while caches and pools fill.
const WARM_UP: Duration = Duration::from_millis(300);
/// A delivery that takes longer is lost.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Subscribers of the channel.
    #[arg(long, default_value_t = 1_000)]
    subscribers: usize,
    /// Publications that all subscribers do not have yet.
    #[arg(long, default_value_t = 1)]
    in_flight: usize,
    /// Bytes of `data`.
    #[arg(long, default_value_t = 128)]
    payload: usize,
    #[command(flatten)]
    runs: Runs,
}

pub fn run(arguments: &Arguments) -> io::Result<()> {
    let data = format!("\"{}\"", "x".repeat(arguments.payload.saturating_sub(2)));
    let publish = text_frame(&format!(
        r#"{{"type":"publish","channel":"bench","data":{data}}}"#
    ));
    let delivery_bytes = message_frame_bytes("bench", &data);
    let shape = (publish.len(), delivery_bytes);
    let contenders = [
        Contender::floor("floor, send", Work::FanOut, Sending::Each, shape),
        Contender::floor("floor, coalesced", Work::FanOut, Sending::Coalesced, shape),
        Contender::floor("floor, io_uring", Work::FanOut, Sending::Uring, shape),
        Contender::RINGMESH,
    ];
    let title = format!(
        "1 channel x {} subscribers, {} in flight, {} bytes of data, {delivery_bytes} on the wire",
        arguments.subscribers, arguments.in_flight, arguments.payload
    );
    let columns = ["kmsg/s"];
    compare(
        &title,
        "delivery",
        &columns,
        &arguments.runs,
        &contenders,
        |contender, server| measure(arguments, contender, server, &publish, delivery_bytes),
    )
}

fn measure(
    arguments: &Arguments,
    contender: &Contender,
    server: &Server,
    publish: &[u8],
    delivery_bytes: usize,
) -> io::Result<Outcome> {
    let mut sockets = Vec::new();
    for number in 0..=arguments.subscribers {
        let mut socket = match contender.floor {
            Some(_) => open(server.address)?,
            None => open_websocket(server.address, &format!("key={PUBLISHABLE_KEY}"))?,
        };
        if contender.floor.is_none() && number < arguments.subscribers {
            subscribe(&mut socket, "bench")?;
        }
        sockets.push(socket);
    }
    let mut load = Load {
        readers: Readers::new(sockets)?,
        subscribers: arguments.subscribers,
        delivery_bytes,
        received_bytes: vec![0; arguments.subscribers],
        incomplete: vec![0; arguments.in_flight],
        completed: 0,
        delivered: 0,
    };
    load.publish(publish, arguments.in_flight)?;
    load.run(publish, WARM_UP)?;
    let (meter, delivered, start) = (
        CpuMeter::start(server.pid(), SERVER_CORE),
        load.delivered,
        Instant::now(),
    );
    load.run(publish, arguments.runs.duration())?;
    let deliveries = load.delivered - delivered;
    let per_second = deliveries as f64 / start.elapsed().as_secs_f64();
    Ok(Outcome {
        cpu_us: meter.per_unit_us(deliveries),
        more: vec![per_second / 1_000.0],
    })
}

struct Load {
    readers: Readers,
    subscribers: usize,
    delivery_bytes: usize,
    /// Per subscriber.
    received_bytes: Vec<u64>,
    /// How many subscribers have each of the publications in flight, by number modulo length.
    incomplete: Vec<usize>,
    /// Publications that everybody has.
    completed: u64,
    delivered: u64,
}

impl Load {
    fn publish(&self, frame: &[u8], count: usize) -> io::Result<()> {
        self.readers.send(self.subscribers, &frame.repeat(count))
    }

    /// Publishes again whenever all subscribers have a publication.
    fn run(&mut self, frame: &[u8], duration: Duration) -> io::Result<()> {
        let end = Instant::now() + duration;
        let mut progress = Instant::now();
        while Instant::now() < end {
            let before = (self.completed, self.delivered);
            let Self {
                readers,
                subscribers,
                delivery_bytes,
                received_bytes,
                incomplete,
                completed,
                delivered,
            } = self;
            let length = *delivery_bytes as u64;
            readers.wait(Duration::from_millis(100), |at, count| {
                let Some(bytes) = received_bytes.get_mut(at) else {
                    return; // the publisher gets no deliveries
                };
                let have = *bytes / length;
                *bytes += count as u64;
                for number in have..*bytes / length {
                    *delivered += 1;
                    let window = incomplete.len() as u64;
                    let entry = &mut incomplete[(number % window) as usize];
                    *entry += 1;
                    if *entry == *subscribers {
                        *entry = 0;
                        *completed += 1;
                    }
                }
            })?;
            if self.completed > before.0 {
                self.publish(frame, (self.completed - before.0) as usize)?;
            }
            if self.delivered > before.1 {
                progress = Instant::now();
            } else if progress.elapsed() > DELIVERY_TIMEOUT {
                return Err(io::Error::other("a delivery is missing"));
            }
        }
        Ok(())
    }
}
