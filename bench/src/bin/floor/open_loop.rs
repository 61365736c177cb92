//! Publications at a fixed rate to one wide channel, with or without small channels beside it.
//!
//! The load is open: a publication's latency counts from when it was due, also when it left late.
//! Small channels are read through an `epoll` of their own, which has its turn after a few reads
//! of the wide one, so that what they wait for is the server.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use ringmesh_bench::client::Readers;
use ringmesh_bench::fixture::{PUBLISHABLE_KEY, message_frame_bytes, text_frame};
use ringmesh_bench::machine::{Cores, CpuMeter};
use ringmesh_bench::real::Server;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::compare::{Comparison, Contender, Load, Outcome, Runs, WARM_UP, at_least_one};
use crate::greeting;
use crate::latencies::Latencies;
use crate::server::{FloorServer, Sending, Work};

/// Reads of the wide channel before the small ones and the clock have their turn.
const WIDE_BATCH: usize = 16;
/// A delivery that takes longer is lost.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);
/// Its part behind the point.
const GOLDEN_RATIO: f64 = 0.618_033_988_749_895;
/// The wide channel's name.
const WIDE: &str = "wide-0000";

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Subscribers of the wide channel.
    #[arg(long, default_value_t = 1_000, value_parser = at_least_one::<usize>())]
    pub subscribers: usize,
    /// Publications per second to the wide channel.
    #[arg(long, default_value_t = 80, value_parser = at_least_one::<u32>())]
    pub rate: u32,
    /// Small channels of two, with a publication per second each.
    #[arg(long, default_value_t = 0)]
    pub small: usize,
    /// Bytes of `data`.
    #[arg(long, default_value_t = 128)]
    pub payload: usize,
    #[command(flatten)]
    pub runs: Runs,
}

pub(crate) fn run(arguments: &Arguments) -> io::Result<Comparison> {
    let frames = arguments.frames();
    let query = format!("key={PUBLISHABLE_KEY}");
    let floor = FloorServer {
        greeting: greeting::steps(&query, Some(WIDE))?,
        group: vec![arguments.subscribers + 1, 2],
        ..FloorServer::new(Work::FanOut, frames.wide.len(), frames.delivery_bytes)
    };
    let (beside, columns): (_, &[_]) = match arguments.small {
        0 => (
            String::new(),
            &["p50 us", "p99 us", "p99.9 us", "late p99 us"],
        ),
        small => (
            format!(", beside {small} channels of 2"),
            &[
                "p50 us",
                "p99 us",
                "p99.9 us",
                "late p99 us",
                "small p50 us",
                "small p99 us",
            ],
        ),
    };
    let load = Load {
        connections: arguments.subscribers + 1 + arguments.small * 2,
        title: format!(
            "{} publications/s to {} subscribers{beside}",
            arguments.rate, arguments.subscribers
        ),
        unit: "delivery",
        columns,
        contenders: &[
            Contender::floor(Sending::Each, &floor),
            Contender::floor(Sending::Uring, &floor),
            Contender::RINGMESH,
        ],
    };
    load.compare(&arguments.runs, |contender, server| {
        measure(arguments, contender, server, &frames)
    })
}

/// What is published. All frames have one length, and all deliveries.
struct Frames {
    wide: Vec<u8>,
    /// By channel.
    small: Vec<Vec<u8>>,
    delivery_bytes: usize,
}

impl Arguments {
    fn frames(&self) -> Frames {
        let data = format!("\"{}\"", "x".repeat(self.payload.saturating_sub(2)));
        let publish = |channel: &str| {
            text_frame(&format!(
                r#"{{"type":"publish","channel":"{channel}","data":{data}}}"#
            ))
        };
        let small = (0..self.small).map(|number| publish(&small_name(number)));
        Frames {
            wide: publish(WIDE),
            small: small.collect(),
            delivery_bytes: message_frame_bytes(WIDE, &data),
        }
    }
}

/// As long as [`WIDE`].
fn small_name(number: usize) -> String {
    format!("room-{number:04}")
}

fn measure(
    arguments: &Arguments,
    contender: &Contender,
    server: &Server,
    frames: &Frames,
) -> io::Result<Outcome> {
    let query = format!("key={PUBLISHABLE_KEY}");
    let connect = |channel: Option<&str>| greeting::connect(contender, server, &query, channel);
    let mut wide = Vec::new();
    for _ in 0..arguments.subscribers {
        wide.push(connect(Some(WIDE))?);
    }
    wide.push(connect(None)?);
    let mut small = Vec::new();
    for number in 0..arguments.small * 2 {
        small.push(connect(Some(&small_name(number / 2)))?);
    }
    let mut clients = Clients::new(arguments, frames, wide, small)?;
    clients.run(WARM_UP)?;
    let meter = CpuMeter::start(server.pid(), Cores::get().server);
    let [wide, late, small] = clients.run(arguments.runs.duration())?;
    let cpu_us = meter.per_unit_us(wide.count() + small.count());
    let mut more: Vec<_> = [0.5, 0.99, 0.999].map(|part| wide.quantile_us(part)).into();
    more.push(late.quantile_us(0.99));
    if arguments.small > 0 {
        more.extend([0.5, 0.99].map(|part| small.quantile_us(part)));
    }
    Ok(Outcome { cpu_us, more })
}

/// When the publication of that number to one of the small channels is due, after the start: at
/// some time in that second. Multiples of the golden ratio are spread evenly, over a second as
/// over the interval of the wide channel, however many there are.
fn small_due(small_count: u64, channel: usize, number: u64) -> Duration {
    let multiple = number * small_count + channel as u64;
    let offset = (multiple as f64 * GOLDEN_RATIO).fract();
    Duration::from_secs(number) + Duration::from_secs_f64(offset)
}

