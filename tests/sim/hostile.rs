//! Clients that take what they can get: they send as fast as the server reads, read slowly or not
//! at all, and end their streams behind a heap of requests. They are by themselves, in an app and
//! channels of their own. The server's bounds are checked at every input; here is what they are
//! owed: an answer to everything that they sent, in the end.

use ringmesh::proto::ws::frame::{Opcode, append_masked_frame};
use ringmesh::proto::ws::message::{Client as ClientRole, Decoded, Decoder, Item, MessageLimits};

use crate::random::Random;
use crate::world::World;

const HOSTILE_MAX: usize = 4;
/// Bytes on the way to the server beyond which a client sends no more for now.
const UNREAD_BYTES_MAX: usize = 100_000;
const UPGRADE: &str = "GET /v1?key=pk_live_h HTTP/1.1\r\nHost: sim\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// What a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    /// Requests, pipelined.
    Requests,
    /// WebSocket pings.
    Pings,
    /// Commands.
    Commands,
}

/// How far a client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Sending,
    /// It has sent a close frame.
    Closing,
    /// It has ended its stream, and reads on.
    HalfClosed,
    /// It is owed nothing any more.
    Gone,
}

struct Hostile {
    socket: usize,
    habit: Habit,
    phase: Phase,
    sent: usize,
    /// How many of these were about membership: whoever ends is not owed their answers.
    memberships: usize,
    answered: usize,
    close_code: Option<u16>,
    received: Vec<u8>,
    is_upgraded: bool,
    decoder: Decoder<ClientRole>,
}

/// All of them.
pub struct Hostiles {
    random: Random,
    all: Vec<Hostile>,
}

impl Hostiles {
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed, "hostile"),
            all: Vec::new(),
        }
    }

    /// Now and then one of them does something.
    pub fn step(&mut self, world: &mut World) {
        if !self.random.percent(3) {
            return;
        }
        let present = self.all.iter().enumerate();
        let present = present.filter(|(_, it)| it.phase != Phase::Gone);
        let present: Vec<usize> = present.map(|(at, _)| at).collect();
        if present.is_empty() || present.len() < HOSTILE_MAX && self.random.percent(15) {
            return self.connect(world);
        }
        let random = &mut self.random;
        let it = &mut self.all[*random.pick(&present)];
        match random.below(20) {
            0..9 => it.send(random, world),
            9..16 => {
                it.read_some(1 + random.below(4), world);
            }
            16 => {
                it.read_some(usize::MAX, world);
            }
            17 => it.close(world),
            18 => it.half_close(world),
            _ if random.percent(20) => {
                world.end(it.socket);
                it.phase = Phase::Gone;
            }
            _ => world.sockets[it.socket].stalled = random.percent(70),
        }
    }

    fn connect(&mut self, world: &mut World) {
        let shard = self.random.below(world.shard_count());
        let Some(socket) = world.connect(shard) else {
            return;
        };
        world.sockets[socket].stalled = self.random.percent(70);
        let habit = *self
            .random
            .pick(&[Habit::Requests, Habit::Pings, Habit::Commands]);
        if habit != Habit::Requests {
            world.write(socket, UPGRADE.as_bytes());
        }
        self.all.push(Hostile {
            socket,
            habit,
            phase: Phase::Sending,
            sent: 0,
            memberships: 0,
            answered: 0,
            close_code: None,
            received: Vec::new(),
            is_upgraded: habit == Habit::Requests,
            decoder: Decoder::client(),
        });
    }

    /// All of them read what there is. Returns whether there was anything.
    pub fn read_all(&mut self, world: &mut World) -> bool {
        let present = self.all.iter_mut().filter(|it| it.phase != Phase::Gone);
        present.fold(false, |any, it| it.read_some(usize::MAX, world) | any)
    }

    /// Nothing is on its way any more: everything has been answered.
    pub fn check_quiet(&mut self, world: &World, is_draining: bool) {
        for it in &mut self.all {
            if it.phase == Phase::Gone {
                continue;
            }
            if is_draining || it.close_code == Some(1_013) {
                // Told to go, or found too slow for their channels: they may lose what they sent.
                it.phase = Phase::Gone;
                continue;
            }
            let (habit, phase) = (it.habit, it.phase);
            let owed = match phase {
                Phase::Sending => it.sent,
                _ => it.sent - it.memberships,
            };
            let (answered, sent) = (it.answered, it.sent);
            let is_paid = (owed..=sent).contains(&answered);
            assert!(is_paid, "{answered} of {sent}: {habit:?} in {phase:?}");
            match phase {
                Phase::Sending => continue,
                Phase::Closing => assert_eq!(it.close_code, Some(1_000)),
                Phase::HalfClosed | Phase::Gone => {}
            }
            assert!(world.has_server_closed(it.socket), "{habit:?} {phase:?}");
            it.phase = Phase::Gone;
        }
    }

    /// Everybody goes.
    pub fn leave(&mut self, world: &mut World) {
        for it in &mut self.all {
            world.end(it.socket);
            it.phase = Phase::Gone;
        }
    }
}

