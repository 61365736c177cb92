//! Channels with history: whoever comes back has missed nothing, or is told so.
//!
//! Readers subscribe, stall, leave at any point and come back with what they have; writers publish
//! with ids, and publish again whatever was not acked when their connection ended. Meanwhile the
//! process is killed, loses its power, or ends in order, and another one goes on with what the disk
//! has kept, if history is on disk; the disk is full for a while, or does not sync; shards are
//! silent or lost; clocks jump; and rules change. The model knows nothing of how the server keeps
//! anything. It holds:
//! - what a reader gets of a channel is numbered without a gap and without a double from its first
//!   position on, but for a gap of which it was told with `recovered: false`;
//! - such a gap has a reason: the bounds of the channel, of a replay, or of memory, time, or an end
//!   or a disk that could lose it;
//! - what was acked when it was stored is there after every end that it is to outlive, and what a
//!   full disk does not take is not acked;
//! - after an end that was none in order the epoch is another one, and after one in order the same;
//! - a number of an epoch is one publication, for all readers and in the writer's ack, and a
//!   publication has one number, however often it was sent; in another epoch the numbers up to a
//!   position that it goes on from are the same;
//! - in the end every reader has everything up to the last number that was seen.

mod clients;
mod numberings;
mod trouble;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ahash::RandomState;
use ringmesh::domain::connect_rate::ConnectRates;
use ringmesh::domain::history::{HistoryAck, HistoryFsync, HistoryRule, HistoryRules};
use ringmesh::domain::history::{HistorySettings, HistoryStore};
use ringmesh::shard::input::Input;

use self::numberings::{Numberings, Position};
use crate::disk::Disk;
use crate::freezes::STEPS_BETWEEN;
use crate::permit::{Action, Actions};
use crate::random::Random;
use crate::tenants::{Changes, Tenants};
use crate::world::World;

const CHANNELS: usize = 3;
const READERS: usize = 5;
const WRITERS: usize = 3;
/// Publications of a writer that are not acked.
const UNACKED_MAX: usize = 4;
const FILL_BYTES_MAX: usize = 3_000;
/// How long a publication is kept.
const TTL_SEC: u32 = 3_600;
/// Less than the time for which the id of a publication is remembered.
const REPEATED_MS_MAX: u64 = 100_000;

/// What was asked for and not answered.
enum Ask {
    Subscribe {
        channel: usize,
        since: Option<Position>,
        /// When, see [`Numberings::aged_ms`].
        ms: u64,
    },
    Unsubscribe(usize),
    Publish(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Membership {
    Out,
    /// Asked for, or asked to end.
    Between,
    In,
}

struct Connection {
    socket: usize,
    received: Vec<u8>,
    is_upgraded: bool,
    is_open: bool,
    next_request: u64,
    asked: BTreeMap<u64, Ask>,
    channels: [Membership; CHANNELS],
    /// Channels whose snapshot is due before anything else of them.
    snapshots_due: [bool; CHANNELS],
}

/// A publication that was not acked.
#[derive(Clone)]
struct Unacked {
    number: u64,
    channel: usize,
    fill: String,
    /// How often it was said to be in memory only.
    refused: u32,
}

/// A reader or a writer, over all of its connections.
struct Actor {
    peer: usize,
    actions: Actions,
    connection: Option<Connection>,
    has: [Option<Position>; CHANNELS],
    unacked: VecDeque<Unacked>,
    was_stalled: bool,
}

impl Actor {
    fn new(peer: usize) -> Self {
        Self {
            peer,
            actions: match peer % 2 {
                0 => Actions::ALL,
                _ => Actions::without(Action::Presence),
            },
            connection: None,
            has: Default::default(),
            unacked: VecDeque::new(),
            was_stalled: false,
        }
    }
}

struct Bounds {
    /// The least since the run began.
    messages: u64,
    replay_messages: u64,
    replay_bytes: u64,
    is_tight: bool,
}

/// What is on disk.
struct Kept {
    disk: Disk,
    segment_bytes: u64,
    /// Its faults are tried out.
    is_faulty: bool,
    /// Each append or each sync fails.
    is_failing: bool,
    /// It may take something all the same: what is appended need not be synced.
    takes_some: bool,
    /// It has failed in this run.
    has_failed: bool,
    /// The last publication that was sent before it last began to take nothing, and before it took
    /// everything again.
    failed_at: u64,
    healed_at: u64,
}

/// One run of one seed.
pub(crate) struct Histories {
    seed: u64,
    pub world: World,
    pub tenants: Tenants,
    random: Random,
    pub freezes: Random,
    actors: Vec<Actor>,
    bounds: Bounds,
    next_number: u64,
    numberings: Numberings,
    kept: Option<Kept>,
    /// What is true of history in each process.
    settings: HistorySettings,
    /// What channels keep now.
    rule: HistoryRule,
    has_rule: bool,
    pub rights_version: u64,
    /// Processes so far.
    starts: u64,
    /// A shard is lost: at this step the process is started again.
    lossy_until: Option<u64>,
    step: u64,
}

impl Histories {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed, "histories");
        let bounds = Bounds {
            messages: *random.pick(&[5, 50, 1_000]),
            replay_messages: *random.pick(&[20, 1_000]),
            replay_bytes: *random.pick(&[10_000, 1 << 20]),
            is_tight: random.percent(30),
        };
        let on_disk = random.percent(60);
        let rule = HistoryRule {
            messages: bounds.messages as u32,
            ttl_sec: TTL_SEC,
            store: match on_disk {
                true => HistoryStore::Disk,
                false => HistoryStore::Memory,
            },
            ..HistoryRule::new("room-*")
        };
        let fsyncs = [
            HistoryFsync::Never,
            HistoryFsync::Interval,
            HistoryFsync::Turn,
        ];
        let settings = HistorySettings {
            replay_messages: bounds.replay_messages as u32,
            replay_bytes: bounds.replay_bytes as usize,
            fsync: *random.pick(&fsyncs),
            ack: *random.pick(&[HistoryAck::Ordered, HistoryAck::Stored, HistoryAck::Stored]),
            ..HistorySettings::default()
        };
        let kept = on_disk.then(|| Kept {
            disk: Disk::default(),
            segment_bytes: *random.pick(&[600, 20_000, 1 << 20]),
            is_faulty: random.percent(40),
            is_failing: false,
            takes_some: false,
            has_failed: false,
            failed_at: 0,
            healed_at: 0,
        });
        let rules = HistoryRules::new(std::slice::from_ref(&rule)).unwrap();
        let tenants = Tenants::with_history(seed, Arc::new(rules));
        let rights = tenants.rights(1, Changes::default());
        let mut histories = Self {
            seed,
            world: World::new(seed, 1, CHANNELS, &rights),
            tenants,
            random,
            freezes: Random::new(seed, "freezes"),
            actors: (0..READERS + WRITERS).map(Actor::new).collect(),
            bounds,
            next_number: 0,
            numberings: Numberings::new(CHANNELS, u64::from(TTL_SEC) * 1_000),
            kept,
            settings,
            rule,
            has_rule: true,
            rights_version: 1,
            starts: 0,
            lossy_until: None,
            step: 0,
        };
        histories.start();
        histories
    }