struct Clients<'a> {
    frames: &'a Frames,
    /// The publisher is the last.
    wide: Deliveries,
    /// Pairs; the first of each publishes.
    small: Deliveries,
    interval: Duration,
    /// Small channels.
    small_count: u64,
}

impl<'a> Clients<'a> {
    fn new(
        arguments: &Arguments,
        frames: &'a Frames,
        wide: Vec<TcpStream>,
        small: Vec<TcpStream>,
    ) -> io::Result<Self> {
        Ok(Self {
            frames,
            wide: Deliveries::new(wide, WIDE_BATCH, frames.delivery_bytes)?,
            small: Deliveries::new(small, arguments.small.max(1), frames.delivery_bytes)?,
            interval: Duration::from_secs(1) / arguments.rate,
            small_count: arguments.small as u64,
        })
    }

    /// All publications of the small channels, the latest first.
    fn small_schedule(&self, duration: Duration) -> Vec<(Duration, usize)> {
        let seconds = 0..=duration.as_secs();
        let channels = 0..self.small_count as usize;
        let mut schedule: Vec<_> = seconds
            .flat_map(|number| channels.clone().map(move |channel| (number, channel)))
            .map(|(number, channel)| (small_due(self.small_count, channel, number), channel))
            .filter(|(due, _)| *due < duration)
            .collect();
        schedule.sort_unstable_by(|one, other| other.cmp(one));
        schedule
    }

    /// Publishes at the fixed rates, and waits for the last deliveries. Returns the latencies of
    /// the wide channel, by how much publications left late, and those of the small channels.
    fn run(&mut self, duration: Duration) -> io::Result<[Latencies; 3]> {
        let mut latencies = [Latencies::new()?, Latencies::new()?, Latencies::new()?];
        let [wide, late, small] = &mut latencies;
        self.wide.begin();
        self.small.begin();
        let start = Instant::now();
        let (interval, small_count) = (self.interval, self.small_count);
        let mut small_schedule = self.small_schedule(duration);
        let (mut wide_sent, mut small_sent) = (0_u32, 0);
        loop {
            let elapsed = start.elapsed();
            let wide_due = (interval * wide_sent < duration).then(|| interval * wide_sent);
            let small_next = small_schedule.last().copied();
            match (wide_due, small_next) {
                (Some(due), _) if due <= elapsed => {
                    self.wide.send(self.wide.count() - 1, &self.frames.wide)?;
                    late.add(start.elapsed() - due);
                    wide_sent += 1;
                    continue;
                }
                (_, Some((due, channel))) if due <= elapsed => {
                    self.small.send(channel * 2, &self.frames.small[channel])?;
                    late.add(start.elapsed() - due);
                    small_schedule.pop();
                    small_sent += 1;
                    continue;
                }
                (None, None) if self.has_all(wide_sent, small_sent) => return Ok(latencies),
                _ if elapsed > duration + DELIVERY_TIMEOUT => {
                    return Err(io::Error::other("a delivery is missing"));
                }
                _ => {}
            }
            let before = (self.wide.received, self.small.received);
            self.small.receive(|at, number| {
                let due = small_due(small_count, at / 2, number);
                small.add(start.elapsed().saturating_sub(due));
            })?;
            self.wide.receive(|_, number| {
                wide.add(start.elapsed().saturating_sub(interval * number as u32));
            })?;
            if before == (self.wide.received, self.small.received) {
                let next = [wide_due, small_next.map(|(due, _)| due)]
                    .into_iter()
                    .flatten();
                let next = next.min().unwrap_or(Duration::from_millis(100) + elapsed);
                self.sleep(next.saturating_sub(start.elapsed()))?;
            }
        }
    }

    fn has_all(&self, wide_sent: u32, small_sent: u64) -> bool {
        let subscribers = self.wide.count() as u64 - 1;
        self.wide.received == u64::from(wide_sent) * subscribers
            && self.small.received == small_sent
    }

    /// Until there is something to read.
    fn sleep(&self, longest: Duration) -> io::Result<()> {
        let sources = [self.wide.readers.as_fd(), self.small.readers.as_fd()];
        let mut sources = sources.map(|it| PollFd::from_borrowed_fd(it, PollFlags::IN));
        let timeout = Timespec::try_from(longest).map_err(io::Error::other)?;
        match poll(&mut sources, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Clients that know how many messages they have.
struct Deliveries {
    readers: Readers,
    delivery_bytes: u64,
    /// Per client, since [`Deliveries::begin`].
    received_bytes: Vec<u64>,
    /// Messages of all of them.
    received: u64,
}

impl Deliveries {
    fn new(sockets: Vec<TcpStream>, batch: usize, delivery_bytes: usize) -> io::Result<Self> {
        Ok(Self {
            delivery_bytes: delivery_bytes as u64,
            received_bytes: vec![0; sockets.len()],
            received: 0,
            readers: Readers::with_batch(sockets, batch)?,
        })
    }

    fn count(&self) -> usize {
        self.received_bytes.len()
    }

    fn begin(&mut self) {
        self.received_bytes.fill(0);
        self.received = 0;
    }

    fn send(&self, at: usize, frame: &[u8]) -> io::Result<()> {
        self.readers.send(at, frame)
    }

    /// Takes what there is, and tells of each message who got it and its number.
    fn receive(&mut self, mut delivered: impl FnMut(usize, u64)) -> io::Result<()> {
        let (received_bytes, length) = (&mut self.received_bytes, self.delivery_bytes);
        let received = &mut self.received;
        self.readers.wait(Duration::ZERO, |at, count| {
            let bytes = &mut received_bytes[at];
            let have = *bytes / length;
            *bytes += count as u64;
            for number in have..*bytes / length {
                *received += 1;
                delivered(at, number);
            }
        })
    }
}