impl Hostile {
    fn send(&mut self, random: &mut Random, world: &mut World) {
        if self.phase != Phase::Sending || world.unread(self.socket) > UNREAD_BYTES_MAX {
            return;
        }
        let large = random.percent(10);
        let count = 1 + random.below(if large { 1_500 } else { 30 });
        let mut bytes = Vec::new();
        for _ in 0..count {
            match self.habit {
                Habit::Requests => bytes.extend_from_slice(request(random).as_bytes()),
                Habit::Pings => {
                    let payload = [7; 125];
                    let payload = &payload[..*random.pick(&[0, 125])];
                    append_masked_frame(&mut bytes, Opcode::Ping, [1, 2, 3, 4], payload);
                }
                Habit::Commands => {
                    let command = command(random, self.sent);
                    self.memberships += usize::from(command.contains("subscribe"));
                    append_masked_frame(&mut bytes, Opcode::Text, [1, 2, 3, 4], command.as_bytes());
                }
            }
            self.sent += 1;
        }
        world.write(self.socket, &bytes);
    }

    fn close(&mut self, world: &mut World) {
        if self.phase == Phase::Sending && self.habit != Habit::Requests {
            let mut bytes = Vec::new();
            let code = 1_000_u16.to_be_bytes();
            append_masked_frame(&mut bytes, Opcode::Close, [1, 2, 3, 4], &code);
            world.write(self.socket, &bytes);
            self.phase = Phase::Closing;
        }
    }

    fn half_close(&mut self, world: &mut World) {
        if matches!(self.phase, Phase::Sending | Phase::Closing) {
            world.half_close(self.socket);
            if self.phase == Phase::Sending {
                self.phase = Phase::HalfClosed;
            }
        }
    }

    /// Reads so many of the server's writes. Returns whether there were any.
    fn read_some(&mut self, writes_max: usize, world: &mut World) -> bool {
        let mut any = false;
        for _ in 0..writes_max {
            let Some((_, bytes)) = world.take(self.socket) else {
                break;
            };
            any = true;
            self.received.extend_from_slice(&bytes);
        }
        let mut used = 0;
        while let Some(count) = self.use_answer(used) {
            used += count;
        }
        self.received.drain(..used);
        any
    }

    /// Looks at what begins there. Returns its length if it is whole.
    fn use_answer(&mut self, at: usize) -> Option<usize> {
        if self.habit == Habit::Requests || !self.is_upgraded {
            let count = response_len(&self.received[at..])?;
            match self.is_upgraded {
                true => self.answered += 1,
                false => self.is_upgraded = true,
            }
            return Some(count);
        }
        let limits = MessageLimits {
            message_bytes_max: 1_000_000,
        };
        let rest = &mut self.received[at..];
        let decoded = self.decoder.decode(rest, &limits);
        match decoded.expect("the server speaks RFC 6455") {
            Decoded::Incomplete { .. } => None,
            Decoded::Item { consumed, item } => {
                assert!(self.close_code.is_none(), "{item:?} behind a close frame");
                match item {
                    Item::Pong => self.answered += 1,
                    Item::Text(text) => {
                        let is_answer = ["ack", "error", "pong"]
                            .iter()
                            .any(|kind| text.starts_with(&format!(r#"{{"type":"{kind}""#)));
                        self.answered += usize::from(is_answer);
                    }
                    Item::Close(close) => self.close_code = close.map(|it| it.code.get()),
                    Item::Ping(_) | Item::Continuation => {}
                }
                Some(consumed)
            }
        }
    }
}

fn request(random: &mut Random) -> String {
    let channel = random.below(8);
    let publish = format!(
        "POST /v1/channels/hostile-{channel}/publish HTTP/1.1\r\nHost: sim\r\n\
         Authorization: Bearer sk_live_h\r\nContent-Type: application/json\r\n\
         Content-Length: 10\r\n\r\n{{\"data\":1}}"
    );
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: sim\r\n\r\n");
    match random.below(4) {
        0 => get("/healthz"),
        1 => get("/v1/usage"),
        2 => get("/nowhere"),
        _ => publish,
    }
}

fn command(random: &mut Random, number: usize) -> String {
    let channel = random.below(8);
    match random.below(5) {
        0 => format!(r#"{{"type":"ping","requestId":"{number}"}}"#),
        1 => format!(r#"{{"type":"send","to":"nobody","data":1,"requestId":"{number}"}}"#),
        2 => format!(r#"{{"type":"subscribe","channel":"hostile-0","requestId":"{number}"}}"#),
        3 => format!(r#"{{"type":"unsubscribe","channel":"hostile-0","requestId":"{number}"}}"#),
        _ => format!(
            r#"{{"type":"publish","channel":"hostile-{channel}","data":1,"requestId":"{number}"}}"#
        ),
    }
}

/// The length of the response that begins there, if it is whole.
fn response_len(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).expect("heads are ASCII");
    let length = text.split_once("Content-Length: ");
    let length = length.and_then(|(_, rest)| rest.lines().next()?.parse().ok());
    let length: usize = length.unwrap_or(0);
    (bytes.len() >= head + length).then_some(head + length)
}
