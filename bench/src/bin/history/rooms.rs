//! A wide channel with history beside one without, at the sockets of one server.

use std::io;
use std::time::{Duration, Instant};

use ringmesh_bench::client::{Readers, open_websocket, subscribe};
use ringmesh_bench::fixture::{PUBLISHABLE_KEY, message_frame_bytes, text_frame};
use ringmesh_bench::machine::{Cores, CpuMeter};
use ringmesh_bench::real::Server;

use crate::{in_turn, ratio, server, shown};

/// A delivery that takes longer is lost.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Members of each channel.
    #[arg(long, default_value_t = 1_000)]
    members: usize,
    /// Rounds; both channels have one after the other.
    #[arg(long, default_value_t = 61)]
    rounds: usize,
    /// Publications of a round, a multiple of 16.
    #[arg(long, default_value_t = 32)]
    publications: usize,
    /// Bytes of `data`.
    #[arg(long, default_value_t = 128)]
    payload: usize,
}

pub(crate) fn run(arguments: &Arguments) -> io::Result<()> {
    let server = server::start(None)?;
    let mut without = Room::open(&server, "bare/room", false, arguments)?;
    let mut with = Room::open(&server, "kept/room", true, arguments)?;
    let rounds = arguments.rounds;
    for in_flight in [1, 16] {
        for room in [&mut without, &mut with] {
            room.round(&server, arguments.publications, in_flight)?;
        }
        let [mut figures_without, mut figures_with] = in_turn(rounds, |at| {
            let room = if at == 0 { &mut without } else { &mut with };
            room.round(&server, arguments.publications, in_flight)
        })?;
        println!(
            "fan-out to {}, {in_flight} in flight, {} bytes of data; medians of {rounds}, per \
             delivery",
            arguments.members, arguments.payload
        );
        let with_by_without = ratio(&figures_with, &figures_without);
        let deliveries = arguments.publications * arguments.members;
        println!(
            "  without history {}",
            shown(&mut figures_without, deliveries)
        );
        println!("  with history    {}", shown(&mut figures_with, deliveries));
        println!("  with / without  {with_by_without:>9.3}");
    }
    Ok(())
}

/// Members of a channel and somebody who publishes there.
struct Room {
    /// The publisher is the last one.
    readers: Readers,
    publish: Vec<u8>,
    /// Bytes of a delivery, without its number.
    delivery_bytes: usize,
    /// The number of the newest publication, where they have numbers.
    last: Option<u64>,
    /// Bytes that each has.
    received: Vec<usize>,
}

impl Room {
    fn open(
        server: &Server,
        channel: &str,
        is_kept: bool,
        arguments: &Arguments,
    ) -> io::Result<Self> {
        let query = format!("key={PUBLISHABLE_KEY}");
        let mut sockets = Vec::new();
        for _ in 0..arguments.members {
            let mut socket = open_websocket(server.address, &query)?;
            subscribe(&mut socket, channel)?;
            sockets.push(socket);
        }
        sockets.push(open_websocket(server.address, &query)?);
        let data = format!("\"{}\"", "x".repeat(arguments.payload.saturating_sub(2)));
        let publish = format!(r#"{{"type":"publish","channel":"{channel}","data":{data}}}"#);
        Ok(Self {
            readers: Readers::new(sockets)?,
            publish: text_frame(&publish),
            delivery_bytes: message_frame_bytes(channel, &data),
            last: is_kept.then_some(0),
            received: vec![0; arguments.members],
        })
    }

    /// Publishes so many, some at a time, each time when everybody has those before.
    fn round(
        &mut self,
        server: &Server,
        publications: usize,
        in_flight: usize,
    ) -> io::Result<Duration> {
        let publisher = self.received.len();
        let meter = CpuMeter::start(server.pid(), Cores::get().server);
        for _ in 0..publications / in_flight {
            let bytes = (0..in_flight).map(|_| self.next_bytes()).sum();
            self.readers
                .send(publisher, &self.publish.repeat(in_flight))?;
            self.wait_for(bytes)?;
        }
        Ok(Duration::from_secs_f64(meter.per_unit_us(1) / 1e6))
    }

    /// Bytes of the next delivery.
    fn next_bytes(&mut self) -> usize {
        let number = self.last.as_mut().map_or(0, |last| {
            *last += 1;
            format!(r#","seq":{last}"#).len()
        });
        self.delivery_bytes + number
    }

    /// Waits until everybody has so many bytes.
    fn wait_for(&mut self, bytes: usize) -> io::Result<()> {
        let (mut left, mut progress) = (bytes * self.received.len(), Instant::now());
        self.received.fill(0);
        while left > 0 {
            let before = left;
            let received = &mut self.received;
            self.readers.wait(Duration::from_millis(100), |at, count| {
                received[at] += count;
                left = left.saturating_sub(count);
            })?;
            if left < before {
                progress = Instant::now();
            } else if progress.elapsed() > DELIVERY_TIMEOUT {
                return Err(io::Error::other("a delivery is missing"));
            }
        }
        match self.received.iter().all(|received| *received == bytes) {
            true => Ok(()),
            false => Err(io::Error::other("somebody has got something else")),
        }
    }
}