    /// A process starts, with what the disk has.
    fn start(&mut self) {
        self.starts += 1;
        let seed = self.seed + 1_000_003 * self.starts;
        let shard_count = *self.random.pick(&[1, 2, 3, 4]);
        let rights = self.tenants.rights(self.rights_version, Changes::default());
        let now = self.world.now();
        self.world = World::starting(seed, now, shard_count, CHANNELS, &rights);
        let settings = &mut self.world.settings;
        let hasher = RandomState::with_seeds(seed, 2, 3, 4);
        settings.connect_rates = Arc::new(ConnectRates::new(1_000_000, 60_000, &hasher));
        settings.limits.history = self.settings;
        if self.bounds.is_tight {
            let bytes = 96 * 1_024 * usize::from(shard_count);
            settings.limits.history.memory_bytes = bytes;
        }
        for at in 0..self.world.shard_count() {
            let settings = Arc::new(self.world.settings.clone());
            self.world.handle(at, Input::Settings(settings));
        }
        // Others begin to count connects as often as they like.
        self.world.has_limited_connects = false;
        if let Some(kept) = &self.kept {
            let (disk, bytes) = (&kept.disk, kept.segment_bytes);
            self.world
                .open_disk(seed, disk, bytes, &rights, &self.settings);
        }
    }

    /// The whole run. Returns how many steps it had.
    pub(crate) fn run(&mut self, steps: u64) -> u64 {
        for step in 1..=steps {
            self.step = step;
            self.step();
            if self.freezes.below(STEPS_BETWEEN) == 0 {
                self.pause();
            }
            if step % 16 == 0 {
                self.check_shards();
            }
            if step % 500 == 0 {
                self.come_to_rest();
            }
        }
        self.come_to_rest();
        self.leave();
        steps
    }

    /// What the seed has chosen, and how far it has come.
    pub(crate) fn describe(&self) -> String {
        let failing = self.kept.as_ref().map(|it| it.has_failed);
        format!(
            "step {}, start {} with {} shards, {:?}, {:?}, {:?}, the disk has failed: {failing:?}",
            self.step,
            self.starts,
            self.world.shard_count(),
            self.rule.store,
            self.settings.fsync,
            self.settings.ack,
        )
    }

    fn check_shards(&self) {
        let shards = self.world.shards();
        shards.iter().for_each(|shard| shard.check_invariants());
    }

