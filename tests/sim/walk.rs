//! A run: a seed picks each next step, until everybody has gone.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use ringmesh::domain::rights::Rights;
use ringmesh::shard::input::MemoryLevel;

use crate::backend::{Backend, Kick};
use crate::client::{Client, Phase};
use crate::drained::Drained;
use crate::freezes::Ending;
use crate::hostile::Hostiles;
use crate::ledger::Ledger;
use crate::looks::Looks;
use crate::permit::{Action, Actions};
use crate::random::Random;
use crate::tenants::{Changes, Credential, SCOPED_APP, Tenants};
use crate::vandals::Vandals;
use crate::wire::{CLOSE, append_frame};
use crate::world::World;

const CLIENTS_MAX: usize = 12;
/// Peers that tokens are made out to, in each app: fewer than clients, so that some have tabs.
pub(crate) const PEERS: usize = 5;
const DRAIN_WINDOW_MS: u64 = 2_000;
const CHANNELS_PER_CONNECTION: usize = 3;
/// What clients may have to wait for although nothing else happens, in milliseconds.
pub(crate) const PAUSE_MS_MAX: u64 = 100;
/// Steps for which a shard's core is taken away, and how long each of them takes then: together
/// longer than any question may wait, and not as long as connections may be silent.
const SILENT_STEPS: u64 = 80;
const SILENT_STEP_MS: u64 = 500;

/// One run of one seed.
pub(crate) struct Walk {
    pub world: World,
    pub clients: Vec<Client>,
    pub hostiles: Hostiles,
    pub vandals: Vandals,
    pub backends: Vec<Backend>,
    pub looks: Looks,
    /// Tokens that backends were given and nobody has used.
    pub minted: Vec<Credential>,
    /// Kicks that were answered since the last quiet point.
    pub kicks: Vec<Kick>,
    /// Peers that somebody ever asked to kick.
    pub kicked: BTreeSet<(usize, String)>,
    pub ledger: Ledger,
    pub tenants: Tenants,
    pub changes: Changes,
    pub step: u64,
    pub channel_count: usize,
    pub channels_per_connection: usize,
    pub draining: bool,
    /// Whether load balancers have been told that the server is about to end.
    pub is_ending: bool,
    pub drained: Drained,
    /// A shard was silent or lost since the last quiet point: what waited for it may have ended
    /// without it.
    pub is_lossy: bool,
    /// The process was short of memory since then.
    pub is_tight: bool,
    /// Rights that shards have not been told yet.
    untold: VecDeque<(usize, Arc<Rights>)>,
    /// Since which step each shard knows that the key is revoked, and that the app is suspended.
    pub ended: Vec<[Option<u64>; 2]>,
    silent_until_step: Option<u64>,
    rights_version: u64,
    schedule: Random,
    links: Random,
    pub workload: Random,
    pub backend_random: Random,
    stalls: Random,
    troubles: Random,
    pub freezes: Random,
    pub all_freezes_end: Option<Ending>,
}

impl Walk {
    pub(crate) fn new(seed: u64) -> Self {
        let mut schedule = Random::new(seed, "schedule");
        let shard_count = *schedule.pick(&[1, 2, 2, 3, 4, 8]);
        let channel_count = *schedule.pick(&[1, 2, 5]);
        let tenants = Tenants::new(seed);
        let changes = Changes::default();
        let rights = tenants.rights(1, changes);
        Self {
            world: World::new(seed, shard_count, CHANNELS_PER_CONNECTION, &rights),
            clients: Vec::new(),
            hostiles: Hostiles::new(seed),
            vandals: Vandals::new(seed),
            backends: Vec::new(),
            looks: Looks::new(seed),
            minted: Vec::new(),
            kicks: Vec::new(),
            kicked: BTreeSet::new(),
            ledger: Ledger::default(),
            tenants,
            changes,
            step: 0,
            channel_count,
            channels_per_connection: CHANNELS_PER_CONNECTION,
            draining: false,
            is_ending: false,
            drained: Drained::default(),
            is_lossy: false,
            is_tight: false,
            untold: VecDeque::new(),
            ended: vec![[None; 2]; usize::from(shard_count)],
            silent_until_step: None,
            rights_version: 1,
            schedule,
            links: Random::new(seed, "links"),
            stalls: Random::new(seed, "stalls"),
            workload: Random::new(seed, "workload"),
            backend_random: Random::new(seed, "backends"),
            troubles: Random::new(seed, "troubles"),
            freezes: Random::new(seed, "freezes"),
            all_freezes_end: None,
        }
    }

