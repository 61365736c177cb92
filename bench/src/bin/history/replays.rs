//! Clients that return and get what they have missed, beside the live delivery of the same, at the
//! sockets of one server.

use std::io::{self, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use ringmesh_bench::client::{Readers, open_websocket, read_until, subscribe};
use ringmesh_bench::fixture::{PUBLISHABLE_KEY, message_frame_bytes, text_frame};
use ringmesh_bench::machine::{Cores, CpuMeter};
use ringmesh_bench::real::Server;

use crate::{in_turn, ratio, server, shown};

/// What takes longer is lost.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Publications to a channel that are live at a time, where they are neither one nor all.
const SOME: usize = 20;
/// An epoch is so long.
const EPOCH_BYTES: usize = 8;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Clients.
    #[arg(long, default_value_t = 1_000)]
    clients: usize,
    /// Channels that they are spread over.
    #[arg(long, default_value_t = 10)]
    channels: usize,
    /// Publications to each channel, a multiple of 20.
    #[arg(long, default_value_t = 100)]
    messages: usize,
    /// Rounds; each way has one after the other.
    #[arg(long, default_value_t = 21)]
    rounds: usize,
    /// Bytes of `data`.
    #[arg(long, default_value_t = 128)]
    payload: usize,
}

pub(crate) fn run(arguments: &Arguments) -> io::Result<()> {
    let server = server::start(None)?;
    let mut clients = Clients::open(&server, arguments)?;
    let mut measure = |way| match way {
        0 => clients.live(&server, 1),
        1 => clients.live(&server, SOME),
        2 => clients.live(&server, arguments.messages),
        3 => clients.come_back(&server, false),
        _ => clients.come_back(&server, true),
    };
    let rounds = arguments.rounds;
    // The first of each fills caches and pools.
    let _: [Vec<f64>; 5] = in_turn(1, &mut measure)?;
    let figures: [Vec<f64>; 5] = in_turn(rounds, measure)?;
    println!(
        "{} messages to {} clients in {} channels, {} bytes of data; medians of {rounds}, per \
         client",
        arguments.messages, arguments.clients, arguments.channels, arguments.payload
    );
    let [one_by_one, some, together, without, with] = &figures;
    let replay: Vec<f64> = with
        .iter()
        .zip(without)
        .map(|(it, less)| it - less)
        .collect();
    for (name, mut figures) in [
        ("live, one by one", one_by_one.clone()),
        ("live, 20 at a time", some.clone()),
        ("live, all at once", together.clone()),
        ("return without replay", without.clone()),
        ("return with replay", with.clone()),
        ("the replay alone", replay.clone()),
    ] {
        println!("  {name:<22} {}", shown(&mut figures, arguments.clients));
    }
    println!("times live             one by one  20 at a time   all at once");
    for (name, figures) in [("return with replay", with), ("the replay alone", &replay)] {
        let ratios = [one_by_one, some, together].map(|live| ratio(figures, live));
        println!(
            "  {name:<20} {:>10.3} {:>13.3} {:>13.3}",
            ratios[0], ratios[1], ratios[2]
        );
    }
    Ok(())
}

struct Clients<'a> {
    arguments: &'a Arguments,
    readers: Readers,
    /// Writes until the server takes it.
    publisher: TcpStream,
    /// A publication to each channel.
    publish: Vec<u8>,
    /// Bytes of a delivery, without its number.
    delivery_bytes: usize,
    /// The number of the newest publication, in all channels.
    last: usize,
    /// Bytes that each has.
    received: Vec<usize>,
}