    fn step(&mut self) {
        let actor = self.random.below(self.actors.len());
        let shard_count = self.world.shard_count();
        match self.random.below(1_000) {
            0..280 => self.act(actor),
            280..460 => {
                let count_max = *self.random.pick(&[7, 300, usize::MAX]);
                if let Some(connection) = &self.actors[actor].connection {
                    let socket = connection.socket;
                    self.world.read(socket, count_max);
                }
            }
            460..640 => {
                let from = self.random.below(shard_count);
                let to = self.random.below(shard_count);
                self.world.deliver(from, to, 4);
            }
            640..830 => {
                let shard = self.random.below(shard_count);
                self.world.end_turn(shard);
            }
            830..890 => {
                let shard = self.random.below(shard_count);
                self.world.write_records(shard);
            }
            890..915 => {
                let is_stalled = self.random.percent(50);
                self.stall(actor, is_stalled);
            }
            915..945 => self.drop_connection(actor),
            945..965 => self.unsubscribe(actor),
            965..990 => {
                let ms = *self.random.pick(&[1, 8, 20, 120]);
                self.pass(ms);
            }
            _ => self.trouble(),
        }
        if self.lossy_until == Some(self.step) {
            self.restart();
        }
        for actor in 0..self.actors.len() {
            self.receive(actor);
        }
    }

    /// All shards are frozen for a while, or handed over, if all are there and write no records.
    fn pause(&mut self) {
        if self.kept.is_some() || self.lossy_until.is_some() {
            return;
        }
        self.world.wake_all();
        let began_ms = self.world.now().mono_ms;
        self.freeze();
        self.numberings.aged_ms += self.world.now().mono_ms - began_ms;
    }

    /// Time passes for both clocks.
    fn pass(&mut self, ms: u64) {
        self.world.advance(ms);
        self.numberings.aged_ms += ms;
    }

    fn stall(&mut self, actor: usize, is_stalled: bool) {
        let it = &mut self.actors[actor];
        if let Some(connection) = &it.connection {
            it.was_stalled |= is_stalled;
            self.world.sockets[connection.socket].stalled = is_stalled;
        }
    }

    fn is_reader(actor: usize) -> bool {
        actor < READERS
    }

    /// Everybody takes what comes, until all is acked and everybody has everything.
    fn come_to_rest(&mut self) {
        self.make_whole();
        for actor in 0..self.actors.len() {
            self.stall(actor, false);
        }
        for _ in 0..600 {
            for actor in 0..self.actors.len() {
                self.receive(actor);
                if self.actors[actor].connection.is_none() {
                    self.connect(actor);
                } else if Self::is_reader(actor) && self.is_open(actor) {
                    (0..CHANNELS).for_each(|channel| self.subscribe(actor, channel));
                }
            }
            let is_busy = self.world.settle();
            self.pass(20);
            if !is_busy && self.is_at_rest() {
                break;
            }
        }
        self.check_shards();
        for (at, actor) in self.actors.iter().enumerate() {
            assert!(actor.unacked.is_empty(), "a publication was not acked");
            for channel in 0..CHANNELS {
                let is_all = !Self::is_reader(at) || self.has_all(actor, channel);
                let (has, newest) = (&actor.has[channel], self.numberings.newest(channel));
                assert!(
                    is_all,
                    "reader {at} has {has:?} of room-{channel}, not {newest:?}"
                );
            }
        }
    }

    fn has_all(&self, actor: &Actor, channel: usize) -> bool {
        let (epoch, newest) = self.numberings.newest(channel);
        let has = actor.has[channel].as_ref();
        has.is_some_and(|it| Some(&*it.epoch) == epoch && it.seq == newest)
    }

    fn is_open(&self, actor: usize) -> bool {
        let connection = self.actors[actor].connection.as_ref();
        connection.is_some_and(|it| it.is_open)
    }

    fn is_at_rest(&self) -> bool {
        self.actors.iter().enumerate().all(|(at, actor)| {
            let is_in = actor.connection.as_ref().is_some_and(|connection| {
                let are_in = connection.channels.iter().all(|it| *it == Membership::In);
                connection.asked.is_empty() && (are_in || !Self::is_reader(at))
            });
            let has_all = || (0..CHANNELS).all(|channel| self.has_all(actor, channel));
            is_in && actor.unacked.is_empty() && (!Self::is_reader(at) || has_all())
        })
    }

    /// Everybody is gone, and so is in its time what channels have kept.
    fn leave(&mut self) {
        self.drop_all();
        for _ in 0..10 {
            self.world.settle();
            self.world.advance(1_000);
        }
        for _ in 0..4 {
            self.world.advance(u64::from(TTL_SEC) * 1_000);
            self.world.settle();
        }
        for shard in self.world.shards() {
            assert_eq!(shard.histories().1, 0, "something is kept");
            shard.check_vacant();
        }
    }
}
