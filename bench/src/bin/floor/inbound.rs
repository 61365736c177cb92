//! Clients that publish to channels of their own, which nobody else is in, and publish again as
//! soon as they have the ack: the way in, and the answer.

use std::io;
use std::time::{Duration, Instant};

use ringmesh_bench::client::Readers;
use ringmesh_bench::fixture::{PUBLISHABLE_KEY, text_frame};
use ringmesh_bench::machine::{Cores, CpuMeter};

use crate::compare::{Comparison, Contender, Load, Outcome, Runs, WARM_UP, at_least_one};
use crate::greeting;
use crate::server::{FloorServer, Sending, Work};

/// The JSON of an ack, in an unmasked frame.
const ACK_BYTES: usize = 2 + r#"{"type":"ack","requestId":"1"}"#.len();
/// An answer that takes longer is lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Connections, each with a message in flight.
    #[arg(long, default_value_t = 1_000, value_parser = at_least_one::<usize>())]
    pub connections: usize,
    /// Bytes of `data`.
    #[arg(long, default_value_t = 128)]
    pub payload: usize,
    #[command(flatten)]
    pub runs: Runs,
}

pub(crate) fn run(arguments: &Arguments) -> io::Result<Comparison> {
    let data = format!("\"{}\"", "x".repeat(arguments.payload.saturating_sub(2)));
    // The names have one length, so that all frames have one.
    let publish = |number: usize| {
        text_frame(&format!(
            r#"{{"type":"publish","channel":"room-{number:06}","data":{data},"requestId":"1"}}"#
        ))
    };
    let frames: Vec<_> = (0..arguments.connections).map(publish).collect();
    let query = format!("key={PUBLISHABLE_KEY}");
    let floor = FloorServer {
        greeting: greeting::steps(&query, None)?,
        ..FloorServer::new(Work::Answer, publish(0).len(), ACK_BYTES)
    };
    let load = Load {
        connections: arguments.connections,
        title: format!(
            "{} connections publish to empty channels, {} bytes of data",
            arguments.connections, arguments.payload
        ),
        unit: "message",
        columns: &["kmsg/s"],
        contenders: &[
            Contender::floor(Sending::Each, &floor),
            Contender::floor(Sending::Uring, &floor),
            Contender::RINGMESH,
        ],
    };
    load.compare(&arguments.runs, |contender, server| {
        let connect = |_: &Vec<u8>| greeting::connect(contender, server, &query, None);
        let sockets = frames.iter().map(connect).collect::<io::Result<_>>()?;
        let mut clients = Clients {
            readers: Readers::new(sockets)?,
            frames: &frames,
            received_bytes: vec![0; frames.len()],
            answered: 0,
        };
        clients.begin()?;
        clients.run(WARM_UP)?;
        let (answered, start) = (clients.answered, Instant::now());
        let meter = CpuMeter::start(server.pid(), Cores::get().server);
        clients.run(arguments.runs.duration())?;
        let messages = clients.answered - answered;
        Ok(Outcome {
            cpu_us: meter.per_unit_us(messages),
            more: vec![messages as f64 / start.elapsed().as_secs_f64() / 1_000.0],
        })
    })
}

struct Clients<'a> {
    readers: Readers,
    frames: &'a [Vec<u8>],
    /// By client, of the answer that is awaited.
    received_bytes: Vec<usize>,
    answered: u64,
}

impl Clients<'_> {
    fn begin(&self) -> io::Result<()> {
        let mut numbered = self.frames.iter().enumerate();
        numbered.try_for_each(|(at, frame)| self.readers.send(at, frame))
    }

    /// Publishes again for each answer.
    fn run(&mut self, duration: Duration) -> io::Result<()> {
        let end = Instant::now() + duration;
        let mut progress = Instant::now();
        let mut due = Vec::new();
        while Instant::now() < end {
            let received_bytes = &mut self.received_bytes;
            let patience = Duration::from_millis(100);
            self.readers.wait(patience, |at, count| {
                received_bytes[at] += count;
                if received_bytes[at] >= ACK_BYTES {
                    received_bytes[at] -= ACK_BYTES;
                    due.push(at);
                }
            })?;
            if !due.is_empty() {
                progress = Instant::now();
            } else if progress.elapsed() > ANSWER_TIMEOUT {
                return Err(io::Error::other("an answer is missing"));
            }
            self.answered += due.len() as u64;
            for at in due.drain(..) {
                self.readers.send(at, &self.frames[at])?;
            }
        }
        Ok(())
    }
}
