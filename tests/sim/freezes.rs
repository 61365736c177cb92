//! Shards that are frozen until nothing is on its way between them, and go on: nobody is closed
//! for it, and nothing is lost. It always comes to its end, whatever links, clients and deadlines
//! were doing. Or other shards go on for them, as many or another number, with other keys of
//! hashes.

use ringmesh::shard::handover::Waves;
use ringmesh::shard::input::Input;
use ringmesh::shard::state::Shard;

use crate::histories::Histories;
use crate::random::Random;
use crate::tenants::Changes;
use crate::walk::Walk;
use crate::world::World;

/// Of so many steps one freezes.
pub(crate) const STEPS_BETWEEN: usize = 400;
/// Rounds within which shards become quiet.
const ROUNDS_MAX: usize = 1_000;
/// Rounds after which shards are given up of which one does nothing.
const ROUNDS_UNTIL_GIVEN_UP: usize = 30;

/// How it ends that shards are frozen.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    /// They go on.
    Thaw,
    /// They hand over, and go on all the same.
    GiveUp,
    /// They hand over, and others go on.
    Swap,
}

impl Ending {
    pub(crate) const ALL: [Self; 3] = [Self::Thaw, Self::GiveUp, Self::Swap];
}

impl World {
    fn note_ending(&mut self, ending: &str) {
        self.meter.note("frozen", ending);
    }

    /// Each shard goes on by itself a little, in whatever order.
    pub(crate) fn go_on_frozen(&mut self, random: &mut Random) {
        let count = self.shard_count();
        let (from, to) = (random.below(count), random.below(count));
        match random.below(8) {
            0..4 => {
                self.deliver(from, to, 1 + random.below(6));
            }
            4 => self.block_link(from, to, false),
            5 => self.advance(random.below(3) as u64),
            _ => {
                self.end_turn(to);
            }
        }
    }

    /// All links are free, and all that is on them arrives.
    fn drain_links(&mut self) {
        for from in 0..self.shard_count() {
            for to in 0..self.shard_count() {
                self.block_link(from, to, false);
                self.deliver(from, to, usize::MAX);
            }
        }
        for at in 0..self.shard_count() {
            self.end_turn(at);
        }
    }

    /// All shards are asked whether they are quiet. Returns whether nothing is on its way.
    fn ask_quiet(&mut self, waves: &mut Waves, random: &mut Random) -> bool {
        let mut answers = Vec::new();
        for at in 0..self.shard_count() {
            let shard = &self.nodes[at].shard;
            // One that does nothing does not answer either.
            let is_quiet = self.is_awake(at) && shard.is_quiet();
            answers.push((is_quiet, shard.mesh_counts()));
            // Who was asked writes nothing before all have been: a socket could say that its client
            // is gone, which others would have to be told.
            if random.percent(20) {
                let count = self.shard_count();
                let (from, to) = (random.below(count), random.below(count));
                self.deliver(from, to, 1 + random.below(6));
            }
        }
        waves.is_over(answers)
    }

    /// Freezes all shards, one after the other.
    pub(crate) fn freeze(&mut self, random: &mut Random) {
        for at in 0..self.shard_count() {
            self.handle(at, Input::Freeze);
            for _ in 0..random.below(6) {
                self.go_on_frozen(random);
            }
        }
    }

    /// Lets frozen shards go on in one more way. Returns whether nothing is on its way.
    pub(crate) fn come_to_quiet(&mut self, waves: &mut Waves, random: &mut Random) -> bool {
        match random.percent(30) {
            true => self.drain_links(),
            false => (0..10).for_each(|_| self.go_on_frozen(random)),
        }
        self.ask_quiet(waves, random)
    }

    /// Nothing is on its way: shards agree about who is where.
    pub(crate) fn check_agreed(&self) {
        let shards = self.shards();
        shards.iter().for_each(|shard| shard.check_invariants());
        Shard::check_agreed(&shards);
        let mut links = self.links.iter();
        let is_empty = links.all(|link| link.in_flight.is_empty() && link.backlog.is_empty());
        assert!(is_empty, "a message is on its way");
    }

