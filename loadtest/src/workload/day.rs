//! A population at work: chat, room changes, reconnects and bursts of direct messages, each a
//! Poisson process at its own rate.

use crate::client::message::{Message, RequestId};
use crate::clock::{SECOND, now_ns};
use crate::driver::connection::Kind;
use crate::driver::core::Core;
use crate::failure::Failure;
use crate::stamp::Stamp;
use crate::workload::users::{Place, Population};
use crate::workload::{RunContext, Verified, Workload, peer_id_of, unexpected};

const CHAT: usize = 0;
const SIGNAL: usize = 1;
const ROOM_CHANGE: usize = 2;
const RECONNECT: usize = 3;
/// Users looked at to find one that is not on the move.
const TRIES: u32 = 8;

/// How a population behaves, over all load cores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Habits {
    /// Users, each with one connection in one room.
    pub users: u32,
    /// Rooms they are spread over.
    pub rooms: u32,
    /// Chat messages per second.
    pub chat_per_s: f64,
    /// Room changes per second.
    pub changes_per_s: f64,
    /// Reconnects per second.
    pub reconnects_per_s: f64,
    /// Bursts of direct messages per second.
    pub bursts_per_s: f64,
    /// Messages of a burst.
    pub burst_messages: u32,
    /// Bytes of a message's data.
    pub payload_bytes: usize,
}

/// One load core's share of the population. Rooms do not span cores, so that at every moment this
/// core knows who is a member.
pub(crate) struct Day {
    habits: Habits,
    room_names: Vec<String>,
    population: Population,
    first_peer: u32,
    core_count: u32,
    waiting: u32,
    /// Mean wait and next time of each process, by series.
    processes: [(f64, u64); 4],
    is_started: bool,
    received: u64,
    payload: Vec<u8>,
}

impl Day {
    /// The share of load core `core`.
    pub(crate) fn new(habits: Habits, run: &RunContext, core: u32) -> Day {
        let share = |total: u32| total / run.core_count + u32::from(total % run.core_count > core);
        let (rooms, users) = (share(habits.rooms), share(habits.users));
        let users = if rooms == 0 { 0 } else { users };
        let mean_ns = |per_s: f64| SECOND as f64 * f64::from(run.core_count) / per_s;
        let rates = [
            habits.chat_per_s,
            habits.bursts_per_s,
            habits.changes_per_s,
            habits.reconnects_per_s,
        ];
        Day {
            habits,
            room_names: (0..rooms)
                .map(|r| format!("load/{}/{core}-{r}", run.tag))
                .collect(),
            population: Population::new(users, rooms),
            first_peer: core,
            core_count: run.core_count,
            waiting: users,
            processes: rates.map(|per_s| (mean_ns(per_s), u64::MAX)),
            is_started: false,
            received: 0,
            payload: Vec::new(),
        }
    }

    fn join(&mut self, core: &mut Core, client: u32, room: u32) -> Result<(), Failure> {
        self.population.users[client as usize].place = Place::Joining(room);
        let id = RequestId {
            kind: b's',
            a: client,
            b: room,
        };
        core.send_command(client, "subscribe", &self.room_names[room as usize], id)
    }

    /// A user that is a member of a room, with the room.
    fn somebody(&self, core: &mut Core) -> Option<(u32, u32)> {
        let users = &self.population.users;
        (0..TRIES).find_map(|_| {
            let client = core.random_below(users.len() as u32);
            match users.get(client as usize)?.place {
                Place::In(room) => Some((client, room)),
                _ => None,
            }
        })
    }

    fn happen(&mut self, core: &mut Core, what: usize, due_ns: u64) -> Result<(), Failure> {
        // Nobody free: the event does not take place.
        let Some((client, room)) = self.somebody(core) else {
            return Ok(());
        };
        match what {
            CHAT => {
                let stamp = self.population.speak(client, room, due_ns);
                stamp.write(&mut self.payload, self.habits.payload_bytes);
                core.recorder.sent_at(due_ns, now_ns());
                let channel = self.room_names[room as usize].as_bytes();
                let head = b"{\"type\":\"publish\",\"channel\":\"";
                core.send_text(
                    client,
                    &[head, channel, b"\",\"data\":", &self.payload, b"}"],
                )
            }
            SIGNAL => self.signal(core, client, room, due_ns),
            ROOM_CHANGE => {
                self.population.leaves(client, room);
                self.population.users[client as usize].moved_ns = due_ns;
                let id = RequestId {
                    kind: b'u',
                    a: client,
                    b: room,
                };
                core.send_command(client, "unsubscribe", &self.room_names[room as usize], id)
            }
            _ if self.population.users[client as usize].awaited_signals > 0 => Ok(()),
            _ => {
                self.population.leaves(client, room);
                self.population.left(client, true);
                core.close(client)
            }
        }
    }

