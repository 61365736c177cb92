//! A shard at 100,000 publications/s whose channels have no history, keep it in memory, or on disk:
//! what a publication costs each thread, and the latency of some of them.
//!
//! A turn comes every half millisecond: a publisher writes 50 publications to as many of a hundred
//! channels, each with a member, and behind them one whose latency is taken. That counts from when
//! the turn was due. The three take turns at the same server.

use std::fs;
use std::io::{self, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use ringmesh_bench::client::{Readers, open_websocket, subscribe};
use ringmesh_bench::fixture::{PUBLISHABLE_KEY, text_frame};
use ringmesh_bench::machine::{median, threads_cpu};
use ringmesh_bench::real::Server;

use crate::server;

/// Of channels without history, with it in memory, and with it on disk.
const KINDS: [(&str, &str); 3] = [
    ("bare", "without history"),
    ("kept", "in memory"),
    ("disk", "on disk"),
];
const TURN: Duration = Duration::from_micros(500);
const CHANNELS: usize = 100;
/// Members of the channels; each has several of them.
const LISTENERS: usize = 10;
/// What takes longer is lost.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What takes longer counts as this long, in microseconds.
const LONGEST_US: u64 = 60_000_000;
/// What is not measured at the start of a round.
const WARM_UP: Duration = Duration::from_millis(200);
/// The member of the channel whose latency is taken is the last one.
const PROBE: usize = LISTENERS;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A directory that is made, filled and removed: of the disk that is meant.
    directory: PathBuf,
    /// Publications of a turn, of which there are 2,000 a second.
    #[arg(long, default_value_t = 50)]
    publications: usize,
    /// Rounds; each kind of channels has one after the other.
    #[arg(long, default_value_t = 11)]
    rounds: usize,
    /// How long each is.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Bytes of `data`.
    #[arg(long, default_value_t = 128)]
    payload: usize,
}

/// Figures of each round.
#[derive(Default)]
struct Figures {
    shard_us: Vec<f64>,
    writer_us: Vec<f64>,
    /// In microseconds.
    p50: Vec<f64>,
    p99: Vec<f64>,
}

pub(crate) fn run(arguments: &Arguments) -> io::Result<()> {
    fs::create_dir_all(&arguments.directory)?;
    let measured = measure(arguments);
    // It was made for this.
    let removed = fs::remove_dir_all(&arguments.directory);
    let figures = measured?;
    let per_second = arguments.publications as f64 / TURN.as_secs_f64();
    println!(
        "{per_second:.0} publications/s of {} bytes; medians of {} rounds of {} s",
        arguments.payload, arguments.rounds, arguments.seconds
    );
    println!("channels           shard us  writer us   p50 us   p99 us (least to most)");
    for ((_, name), figures) in KINDS.iter().zip(&figures) {
        let [shard, writer, p50, p99] = [
            &figures.shard_us,
            &figures.writer_us,
            &figures.p50,
            &figures.p99,
        ]
        .map(|it| median(&mut it.clone()));
        let least = figures.p99.iter().copied().fold(f64::INFINITY, f64::min);
        let most = figures.p99.iter().copied().fold(0.0, f64::max);
        println!(
            "{name:<18} {shard:>8.3} {writer:>10.3} {p50:>8.0} {p99:>8.0} ({least:.0} to {most:.0})"
        );
    }
    let [bare, kept, disk] = &figures;
    for (name, with, without) in [
        ("on disk / in memory", disk, kept),
        ("on disk / without history", disk, bare),
        ("in memory / without history", kept, bare),
    ] {
        println!(
            "{name:<28} p99 {:.3} times, the shard's CPU {:.3} times",
            crate::ratio(&with.p99, &without.p99),
            crate::ratio(&with.shard_us, &without.shard_us)
        );
    }
    removed
}

fn measure(arguments: &Arguments) -> io::Result<[Figures; 3]> {
    let directory = arguments.directory.join("history");
    let server = server::start(Some(&directory))?;
    let mut figures: [Figures; 3] = Default::default();
    let mut rooms = Vec::new();
    for (prefix, _) in KINDS {
        rooms.push(Rooms::open(&server, prefix, arguments)?);
    }
    for _ in 0..arguments.rounds {
        for (rooms, figures) in rooms.iter_mut().zip(&mut figures) {
            rooms.round(&server, arguments, figures)?;
        }
    }
    Ok(figures)
}

