//! Channels with a publisher each, so many publications in flight.

use std::io;
use std::time::{Duration, Instant};

use ringmesh_bench::client::Readers;
use ringmesh_bench::fixture::{PUBLISHABLE_KEY, message_frame_bytes, text_frame};
use ringmesh_bench::machine::{Cores, CpuMeter, threads_cpu};
use ringmesh_bench::real::Server;

use crate::compare::{Comparison, Contender, Load, Outcome, Runs, WARM_UP, at_least_one};
use crate::greeting;
use crate::server::{FloorServer, Sending, Work};

/// How the thread of the first shard is named.
const SHARD_0: &str = "shard-0";
/// A delivery that takes longer is lost.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Channels.
    #[arg(long, default_value_t = 1, value_parser = at_least_one::<usize>())]
    pub channels: usize,
    /// Subscribers of each channel.
    #[arg(long, default_value_t = 1_000, value_parser = at_least_one::<usize>())]
    pub subscribers: usize,
    /// Publications that not all subscribers of their channel have yet; the channels share them.
    #[arg(long, default_value_t = 1, value_parser = at_least_one::<usize>())]
    pub in_flight: usize,
    /// Bytes of `data`.
    #[arg(long, default_value_t = 128)]
    pub payload: usize,
    #[command(flatten)]
    pub runs: Runs,
}

/// The frames of a load. Their lengths are the same in all channels.
struct Frames {
    /// By channel.
    publish: Vec<Vec<u8>>,
    delivery_bytes: usize,
}

pub(crate) fn run(arguments: &Arguments) -> io::Result<Comparison> {
    let floor = FloorServer {
        greeting: greeting::steps(&query(), Some(&channel_name(0)))?,
        group: vec![arguments.subscribers + 1],
        ..FloorServer::new(
            Work::FanOut,
            arguments.frames().publish[0].len(),
            arguments.frames().delivery_bytes,
        )
    };
    let contenders = [
        Contender::floor(Sending::Each, &floor),
        Contender::floor(Sending::Coalesced, &floor),
        Contender::floor(Sending::Uring, &floor),
        Contender::RINGMESH,
    ];
    compare(arguments, &["kmsg/s"], &contenders)
}

/// One shard and two, both on the server's core: what two cost is counted in full there, and the
/// load, which fills the other core, does not slow them down. What they gain by running at the
/// same time is not measured.
pub(crate) fn run_shards(arguments: &Arguments) -> io::Result<Comparison> {
    let contenders = [
        Contender::ringmesh("one shard", 1),
        Contender::ringmesh("two shards", 2),
    ];
    compare(arguments, &["kmsg/s", "shard 0 %"], &contenders)
}

fn compare(
    arguments: &Arguments,
    columns: &'static [&'static str],
    contenders: &[Contender],
) -> io::Result<Comparison> {
    let frames = arguments.frames();
    if !arguments.in_flight.is_multiple_of(arguments.channels) {
        let message = "--in-flight must be a multiple of --channels";
        return Err(io::Error::other(message));
    }
    let load = Load {
        connections: arguments.channels * (arguments.subscribers + 1),
        title: format!(
            "fan-out, {} x {} subscribers, {} in flight, {} bytes of data, {} on the wire",
            arguments.channels,
            arguments.subscribers,
            arguments.in_flight,
            arguments.payload,
            frames.delivery_bytes
        ),
        unit: "delivery",
        columns,
        contenders,
    };
    load.compare(&arguments.runs, |contender, server| {
        measure(arguments, contender, server, &frames)
    })
}

impl Arguments {
    fn frames(&self) -> Frames {
        let data = format!("\"{}\"", "x".repeat(self.payload.saturating_sub(2)));
        let publish = |channel: usize| {
            let channel = channel_name(channel);
            text_frame(&format!(
                r#"{{"type":"publish","channel":"{channel}","data":{data}}}"#
            ))
        };
        Frames {
            publish: (0..self.channels).map(publish).collect(),
            delivery_bytes: message_frame_bytes(&channel_name(0), &data),
        }
    }
}

/// Names of one length, so that all frames have one.
fn channel_name(number: usize) -> String {
    format!("bench-{number:04}")
}

fn query() -> String {
    format!("key={PUBLISHABLE_KEY}")
}

