//! Clients that do one bad thing each, and what they must be told for it; some say nothing at all.

use crate::random::Random;
use crate::wire::{self, BINARY, ENDS, Frame, TEXT, TEXT_BEGINS, append_frame};
use crate::world::World;

const VANDALS_MAX: usize = 3;
const KEY: [u8; 4] = [9, 8, 7, 6];
const UPGRADE: &str = "Host: sim\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const AUTHORIZED: &str = "Host: sim\r\nAuthorization: Bearer sk_live_h\r\n";

/// What one of them does.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Deed {
    /// A request, and the status that it deserves.
    Request(String, u16),
    /// Frames, and the code that they deserve.
    Frames(Vec<u8>, u16),
    /// A head without an end.
    Dribble,
    /// A handshake; from then on it neither reads nor answers.
    Mute,
}

struct Vandal {
    socket: usize,
    deed: Deed,
    received: Vec<u8>,
    statuses: Vec<u16>,
    code: Option<u16>,
    is_upgraded: bool,
    is_done: bool,
}

/// All of them.
pub(crate) struct Vandals {
    random: Random,
    all: Vec<Vandal>,
}

impl Vandals {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed, "vandals"),
            all: Vec::new(),
        }
    }

    /// Now and then one of them does something.
    pub(crate) fn step(&mut self, world: &mut World) {
        if !self.random.percent(2) {
            return;
        }
        if self.all.len() < VANDALS_MAX {
            return self.connect(world);
        }
        let at = self.random.below(self.all.len());
        self.all[at].read(world);
        let may_leave = matches!(self.all[at].deed, Deed::Dribble | Deed::Mute);
        if may_leave && self.random.percent(5) {
            world.end(self.all.swap_remove(at).socket);
        }
    }

    fn connect(&mut self, world: &mut World) {
        let shard = self.random.below(world.shard_count());
        let Some(socket) = world.connect(shard) else {
            return;
        };
        if self.random.percent(50) {
            world.stand_before(socket, &mut self.random);
        }
        let deed = deed(&mut self.random);
        let hello = match &deed {
            Deed::Request(request, _) => request.clone(),
            Deed::Dribble => "GET /healthz HTTP/1.1\r\nHo".to_owned(),
            Deed::Frames(..) | Deed::Mute => {
                format!("GET /v1?key=pk_live_h HTTP/1.1\r\n{UPGRADE}")
            }
        };
        world.write(socket, hello.as_bytes());
        if deed == Deed::Mute {
            let mut join = Vec::new();
            let text = br#"{"type":"subscribe","channel":"hostile-0"}"#;
            append_frame(&mut join, TEXT, KEY, text);
            world.write(socket, &join);
        }
        self.all.push(Vandal {
            socket,
            deed,
            received: Vec::new(),
            statuses: Vec::new(),
            code: None,
            is_upgraded: false,
            is_done: false,
        });
    }

    /// All of them read what there is. Returns whether there was anything.
    pub(crate) fn read_all(&mut self, world: &mut World) -> bool {
        self.all
            .iter_mut()
            .fold(false, |any, it| it.read(world) | any)
    }

    /// Nothing is on its way any more: everybody has been told what he deserves.
    pub(crate) fn check_quiet(&mut self, world: &mut World, is_excused: bool) {
        self.all.retain(|it| {
            let is_open = !world.has_server_closed(it.socket);
            match &it.deed {
                Deed::Request(request, status) => {
                    // Connects are limited; nobody is told more than once.
                    let is_it = |told: &u16| told == status || matches!(told, 429 | 503);
                    let is_told = it.statuses.len() == 1 && it.statuses.iter().all(is_it);
                    let is_closed =
                        it.statuses == [101] && *status == 401 && it.code == Some(4_001);
                    let is_told = is_told || is_closed || is_excused || it.was_dropped(world);
                    assert!(is_told, "{:?} for {request:?}", it.statuses);
                }
                Deed::Frames(frames, code) => {
                    let is_refused = it.statuses != [101];
                    let is_told = it.code == Some(*code) || is_refused || is_excused;
                    assert!(is_told, "{:?} instead of {code} for {frames:?}", it.code);
                }
                Deed::Dribble if is_open => return true,
                // It is a member by now; from here on its socket has no room.
                Deed::Mute if is_open => {
                    world.sockets[it.socket].is_mute = true;
                    return true;
                }
                Deed::Dribble => assert!(matches!(it.statuses[..], [] | [408])),
                Deed::Mute => {}
            }
            world.end(it.socket);
            false
        });
    }

    /// Those whose shard is gone are owed nothing.
    pub(crate) fn lose(&mut self, world: &World, lost: usize) {
        self.all.retain(|it| world.sockets[it.socket].shard != lost);
    }

    /// Everybody goes.
    pub(crate) fn leave(&mut self, world: &mut World) {
        for it in self.all.drain(..) {
            world.end(it.socket);
        }
    }
}

