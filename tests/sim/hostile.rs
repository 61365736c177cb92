//! Clients that take what they can get: they send as fast as the server reads, read slowly or not
//! at all, and end their streams behind a heap of requests. They are by themselves, in an app and
//! channels of their own. The server's bounds are checked at every input; here is what they are
//! owed: an answer to everything that they sent, in the end.

use crate::random::Random;
use crate::wire::{self, CLOSE, Frame, PING, TEXT, append_frame};
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
}

/// All of them.
pub(crate) struct Hostiles {
    random: Random,
    all: Vec<Hostile>,
}

impl Hostiles {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed, "hostile"),
            all: Vec::new(),
        }
    }

    /// Now and then one of them does something.
    pub(crate) fn step(&mut self, world: &mut World) {
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
        });
    }

    /// All of them read what there is. Returns whether there was anything.
    pub(crate) fn read_all(&mut self, world: &mut World) -> bool {
        let present = self.all.iter_mut().filter(|it| it.phase != Phase::Gone);
        present.fold(false, |any, it| it.read_some(usize::MAX, world) | any)
    }

    /// Nothing is on its way any more: everything has been answered.
    pub(crate) fn check_quiet(&mut self, world: &World, is_excused: bool) {
        for it in &mut self.all {
            if it.phase == Phase::Gone {
                continue;
            }
            // Requests may show no credential, for as long as they like.
            let gave_way = world.seen.made_room && it.habit == Habit::Requests;
            // None of them answers a ping of the server's; what they say afterwards is not heard.
            let was_dropped = it.is_upgraded && world.has_dropped(it.socket);
            let is_excused_end = world.seen.pressed || gave_way || was_dropped;
            if is_excused_end && world.has_server_closed(it.socket) {
                it.phase = Phase::Gone;
                continue;
            }
            if is_excused || matches!(it.close_code, Some(1_013 | 4_011)) {
                // Told to go, left alone by a shard, too slow or too fast: they may lose
                // what they sent.
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
            let socket = &world.sockets[it.socket];
            assert!(
                is_paid,
                "{answered} of {sent}: {habit:?} in {phase:?}, {:?}: {socket:?}",
                it.close_code
            );
            match phase {
                Phase::Sending if !world.has_server_closed(it.socket) => continue,
                // Silent for too long, for one.
                Phase::Sending => {}
                Phase::Closing => assert_eq!(it.close_code, Some(1_000)),
                Phase::HalfClosed | Phase::Gone => {}
            }
            assert!(world.has_server_closed(it.socket), "{habit:?} {phase:?}");
            it.phase = Phase::Gone;
        }
    }

    /// Those whose shard is gone are owed nothing.
    pub(crate) fn lose(&mut self, world: &World, lost: usize) {
        for it in &mut self.all {
            if world.sockets[it.socket].shard == lost {
                it.phase = Phase::Gone;
            }
        }
    }

    /// Everybody goes.
    pub(crate) fn leave(&mut self, world: &mut World) {
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
                    append_frame(&mut bytes, PING, [1, 2, 3, 4], payload);
                }
                Habit::Commands => {
                    let command = command(random, self.sent);
                    self.memberships += usize::from(command.contains("subscribe"));
                    append_frame(&mut bytes, TEXT, [1, 2, 3, 4], command.as_bytes());
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
            append_frame(&mut bytes, CLOSE, [1, 2, 3, 4], &code);
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
        while let Some(count) = self.use_answer(used, world) {
            used += count;
        }
        self.received.drain(..used);
        any
    }

    /// Looks at what begins there. Returns its length if it is whole.
    fn use_answer(&mut self, at: usize, world: &mut World) -> Option<usize> {
        let rest = &self.received[at..];
        if self.habit == Habit::Requests || !self.is_upgraded {
            let response = wire::response(rest)?;
            world.note_response(&response);
            match self.is_upgraded {
                // Nothing came for long.
                true if response.status == 408 => self.phase = Phase::Gone,
                true => self.answered += 1,
                false if response.status == 101 => self.is_upgraded = true,
                // The address has connected too often, or the server takes nobody.
                false => {
                    assert!(matches!(response.status, 429 | 503));
                    self.phase = Phase::Gone;
                }
            }
            return Some(response.count);
        }
        let (count, frame) = wire::frame(rest)?;
        assert!(self.close_code.is_none(), "{frame:?} behind a close frame");
        match frame {
            Frame::Pong => self.answered += 1,
            Frame::Text(text) => {
                let is_answer = ["ack", "error", "pong"]
                    .iter()
                    .any(|kind| text.starts_with(&format!(r#"{{"type":"{kind}""#)));
                self.answered += usize::from(is_answer);
            }
            Frame::Close(code) => {
                world.note_close(code);
                self.close_code = code;
            }
            Frame::Ping(_) => {}
        }
        Some(count)
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