    /// The whole run.
    pub(crate) fn run(&mut self, steps: u64) {
        for step in 1..=steps {
            self.step();
            if step % 300 == 0 {
                self.quiet();
                self.at_quiet_point();
            }
        }
        self.quiet();
        match self.troubles.below(10) {
            0..5 => self.drain(steps / 4),
            5..7 if self.world.shard_count() > 1 => return self.lose_a_shard(steps / 8),
            _ => {}
        }
        for client in 0..self.clients.len() {
            self.leave(client, 0);
        }
        self.leave_backends(None);
        self.hostiles.leave(&mut self.world);
        self.vandals.leave(&mut self.world);
        self.quiet();
        // Clients that only ended their streams are waited for no longer than a closing
        // handshake.
        self.world.advance(3_000);
        self.quiet();
        if self.draining {
            self.world.end_idle();
            self.quiet();
        }
        for shard in self.world.shards() {
            shard.check_vacant();
        }
    }

    fn drain(&mut self, steps: u64) {
        self.is_ending = true;
        self.world.announce_shutdown();
        for _ in 0..steps / 4 {
            self.step();
        }
        let until = self.world.now().mono_ms + DRAIN_WINDOW_MS;
        self.drained.began_step = self.step;
        for shard in 0..self.world.shard_count() {
            self.draining = true;
            self.world.drain(shard, DRAIN_WINDOW_MS);
            self.step();
        }
        for _ in 0..steps {
            self.step();
        }
        // The last shard began its window up to one step for each shard later.
        let slack_ms = 500;
        let left = (until + slack_ms).saturating_sub(self.world.now().mono_ms);
        self.quiet();
        self.world.advance(left);
        self.quiet();
        for client in &self.clients {
            assert!(client.is_over(), "open behind the drain: {}", client.peer);
        }
    }

    /// A shard is gone, as its process never lets it: everybody who waits for it is told so in
    /// the end.
    fn lose_a_shard(&mut self, steps: u64) {
        for _ in 0..50 {
            self.step();
        }
        self.wake();
        let lost = self.troubles.below(self.world.shard_count());
        self.is_lossy = true;
        self.world.lose(lost);
        self.hostiles.lose(&self.world, lost);
        self.vandals.lose(&self.world, lost);
        self.leave_backends(Some(lost));
        self.forget_looks(lost);
        for client in 0..self.clients.len() {
            if self.world.sockets[self.clients[client].socket].shard == lost {
                self.over(client, None);
            }
        }
        for shard in 0..self.world.shard_count() {
            self.world.tell_lost(shard, lost);
            self.step();
        }
        for _ in 0..steps {
            self.step();
        }
        self.wake();
        // Longer than a question may wait, as often as one waits for another: a client may have
        // asked for one channel many times.
        for _ in 0..1_000 {
            self.come_to_rest();
            if !self.awaits_answers() {
                break;
            }
            self.world.advance(1_000);
        }
        self.check_answers();
        self.check_backends();
        let shards = self.world.shards();
        shards.iter().for_each(|shard| shard.check_invariants());
    }

    fn awaits_answers(&self) -> bool {
        let mut clients = self.clients.iter().filter(|it| it.is_open());
        let awaits_snapshot = |it: &Client| !it.snapshots_due.is_empty() && !it.is_uncertain;
        clients.any(|it| !it.requests.is_empty() || awaits_snapshot(it)) || self.has_asked()
    }

    /// What happens to shards beside messages.
    fn trouble(&mut self) {
        if self
            .silent_until_step
            .is_some_and(|until| until <= self.step)
        {
            self.wake();
        }
        if self.silent_until_step.is_some() {
            self.world.advance(SILENT_STEP_MS);
        }
        if self.schedule.percent(40)
            && let Some((shard, rights)) = self.untold.pop_front()
        {
            self.tell_rights(shard, &rights);
        }
        match self.troubles.below(2_500) {
            0 if self.world.shard_count() > 1 && !self.draining => {
                let shard = self.troubles.below(self.world.shard_count());
                self.world.silence(shard);
                self.is_lossy = true;
                self.silent_until_step = Some(self.step + SILENT_STEPS);
            }
            1..6 => {
                let levels = [
                    MemoryLevel::Near,
                    MemoryLevel::AtCeiling,
                    MemoryLevel::Normal,
                ];
                self.is_tight = true;
                let level = *self.troubles.pick(&levels);
                self.world.memory(level);
            }
            6..10 => self.world.switch_settings(),
            _ => {}
        }
    }

    /// All shards go on.
    pub(crate) fn wake(&mut self) {
        self.silent_until_step = None;
        self.world.wake_all();
    }