impl<'a> Clients<'a> {
    fn open(server: &Server, arguments: &'a Arguments) -> io::Result<Self> {
        let query = format!("key={PUBLISHABLE_KEY}");
        let mut sockets = Vec::new();
        for client in 0..arguments.clients {
            let mut socket = open_websocket(server.address, &query)?;
            subscribe(&mut socket, &channel_name(client % arguments.channels))?;
            sockets.push(socket);
        }
        let data = format!("\"{}\"", "x".repeat(arguments.payload.saturating_sub(2)));
        let publish = |channel| {
            let channel = channel_name(channel);
            let json = format!(r#"{{"type":"publish","channel":"{channel}","data":{data}}}"#);
            text_frame(&json)
        };
        let publish = (0..arguments.channels).flat_map(publish);
        Ok(Self {
            arguments,
            readers: Readers::new(sockets)?,
            publisher: open_websocket(server.address, &query)?,
            publish: publish.collect(),
            delivery_bytes: message_frame_bytes(&channel_name(0), &data),
            last: 0,
            received: vec![0; arguments.clients],
        })
    }

    /// Bytes of a delivery of that number.
    fn bytes_of(&self, number: usize) -> usize {
        self.delivery_bytes + r#","seq":"#.len() + digits(number)
    }

    /// Publishes to all channels, so many at a time.
    fn live(&mut self, server: &Server, at_a_time: usize) -> io::Result<Duration> {
        let meter = CpuMeter::start(server.pid(), Cores::get().server);
        for _ in 0..self.arguments.messages / at_a_time {
            let numbers = self.last + 1..=self.last + at_a_time;
            let bytes = numbers.map(|number| self.bytes_of(number)).sum();
            self.publish(at_a_time)?;
            self.wait_for(bytes)?;
        }
        Ok(took(&meter))
    }

    fn publish(&mut self, count: usize) -> io::Result<()> {
        self.last += count;
        self.publisher.write_all(&self.publish.repeat(count))
    }

    /// All leave, what they miss is published, and they come back: only that is measured.
    fn come_back(&mut self, server: &Server, with_replay: bool) -> io::Result<Duration> {
        let ack_bytes = 2 + r#"{"type":"ack","requestId":"1"}"#.len();
        self.say("unsubscribe", "", ack_bytes)?;
        let messages = self.arguments.messages;
        self.publish(messages)?;
        // Whatever came before has been published when it is answered.
        let ping = text_frame(r#"{"type":"ping","requestId":"last"}"#);
        self.publisher.write_all(&ping)?;
        read_until(&mut self.publisher, br#""last""#)?;
        let position = format!(
            r#","epoch":"{}","seq":{}"#,
            "e".repeat(EPOCH_BYTES),
            self.last
        );
        let ack_bytes = ack_bytes + position.len();
        let meter = CpuMeter::start(server.pid(), Cores::get().server);
        if with_replay {
            let told = format!(r#","recovered":true,"count":{messages}"#);
            let ack_bytes = ack_bytes + told.len();
            // Its length is told by two bytes more then.
            let ack_bytes = ack_bytes + if ack_bytes > 125 + 2 { 2 } else { 0 };
            let missed = self.last + 1 - messages..=self.last;
            let replay_bytes: usize = missed.map(|number| self.bytes_of(number)).sum();
            let since = format!(r#","since":{{"last":{messages}}}"#);
            self.say("subscribe", &since, ack_bytes + replay_bytes)?;
        } else {
            self.say("subscribe", r#","position":true"#, ack_bytes)?;
        }
        Ok(took(&meter))
    }

    /// All say something of their channel, and wait until they have so many bytes of answers.
    fn say(&mut self, kind: &str, more: &str, bytes: usize) -> io::Result<()> {
        for client in 0..self.arguments.clients {
            let channel = channel_name(client % self.arguments.channels);
            let json =
                format!(r#"{{"type":"{kind}","channel":"{channel}","requestId":"1"{more}}}"#);
            self.readers.send(client, &text_frame(&json))?;
        }
        self.wait_for(bytes)
    }

    /// Waits until everybody has so many bytes, and nobody has more.
    fn wait_for(&mut self, bytes: usize) -> io::Result<()> {
        let (mut missing, mut progress) = (self.received.len(), Instant::now());
        self.received.fill(0);
        while missing > 0 {
            let mut has_come = false;
            let received = &mut self.received;
            self.readers.wait(Duration::from_millis(100), |at, count| {
                let before = received[at];
                received[at] += count;
                has_come = true;
                missing -= usize::from(before < bytes && received[at] >= bytes);
            })?;
            if has_come {
                progress = Instant::now();
            } else if progress.elapsed() > TIMEOUT {
                let text = format!("{missing} clients lack something of {bytes} bytes");
                return Err(io::Error::other(text));
            }
        }
        match self.received.iter().all(|received| *received == bytes) {
            true => Ok(()),
            false => Err(io::Error::other("somebody has got something else")),
        }
    }
}

fn took(meter: &CpuMeter) -> Duration {
    Duration::from_secs_f64(meter.per_unit_us(1) / 1e6)
}

/// Names of one length.
fn channel_name(number: usize) -> String {
    format!("kept/{number:04}")
}

fn digits(number: usize) -> usize {
    number.to_string().len()
}