    /// Sends a burst to another member of the room, if there is one.
    fn signal(
        &mut self,
        core: &mut Core,
        client: u32,
        room: u32,
        due_ns: u64,
    ) -> Result<(), Failure> {
        let members = &self.population.members[room as usize];
        let mate = members[core.random_below(members.len() as u32) as usize];
        if mate == client {
            return Ok(());
        }
        let count = self.habits.burst_messages;
        let stream = self.population.signals(mate, count);
        for sequence in 0..count {
            let stamp = Stamp {
                stream,
                sequence,
                intended_ns: due_ns,
            };
            stamp.write(&mut self.payload, self.habits.payload_bytes);
            core.recorder.sent_at(due_ns, now_ns());
            let to = self.population.users[mate as usize].peer_id.as_bytes();
            let head = b"{\"type\":\"send\",\"to\":\"";
            core.send_text(client, &[head, to, b"\",\"data\":", &self.payload, b"}"])?;
        }
        Ok(())
    }

    fn acked(&mut self, core: &mut Core, client: u32, id: RequestId) -> Result<(), Failure> {
        let place = self.population.users[client as usize].place;
        match (id.kind, place) {
            (b's', Place::Joining(room)) if room == id.b => {
                self.population.joined(client, room);
                if self.is_started {
                    let moved_ns = self.population.users[client as usize].moved_ns;
                    core.recorder.latency(ROOM_CHANGE, moved_ns, core.now_ns);
                } else {
                    self.waiting -= 1;
                }
                Ok(())
            }
            (b'u', Place::Leaving(room)) if room == id.b => {
                self.population.left(client, false);
                let next = core.random_below(self.room_names.len() as u32);
                self.join(core, client, next)
            }
            _ => {
                self.population
                    .faults
                    .doubled(|| format!("an answer nobody awaits: {id:?}"));
                Ok(())
            }
        }
    }
}

impl Workload for Day {
    fn start(&mut self, core: &mut Core) -> Result<(), Failure> {
        for client in 0..self.population.users.len() as u32 {
            let peer = client * self.core_count + self.first_peer;
            core.open(client, Kind::WebSocket { peer }, core.now_ns);
        }
        Ok(())
    }

    fn on_welcome(&mut self, core: &mut Core, client: u32, welcome: &[u8]) -> Result<(), Failure> {
        self.population.users[client as usize].peer_id = peer_id_of(welcome)?;
        let rooms = self.room_names.len() as u32;
        if !self.is_started {
            return self.join(core, client, client % rooms);
        }
        core.recorder
            .latency(RECONNECT, core.intended_ns(client), core.now_ns);
        // What follows is no room change that anybody asked for: it counts from here.
        self.population.users[client as usize].moved_ns = core.now_ns;
        let room = core.random_below(rooms);
        self.join(core, client, room)
    }

    fn on_message(
        &mut self,
        core: &mut Core,
        client: u32,
        message: Message<'_>,
    ) -> Result<(), Failure> {
        let (series, room, stamp) = match message {
            Message::Ack(id) => return self.acked(core, client, id),
            Message::Presence(_) => return Ok(()),
            Message::Publication { channel, stamp, .. } => {
                let named = |name: &String| name.as_bytes() == channel;
                let user = &self.population.users[client as usize];
                let own = match user.place {
                    Place::Joining(room) | Place::In(room) | Place::Leaving(room) => Some(room),
                    Place::Offline => None,
                };
                let own = own.filter(|room| named(&self.room_names[*room as usize]));
                let found =
                    own.or_else(|| self.room_names.iter().position(named).map(|r| r as u32));
                // A channel of nobody: no stream is in it.
                (CHAT, found.or(Some(u32::MAX - 1)), stamp)
            }
            Message::Direct { stamp, .. } => (SIGNAL, None, stamp),
            other => return unexpected(&other),
        };
        if self.population.heard(client, room, stamp) {
            core.recorder
                .latency(series, stamp.intended_ns, core.now_ns);
            core.recorder.counters.received += 1;
            self.received += 1;
        }
        Ok(())
    }

    fn on_closed(&mut self, core: &mut Core, client: u32) -> Result<(), Failure> {
        let peer = client * self.core_count + self.first_peer;
        core.open(client, Kind::WebSocket { peer }, core.now_ns);
        Ok(())
    }

    fn is_ready(&self) -> bool {
        self.waiting == 0
    }

    fn pump(&mut self, core: &mut Core) -> Result<Option<u64>, Failure> {
        if self.population.users.is_empty() {
            return Ok(None);
        }
        if !std::mem::replace(&mut self.is_started, true) {
            for (mean_ns, next_ns) in &mut self.processes {
                if mean_ns.is_finite() {
                    *next_ns = core.recorder.window().go_ns + core.random_wait_ns(*mean_ns);
                }
            }
        }
        let to_ns = core.phase.to_ns();
        for what in 0..self.processes.len() {
            loop {
                let (mean_ns, due_ns) = self.processes[what];
                if due_ns > now_ns() || due_ns >= to_ns {
                    break;
                }
                self.happen(core, what, due_ns)?;
                self.processes[what].1 = due_ns + core.random_wait_ns(mean_ns).max(1);
            }
        }
        Ok(self.processes.iter().map(|(_, due_ns)| *due_ns).min())
    }

    fn is_drained(&self) -> bool {
        self.population.is_quiet()
    }

    fn fault_count(&self) -> u64 {
        self.population.faults.count()
    }

    fn verify(&mut self, _: &mut Core) -> Result<Verified, Failure> {
        self.population.finish();
        self.population.faults.verdict()?;
        Ok(Verified {
            messages: self.received,
            notes: Vec::new(),
        })
    }
}