/// Channels of one kind.
struct Rooms {
    readers: Readers,
    publisher: TcpStream,
    prefix: &'static str,
    /// A publication to each channel.
    frames: Vec<Vec<u8>>,
    /// Of each connection.
    received: Vec<Received>,
}

/// What a connection has got.
#[derive(Default)]
struct Received {
    messages: u64,
    /// The beginning of a frame that is not whole.
    rest: Vec<u8>,
}

/// What both ends of a round know.
struct Round {
    began: Instant,
    turns: u32,
    per_turn: usize,
    /// Publications that were written, once all are.
    written: AtomicU64,
}

impl Rooms {
    fn open(server: &Server, prefix: &'static str, arguments: &Arguments) -> io::Result<Self> {
        let query = format!("key={PUBLISHABLE_KEY}");
        let mut sockets = Vec::new();
        for listener in 0..LISTENERS {
            let mut socket = open_websocket(server.address, &query)?;
            for channel in (listener..CHANNELS).step_by(LISTENERS) {
                subscribe(&mut socket, &format!("{prefix}/{channel:04}"))?;
            }
            sockets.push(socket);
        }
        let mut probe = open_websocket(server.address, &query)?;
        subscribe(&mut probe, &format!("{prefix}/probe"))?;
        sockets.push(probe);
        let data = "x".repeat(arguments.payload.saturating_sub(2));
        let publish = |channel| {
            let json = format!(
                r#"{{"type":"publish","channel":"{prefix}/{channel:04}","data":"{data}"}}"#
            );
            text_frame(&json)
        };
        Ok(Self {
            readers: Readers::new(sockets)?,
            publisher: open_websocket(server.address, &query)?,
            prefix,
            frames: (0..CHANNELS).map(publish).collect(),
            received: (0..=PROBE).map(|_| Received::default()).collect(),
        })
    }

    fn round(
        &mut self,
        server: &Server,
        arguments: &Arguments,
        figures: &mut Figures,
    ) -> io::Result<()> {
        let duration = WARM_UP + Duration::from_secs_f64(arguments.seconds);
        let round = Round {
            began: Instant::now(),
            turns: (duration.as_secs_f64() / TURN.as_secs_f64()) as u32,
            per_turn: arguments.publications,
            written: AtomicU64::new(u64::MAX),
        };
        let Self {
            readers,
            publisher,
            prefix,
            frames,
            received,
        } = self;
        let cpu = || ["shard-0", "history"].map(|name| threads_cpu(server.pid(), name));
        let before = cpu();
        let (published, latencies) = thread::scope(|scope| {
            let writing = scope.spawn(|| round.publish(publisher, prefix, frames));
            let read = round.read(readers, received);
            let written = writing.join();
            let written = written.unwrap_or_else(|_| Err(io::Error::other("the publisher fell")));
            Ok::<_, io::Error>((written?, read?))
        })?;
        let after = cpu();
        let us = |at: usize| (after[at] - before[at]).as_secs_f64() * 1e6 / published as f64;
        figures.shard_us.push(us(0));
        figures.writer_us.push(us(1));
        let quantile = |part| latencies.value_at_quantile(part) as f64;
        figures.p50.push(quantile(0.5));
        figures.p99.push(quantile(0.99));
        Ok(())
    }
}