fn measure(
    arguments: &Arguments,
    contender: &Contender,
    server: &Server,
    frames: &Frames,
) -> io::Result<Outcome> {
    let mut sockets = Vec::new();
    for channel in 0..arguments.channels {
        let name = channel_name(channel);
        for member in 0..=arguments.subscribers {
            let subscribed = (member < arguments.subscribers).then_some(name.as_str());
            sockets.push(greeting::connect(contender, server, &query(), subscribed)?);
        }
    }
    let mut load = Publishing {
        readers: Readers::new(sockets)?,
        subscribers: arguments.subscribers,
        frames,
        received_bytes: vec![0; arguments.channels * (arguments.subscribers + 1)],
        in_flight: arguments.in_flight / arguments.channels,
        incomplete: vec![0; arguments.in_flight],
        completed: vec![0; arguments.channels],
        due: Vec::new(),
        delivered: 0,
    };
    for channel in 0..arguments.channels {
        load.publish(channel, load.in_flight)?;
    }
    load.run(WARM_UP)?;
    let (delivered, start) = (load.delivered, Instant::now());
    let cpu = || [SHARD_0, ""].map(|threads| threads_cpu(server.pid(), threads));
    let before = cpu();
    let meter = CpuMeter::start(server.pid(), Cores::get().server);
    load.run(arguments.runs.duration())?;
    let deliveries = load.delivered - delivered;
    let per_second = deliveries as f64 / start.elapsed().as_secs_f64();
    let cpu_us = meter.per_unit_us(deliveries);
    let [shard_0, all] = cpu().map(|it| it.as_secs_f64());
    let percent = 100.0 * (shard_0 - before[0].as_secs_f64()) / (all - before[1].as_secs_f64());
    Ok(Outcome {
        cpu_us,
        more: vec![per_second / 1_000.0, percent],
    })
}

/// The clients. Those of a channel follow each other, its publisher is the last of them.
struct Publishing<'a> {
    readers: Readers,
    /// Of each channel.
    subscribers: usize,
    frames: &'a Frames,
    /// Per client.
    received_bytes: Vec<u64>,
    /// Publications of one channel.
    in_flight: usize,
    /// How many subscribers have each of the publications in flight: by channel, then by number
    /// modulo [`Publishing::in_flight`].
    incomplete: Vec<usize>,
    /// Publications of each channel that everybody has and that were not replaced yet.
    completed: Vec<usize>,
    /// Channels with any.
    due: Vec<usize>,
    delivered: u64,
}

impl Publishing<'_> {
    fn publish(&self, channel: usize, count: usize) -> io::Result<()> {
        let publisher = channel * (self.subscribers + 1) + self.subscribers;
        let frame = &self.frames.publish[channel];
        self.readers.send(publisher, &frame.repeat(count))
    }

    /// Publishes again whenever all subscribers have a publication.
    fn run(&mut self, duration: Duration) -> io::Result<()> {
        let end = Instant::now() + duration;
        let mut progress = Instant::now();
        while Instant::now() < end {
            let before = self.delivered;
            self.receive()?;
            for channel in std::mem::take(&mut self.due) {
                let completed = std::mem::take(&mut self.completed[channel]);
                self.publish(channel, completed)?;
            }
            if self.delivered > before {
                progress = Instant::now();
            } else if progress.elapsed() > DELIVERY_TIMEOUT {
                return Err(io::Error::other("a delivery is missing"));
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> io::Result<()> {
        let length = self.frames.delivery_bytes as u64;
        let (members, window) = (self.subscribers + 1, self.in_flight);
        let Self {
            readers,
            subscribers,
            received_bytes,
            incomplete,
            completed,
            due,
            delivered,
            ..
        } = self;
        readers.wait(Duration::from_millis(100), |at, count| {
            let (channel, bytes) = (at / members, &mut received_bytes[at]);
            let have = *bytes / length;
            *bytes += count as u64;
            for number in have..*bytes / length {
                *delivered += 1;
                let entry = &mut incomplete[channel * window + number as usize % window];
                *entry += 1;
                if *entry == *subscribers {
                    *entry = 0;
                    if completed[channel] == 0 {
                        due.push(channel);
                    }
                    completed[channel] += 1;
                }
            }
        })
    }
}
