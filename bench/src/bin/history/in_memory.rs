//! One shard in memory, without sockets: bytes in, effects out.

use std::convert::Infallible;
use std::time::Duration;

use ringmesh::ids::ConnectionId;
use ringmesh_bench::fixture::{Fixture, publish_json, text_frame};
use ringmesh_bench::machine::own_thread_cpu;

use crate::{in_turn, ratio, shown};

/// Bytes of a published message.
const MESSAGE_BYTES: usize = 150;
/// Channels of those who come back.
const CHANNELS: usize = 10;
/// Publications that each of them has missed.
const MISSED: usize = 100;
/// By then everybody has joined and has been told what was missed.
const JOINED_MS: usize = 50;
/// Replays are measured so many times more seldom than fan-outs: they take as much longer.
const REPLAY_SHARE: usize = 20;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Members of a channel, and clients that come back.
    #[arg(long, default_value_t = 1_000)]
    members: usize,
    /// Rounds, of which the median is shown; what is compared takes turns.
    #[arg(long, default_value_t = 401)]
    rounds: usize,
}

pub(crate) fn run(arguments: &Arguments) {
    let Arguments { members, rounds } = *arguments;
    for in_flight in [1, 16] {
        let names = ["bare/room", "kept/room"];
        let mut rooms = names.map(|name| FanOut::new(name, members, in_flight));
        let Ok([mut without, mut with]) =
            in_turn::<2, Infallible>(rounds, |at| Ok(rooms[at].round()));
        println!("fan-out to {members}, {in_flight} in flight; medians of {rounds}, per delivery");
        let (deliveries, with_by_without) = (members * in_flight, ratio(&with, &without));
        println!("  without history {}", shown(&mut without, deliveries));
        println!("  with history    {}", shown(&mut with, deliveries));
        println!("  with / without  {with_by_without:>9.3}");
    }
    println!("1,000 messages of 128 bytes take {} bytes", kept_bytes());
    let rounds = rounds.div_ceil(REPLAY_SHARE);
    let ways = [one_by_one, together, joined, replayed];
    let Ok(figures) = in_turn::<4, Infallible>(rounds, |at| Ok(ways[at](members)));
    println!(
        "{MISSED} messages to {members} clients in {CHANNELS} channels; medians of {rounds}, per \
         client"
    );
    let names = ["live, one by one", "live, all in a turn", "subscribe alone"];
    let [one_by_one, together, _, replayed] = &figures;
    let (alone, in_turn) = (ratio(replayed, one_by_one), ratio(replayed, together));
    for (name, mut figures) in names
        .into_iter()
        .chain(["with replay"])
        .zip(figures.clone())
    {
        println!("  {name:<20} {}", shown(&mut figures, members));
    }
    println!("  with replay / live, one by one    {alone:>9.3}");
    println!("  with replay / live, all in a turn {in_turn:>9.3}");
}

/// A channel with members, and publications on their way.
struct FanOut {
    fixture: Fixture,
    publisher: ConnectionId,
    frames: Vec<u8>,
}

impl FanOut {
    fn new(channel: &str, members: usize, in_flight: usize) -> Self {
        let mut fixture = Fixture::new();
        for _ in 0..members {
            let member = fixture.connect();
            fixture.subscribe(member, channel);
        }
        let publisher = fixture.connect();
        let frame = text_frame(&publish_json(channel, MESSAGE_BYTES));
        Self {
            fixture,
            publisher,
            frames: frame.repeat(in_flight),
        }
    }

    fn round(&mut self) -> Duration {
        let mut frames = self.frames.clone();
        let began = own_thread_cpu();
        self.fixture.receive(self.publisher, &mut frames);
        self.fixture.end_turn();
        own_thread_cpu() - began
    }
}

fn kept_bytes() -> usize {
    let mut fixture = Fixture::new();
    let publisher = fixture.connect();
    let data = "x".repeat(126);
    let json = format!(r#"{{"type":"publish","channel":"kept/room","data":"{data}"}}"#);
    for _ in 0..2_000 {
        fixture.say(publisher, &json);
    }
    fixture.history_bytes()
}

/// The frames that publish what is missed to all channels.
fn publications() -> Vec<Vec<u8>> {
    let channels = 0..CHANNELS;
    let publish = |channel| text_frame(&publish_json(&channel_name(channel), MESSAGE_BYTES));
    channels.map(publish).collect()
}

fn channel_name(client: usize) -> String {
    format!("kept/{}", client % CHANNELS)
}

/// A shard where these clients are, or have been published to before they come.
struct Clients {
    fixture: Fixture,
    publisher: ConnectionId,
    connections: Vec<ConnectionId>,
}

impl Clients {
    fn new(clients: usize) -> Self {
        let mut fixture = Fixture::new();
        let publisher = fixture.connect();
        let connections = (0..clients).map(|_| fixture.connect()).collect();
        Self {
            fixture,
            publisher,
            connections,
        }
    }

    fn publish(&mut self) {
        let frames = publications();
        for _ in 0..MISSED {
            for frame in &frames {
                self.fixture.receive(self.publisher, &mut frame.clone());
            }
            self.fixture.settle();
        }
    }

    /// All of them at once, as after a deploy.
    fn subscribe(&mut self, since: &str) {
        for (client, connection) in self.connections.iter().enumerate() {
            let channel = channel_name(client);
            let json =
                format!(r#"{{"type":"subscribe","channel":"{channel}","requestId":"1",{since}}}"#);
            self.fixture.receive(*connection, &mut text_frame(&json));
        }
        self.fixture.settle();
        // Who has joined is told at intervals, and portions of replays have turns of their own.
        for _ in 0..JOINED_MS {
            self.fixture.millisecond();
            self.fixture.settle();
        }
    }
}

fn position() -> &'static str {
    r#""position":true"#
}

/// A publication to each channel in a turn.
fn one_by_one(clients: usize) -> Duration {
    let mut clients = Clients::new(clients);
    clients.subscribe(position());
    let before = clients.fixture.written_bytes;
    let began = own_thread_cpu();
    clients.publish();
    let took = own_thread_cpu() - began;
    assert!(clients.fixture.written_bytes - before > clients.connections.len() * MISSED * 150);
    took
}

/// All publications in a turn.
fn together(clients: usize) -> Duration {
    let mut clients = Clients::new(clients);
    clients.subscribe(position());
    let before = clients.fixture.written_bytes;
    let mut frames = publications().concat().repeat(MISSED);
    let began = own_thread_cpu();
    clients.fixture.receive(clients.publisher, &mut frames);
    clients.fixture.settle();
    let took = own_thread_cpu() - began;
    assert!(clients.fixture.written_bytes - before > clients.connections.len() * MISSED * 150);
    took
}

/// They come, and want nothing that was before.
fn joined(clients: usize) -> Duration {
    returned(clients, position())
}

/// They come when everything has been published, and get it.
fn replayed(clients: usize) -> Duration {
    returned(clients, &format!(r#""since":{{"last":{MISSED}}}"#))
}

fn returned(clients: usize, since: &str) -> Duration {
    let mut clients = Clients::new(clients);
    clients.publish();
    let before = clients.fixture.written_bytes;
    let began = own_thread_cpu();
    clients.subscribe(since);
    let took = own_thread_cpu() - began;
    let written = clients.fixture.written_bytes - before;
    let has_all = written > clients.connections.len() * MISSED * 150;
    assert_eq!(has_all, since != position());
    took
}