impl Round {
    /// Publishes when it is due, or as soon as the server takes it. Returns how many there were.
    fn publish(
        &self,
        publisher: &mut TcpStream,
        prefix: &str,
        frames: &[Vec<u8>],
    ) -> io::Result<u64> {
        let (mut batch, mut channels) = (Vec::new(), (0..frames.len()).cycle());
        for turn in 0..self.turns {
            let due = TURN * turn;
            thread::sleep(due.saturating_sub(self.began.elapsed()));
            batch.clear();
            for channel in channels.by_ref().take(self.per_turn) {
                batch.extend_from_slice(&frames[channel]);
            }
            let us = due.as_micros();
            let channel = format!("{prefix}/probe");
            let json =
                format!(r#"{{"type":"publish","channel":"{channel}","data":{{"us":{us}}}}}"#);
            batch.extend(text_frame(&json));
            publisher.write_all(&batch)?;
        }
        let published = u64::from(self.turns) * (self.per_turn as u64 + 1);
        self.written.store(published, Ordering::Release);
        Ok(published)
    }

    /// Reads until everything has come. Returns microseconds.
    fn read(&self, readers: &mut Readers, received: &mut [Received]) -> io::Result<Histogram<u64>> {
        let mut latencies = Histogram::new_with_max(LONGEST_US, 3).map_err(io::Error::other)?;
        received.iter_mut().for_each(|it| it.messages = 0);
        let (mut count, mut progress) = (0, Instant::now());
        while count != self.written.load(Ordering::Acquire) {
            readers.wait_for_bytes(Duration::from_millis(10), |at, bytes| {
                let now = self.began.elapsed();
                received[at].take(bytes, |frame| {
                    let due = if at == PROBE { due_of(frame) } else { None };
                    if let Some(due) = due.filter(|due| *due >= WARM_UP) {
                        latencies.saturating_record(now.saturating_sub(due).as_micros() as u64);
                    }
                });
            })?;
            let before = count;
            count = received.iter().map(|it| it.messages).sum();
            if count != before {
                progress = Instant::now();
            } else if progress.elapsed() > TIMEOUT {
                return Err(io::Error::other("a delivery is missing"));
            }
        }
        Ok(latencies)
    }
}

impl Received {
    /// Takes bytes in, and tells of each frame that is whole now.
    fn take(&mut self, bytes: &[u8], mut tell: impl FnMut(&[u8])) {
        let mut left = bytes;
        while !self.rest.is_empty() && !left.is_empty() {
            // Bytes of a frame that came in parts, up to its end.
            let whole = frame_bytes(&self.rest).unwrap_or(self.rest.len() + 1);
            let count = (whole - self.rest.len()).min(left.len());
            self.rest.extend_from_slice(&left[..count]);
            left = &left[count..];
            if frame_bytes(&self.rest) == Some(self.rest.len()) {
                self.messages += 1;
                tell(&self.rest);
                self.rest.clear();
            }
        }
        while let Some(frame) = frame_bytes(left).and_then(|count| left.get(..count)) {
            self.messages += 1;
            tell(frame);
            left = &left[frame.len()..];
        }
        self.rest.extend_from_slice(left);
    }
}

/// How long the frame is that begins here, of those that the server sends to the load.
fn frame_bytes(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [_, 126, high, low, ..] => Some(4 + usize::from(u16::from_be_bytes([*high, *low]))),
        [_, count, ..] if *count < 126 => Some(2 + usize::from(*count)),
        _ => None,
    }
}

/// When the publication was due, after the start of the round.
fn due_of(frame: &[u8]) -> Option<Duration> {
    const MARK: &[u8] = br#""us":"#;
    let begins = frame.windows(MARK.len()).position(|it| it == MARK)? + MARK.len();
    let digits = frame[begins..].iter().position(|it| !it.is_ascii_digit())?;
    let text = std::str::from_utf8(&frame[begins..begins + digits]).ok()?;
    text.parse().ok().map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_however_their_bytes_come() {
        let mut bytes = Vec::new();
        for count in [0_usize, 3, 125] {
            bytes.extend([0x81, count as u8]);
            bytes.extend(vec![b'x'; count]);
        }
        bytes.extend([0x81, 126, 1, 4]);
        bytes.extend(vec![b'x'; 260]);
        for piece in 1..bytes.len() {
            let (mut received, mut lengths) = (Received::default(), Vec::new());
            for bytes in bytes.chunks(piece) {
                received.take(bytes, |frame| lengths.push(frame.len()));
            }
            assert_eq!(lengths, [2, 5, 127, 264], "in pieces of {piece}");
            assert_eq!((received.messages, received.rest.len()), (4, 0));
        }
    }

    #[test]
    fn a_probe_says_when_it_was_due() {
        let frame = br#"..{"type":"message","data":{"us":1500},"seq":7}"#;
        assert_eq!(due_of(frame), Some(Duration::from_micros(1_500)));
        assert_eq!(due_of(b"..{}"), None);
    }
}