impl Vandal {
    /// Without a word: it gave way to somebody else.
    fn was_dropped(&self, world: &World) -> bool {
        self.statuses.is_empty() && world.has_server_closed(self.socket)
    }

    fn read(&mut self, world: &mut World) -> bool {
        if self.deed == Deed::Mute {
            return false;
        }
        let mut any = false;
        while let Some((_, bytes)) = world.take(self.socket) {
            self.received.extend_from_slice(&bytes);
            any = true;
        }
        while self.use_answer(world) {}
        if let Deed::Frames(frames, _) = &self.deed
            && self.is_upgraded
            && !std::mem::replace(&mut self.is_done, true)
        {
            world.write(self.socket, frames);
            any = true;
        }
        any
    }

    fn use_answer(&mut self, world: &mut World) -> bool {
        let count = if self.is_upgraded {
            let Some((count, frame)) = wire::frame(&self.received) else {
                return false;
            };
            assert!(self.code.is_none(), "{frame:?} behind a close frame");
            if let Frame::Close(code) = frame {
                self.code = code;
                world.note_close(code);
            }
            count
        } else {
            let Some(response) = wire::response(&self.received) else {
                return false;
            };
            world.note_response(&response);
            self.statuses.push(response.status);
            self.is_upgraded = response.status == 101;
            response.count
        };
        self.received.drain(..count);
        true
    }
}

fn deed(random: &mut Random) -> Deed {
    let post = |path: &str, rest: &str| format!("POST {path} HTTP/1.1\r\n{AUTHORIZED}{rest}");
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\n{AUTHORIZED}\r\n");
    let request = |request: String, status| Deed::Request(request, status);
    match random.below(22) {
        0 => request("BREW\r\n\r\n".to_owned(), 400),
        1 => {
            let long = "x".repeat(3_000);
            request(format!("GET /{long} HTTP/1.1\r\nHost: sim\r\n\r\n"), 431)
        }
        2 => request(post("/v1/tokens", "Content-Length: 99999\r\n\r\n"), 413),
        3 => request(
            post("/v1/tokens", "Expect: a cat\r\nContent-Length: 2\r\n\r\n{}"),
            417,
        ),
        4 => request("GET /v1 HTTP/1.1\r\nHost: sim\r\n\r\n".to_owned(), 426),
        5 => request(
            format!("GET /v1?key=pk_live_nobody HTTP/1.1\r\n{UPGRADE}"),
            401,
        ),
        6 => request(get("/v1/channels/hostile-0"), 404),
        7 => request(post("/v1/usage", "Content-Length: 0\r\n\r\n"), 405),
        8 => {
            let typed = "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}";
            request(post("/v1/tokens", typed), 415)
        }
        9 => {
            let publish = "Content-Length: 10\r\n\r\n{\"data\":1}";
            request(post("/v1/channels/room-0/publish", publish), 403)
        }
        10 => request(get("/v1/channels/_system%2Fx/peers"), 400),
        11 => request(
            "GET /v1/usage HTTP/1.1\r\nHost: sim\r\n\r\n".to_owned(),
            401,
        ),
        12 => request(post("/v1/tokens", "Content-Length: 3\r\n\r\n{x}"), 400),
        13 => Deed::Frames(vec![TEXT, 2, b'{', b'}'], 1_002),
        14 => Deed::Frames(framed(BINARY, b"{}"), 1_003),
        15 => Deed::Frames(framed(TEXT, b"\"\xFF\""), 1_007),
        16 => Deed::Frames(framed(TEXT, &[b' '; 6_000]), 1_009),
        17 => {
            let mut frames = framed(TEXT_BEGINS, &[b' '; 4_000]);
            frames.extend(framed(ENDS, &[b' '; 2_000]));
            Deed::Frames(frames, 1_009)
        }
        18..20 => Deed::Dribble,
        _ => Deed::Mute,
    }
}

fn framed(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    append_frame(&mut bytes, first, KEY, payload);
    bytes
}