    /// All shards know of the present rights.
    pub(crate) fn tell_all_rights(&mut self) {
        while let Some((shard, rights)) = self.untold.pop_front() {
            self.tell_rights(shard, &rights);
        }
    }

    /// The rights that were made last.
    pub(crate) fn present_rights(&self) -> Arc<Rights> {
        self.tenants.rights(self.rights_version, self.changes)
    }

    /// All shards know of everything, and nothing is tight any more.
    pub(crate) fn relax(&mut self) {
        self.wake();
        self.tell_all_rights();
        if self.is_tight {
            self.world.memory(MemoryLevel::Normal);
        }
    }

    fn step(&mut self) {
        self.step += 1;
        self.trouble();
        self.freeze_at_times();
        match self.schedule.below(100) {
            0..25 => self.act(),
            25..50 => self.read(),
            50..72 => self.deliver(),
            72..91 => {
                let shard = self.schedule.below(self.world.shard_count());
                self.world.end_turn(shard);
            }
            91..93 => self.disturb_link(),
            93..96 => self.connect(),
            96 => self.stall(),
            97 => self.leave_one(),
            98 if self.schedule.percent(50) => self.kill_right(),
            98 => self.world.advance(1 + self.links.below(20) as u64),
            _ => self.world.advance(1 + self.links.below(150) as u64),
        }
        self.hostiles.step(&mut self.world);
        self.vandals.step(&mut self.world);
        self.step_backends();
        self.step_looks();
        for client in 0..self.clients.len() {
            if !self.clients[client].is_over() && !self.is_stalled(client) {
                self.receive(client);
            }
        }
        if self.step.is_multiple_of(16) {
            self.world
                .shards()
                .iter()
                .for_each(|shard| shard.check_invariants());
        }
    }

    pub(crate) fn is_stalled(&self, client: usize) -> bool {
        self.world.sockets[self.clients[client].socket].stalled
    }

    pub(crate) fn open_clients(&self) -> Vec<usize> {
        let all = 0..self.clients.len();
        all.filter(|at| !self.clients[*at].is_over()).collect()
    }

    fn read(&mut self) {
        let alive = self.open_clients();
        // Connections whose clients have gone are read to their end, too.
        let socket = match alive.is_empty() || self.schedule.percent(20) {
            true if self.world.sockets.is_empty() => return,
            true => self.schedule.below(self.world.sockets.len()),
            false => self.clients[*self.schedule.pick(&alive)].socket,
        };
        let count_max = match self.schedule.below(3) {
            0 => 1 + self.schedule.below(40),
            1 => 1 + self.schedule.below(400),
            _ => usize::MAX,
        };
        self.world.read(socket, count_max);
    }

    fn deliver(&mut self) {
        let count = self.world.shard_count();
        let (from, to) = (self.links.below(count), self.links.below(count));
        let count_max = 1 + self.links.below(6);
        self.world.deliver(from, to, count_max);
    }

    fn disturb_link(&mut self) {
        let count = self.world.shard_count();
        let (from, to) = (self.links.below(count), self.links.below(count));
        let blocked = self.links.percent(40);
        self.world.block_link(from, to, blocked);
    }

    fn stall(&mut self) {
        let alive = self.open_clients();
        if alive.is_empty() {
            return;
        }
        let client = *self.schedule.pick(&alive);
        let stalled = self.schedule.percent(50);
        self.clients[client].ever_stalled |= stalled;
        let socket = self.clients[client].socket;
        self.world.sockets[socket].stalled = stalled;
        if self.stalls.percent(25) {
            // Whole channels read slowly.
            for client in alive {
                self.clients[client].ever_stalled |= stalled;
                let socket = self.clients[client].socket;
                self.world.sockets[socket].stalled = stalled;
            }
        }
    }

    pub(crate) fn connect(&mut self) {
        if self.open_clients().len() >= CLIENTS_MAX {
            return;
        }
        let app = usize::from(self.workload.percent(25));
        let credential = match self.workload.below(10) {
            0..2 => self.tenants.publishable(app, false),
            2 => self.tenants.publishable(0, true),
            kind => {
                let permissions = match kind {
                    3 => Actions::without(Action::Presence),
                    4 => Actions::without(Action::Publish),
                    5 => Actions::without(Action::Send),
                    _ => Actions::ALL,
                };
                let peer = self.workload.below(PEERS);
                let lifetime_sec = if self.workload.percent(15) { 2 } else { 3_600 };
                let now = self.world.now().unix_sec();
                self.tenants
                    .token(app, peer, permissions, now, lifetime_sec)
            }
        };
        let credential = match self.minted.pop() {
            Some(minted) if self.workload.percent(60) => minted,
            _ => credential,
        };
        let shard = self.workload.below(self.world.shard_count());
        let Some(socket) = self.world.connect(shard) else {
            return;
        };
        let key = self.tenants.actions(credential.app, self.changes);
        let actions = key.intersection(credential.permissions);
        let client = Client::new(socket, credential, actions);
        self.world.write(socket, client.hello().as_bytes());
        self.clients.push(client);
    }