    /// All shards go on. What they were frozen for counts against nobody.
    pub(crate) fn thaw(&mut self, since_ms: u64) {
        let now = self.now();
        for at in 0..self.shard_count() {
            let shard = &mut self.nodes[at].shard;
            shard.forgive(now.mono_ms - since_ms, now);
            self.handle(at, Input::Thaw);
        }
    }
}

impl Walk {
    /// Now and then all shards are frozen until nothing is on its way, and go on.
    pub(crate) fn freeze_at_times(&mut self) {
        if self.freezes.below(STEPS_BETWEEN) == 0 {
            self.freeze();
        }
    }

    fn freeze(&mut self) {
        self.tell_all_rights();
        let since_ms = self.world.now().mono_ms;
        let is_silent = (0..self.world.shard_count()).any(|at| !self.world.is_awake(at));
        self.world.freeze(&mut self.freezes);
        let (mut waves, mut is_quiet) = (Waves::default(), false);
        for round in 0.. {
            is_quiet = self.world.come_to_quiet(&mut waves, &mut self.freezes);
            if is_quiet {
                assert!(!is_silent, "quiet, and one shard has not said so");
                self.world.check_agreed();
                break;
            }
            if is_silent && round >= ROUNDS_UNTIL_GIVEN_UP {
                break;
            }
            assert!(round < ROUNDS_MAX, "frozen, and never quiet");
            self.take_while_frozen();
        }
        let drawn = *self.freezes.pick(&Ending::ALL);
        match self.all_freezes_end.unwrap_or(drawn) {
            Ending::Swap if is_quiet && !self.is_ending => {
                self.world.note_ending("swapped");
                self.swap(since_ms);
            }
            // As if nothing had been handed over.
            Ending::GiveUp if is_quiet => {
                self.world.note_ending("given up");
                self.world.export();
                self.world.thaw(since_ms);
            }
            _ => {
                self.world.note_ending("thawed");
                self.world.thaw(since_ms);
            }
        }
    }

    /// New shards go on, as many or another number.
    fn swap(&mut self, since_ms: u64) {
        // Nobody asks the new ones what the old ones were asked, and they own other channels.
        self.looks.asked.clear();
        self.looks.owners.clear();
        let shard_count = match self.freezes.percent(50) {
            true => self.world.shard_count() as u16,
            false => *self.freezes.pick(&[1, 2, 3, 4]),
        };
        let rights = self.present_rights();
        self.world.swap(shard_count, &rights, since_ms);
        let known = |which: usize| self.ended.iter().filter_map(|it| it[which]).max();
        let known = [known(0), known(1)];
        self.ended = vec![known; usize::from(shard_count)];
    }

    /// Clients read on, and write what nobody reads.
    fn take_while_frozen(&mut self) {
        for client in 0..self.clients.len() {
            let is_reading = !self.clients[client].is_over() && !self.is_stalled(client);
            if is_reading && self.freezes.percent(10) {
                self.receive(client);
            }
        }
    }
}

impl Histories {
    /// All shards are frozen until nothing is on its way. They go on, or others do for them.
    pub(crate) fn freeze(&mut self) {
        let since_ms = self.world.now().mono_ms;
        let random = &mut self.freezes;
        self.world.freeze(random);
        let mut waves = Waves::default();
        let mut rounds = 0..ROUNDS_MAX;
        let is_quiet = rounds.any(|_| self.world.come_to_quiet(&mut waves, random));
        assert!(is_quiet, "frozen, and never quiet");
        self.world.check_agreed();
        match *random.pick(&Ending::ALL) {
            Ending::Swap => {
                let shard_count = *random.pick(&[1, 2, 3, 4]);
                let version = self.rights_version;
                let rights = self.tenants.rights(version, Changes::default());
                self.world.swap(shard_count, &rights, since_ms);
            }
            Ending::GiveUp => {
                self.world.export();
                self.world.thaw(since_ms);
            }
            Ending::Thaw => self.world.thaw(since_ms),
        }
    }
}