    fn leave_one(&mut self) {
        let alive = self.open_clients();
        if !alive.is_empty() {
            let client = *self.schedule.pick(&alive);
            let way = self.schedule.below(8);
            self.leave(client, way);
        }
    }

    /// A client closes, ends its side of the stream and reads on, is reset, or is gone.
    fn leave(&mut self, client: usize, way: usize) {
        match self.clients[client].phase {
            Phase::Closed(_) => {}
            Phase::Open | Phase::Greeting if way < 4 => {
                self.send_close(client, Some(1_000));
                self.end_epochs(client);
                self.clients[client].phase = Phase::Leaving;
            }
            Phase::Open if way == 4 => {
                self.end_epochs(client);
                self.clients[client].phase = Phase::Leaving;
                self.world.half_close(self.clients[client].socket);
            }
            _ if way == 5 => {
                let socket = self.clients[client].socket;
                self.over(client, None);
                self.world.reset(socket);
            }
            _ => self.over(client, None),
        }
    }

    /// Nothing more is said to a client, or by it.
    pub(crate) fn over(&mut self, client: usize, code: Option<u16>) {
        match code {
            Some(1001) => self.drained.note(&self.clients[client]),
            None if self.draining => self.drained.note_cut_off(&self.clients[client]),
            _ => {}
        }
        self.end_epochs(client);
        let client = &mut self.clients[client];
        client.phase = Phase::Closed(code);
        if code.is_none() {
            self.world.end(client.socket);
        }
    }

    pub(crate) fn end_epochs(&mut self, client: usize) {
        for subscription in self.clients[client].channels.values_mut() {
            if let Some(epoch) = subscription.epoch.take() {
                self.ledger.epochs[epoch].over = true;
            }
        }
    }

    pub(crate) fn send_close(&mut self, client: usize, code: Option<u16>) {
        let payload = code.map_or(Vec::new(), |code| code.to_be_bytes().to_vec());
        self.send_frame(client, CLOSE, &payload);
    }

    pub(crate) fn send_frame(&mut self, client: usize, first: u8, payload: &[u8]) {
        let key = [self.workload.below(256) as u8, 7, 8, 9];
        let mut frame = Vec::new();
        append_frame(&mut frame, first, key, payload);
        self.world.write(self.clients[client].socket, &frame);
    }

    /// Keys are revoked and apps suspended at any moment, on all shards.
    fn kill_right(&mut self) {
        if !self.schedule.percent(20) || self.draining {
            return;
        }
        match self.schedule.percent(50) {
            true => self.changes.revoked = true,
            false => self.changes.suspended = true,
        }
        self.switch_rights();
    }

    /// Shards hear of changed rights one after the other.
    fn switch_rights(&mut self) {
        self.rights_version += 1;
        let rights = self.tenants.rights(self.rights_version, self.changes);
        for shard in 0..self.world.shard_count() {
            self.untold.push_back((shard, rights.clone()));
        }
        for client in &mut self.clients {
            let key = self.tenants.actions(client.credential.app, self.changes);
            client.actions = key.intersection(client.credential.permissions);
        }
    }

    fn tell_rights(&mut self, shard: usize, rights: &Arc<Rights>) {
        self.world.rights(shard, rights);
        // What is untold is newer, and changes no more than this.
        if self.untold.iter().all(|(other, _)| *other != shard) {
            let step = self.step;
            let [revoked, suspended] = &mut self.ended[shard];
            if self.changes.revoked {
                revoked.get_or_insert(step);
            }
            match self.changes.suspended {
                true => suspended.get_or_insert(step),
                false => suspended.insert(u64::MAX),
            };
            suspended.take_if(|step| *step == u64::MAX);
        }
    }

    /// What changes only while no request is under way.
    fn at_quiet_point(&mut self) {
        if self.draining {
            return;
        }
        if self.schedule.percent(20) {
            self.changes.suspended = false;
            self.changes.without_presence ^= self.schedule.percent(50);
            self.switch_rights();
            self.relax();
        }
        if self.schedule.percent(15) {
            let jumps = *self.troubles.pick(&[1, 1, 8]);
            for _ in 0..jumps {
                self.world.jump_to_deadline();
                self.quiet();
            }
        }
    }

    pub(crate) fn is_scoped(app: usize) -> bool {
        app == SCOPED_APP
    }
}
