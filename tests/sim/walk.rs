//! A run: a seed picks each next step, until everybody has gone.

use ringmesh::proto::actions::{Action, Actions};
use ringmesh::proto::ws::close::{CloseCode, CloseFrame};
use ringmesh::proto::ws::frame::{Opcode, append_masked_frame};
use ringmesh::shard::state::Shard;
use serde_json::json;

use crate::client::{Client, Phase, Request};
use crate::hostile::Hostiles;
use crate::ledger::{Direct, Ledger, Publication};
use crate::random::Random;
use crate::tenants::{Changes, SCOPED_APP, Tenants, without};
use crate::world::World;

const CLIENTS_MAX: usize = 12;
const REQUESTS_OUT_MAX: usize = 10;
/// Peers that tokens are made out to, in each app: fewer than clients, so that some have tabs.
const PEERS: usize = 5;
const DRAIN_WINDOW_MS: u64 = 2_000;
const CHANNELS_PER_CONNECTION: usize = 3;
/// What clients may have to wait for although nothing else happens, in milliseconds.
const PAUSE_MS_MAX: u64 = 100;

/// One run of one seed.
pub struct Walk {
    pub world: World,
    pub clients: Vec<Client>,
    pub hostiles: Hostiles,
    pub ledger: Ledger,
    pub tenants: Tenants,
    pub changes: Changes,
    pub step: u64,
    pub channel_count: usize,
    pub channels_per_connection: usize,
    pub draining: bool,
    rights_version: u64,
    schedule: Random,
    links: Random,
    workload: Random,
    stalls: Random,
}

impl Walk {
    pub fn new(seed: u64) -> Self {
        let mut schedule = Random::new(seed, "schedule");
        let shard_count = *schedule.pick(&[1, 2, 2, 3, 4, 8]);
        let channel_count = *schedule.pick(&[1, 2, 5]);
        let tenants = Tenants::new();
        let changes = Changes::default();
        let rights = tenants.rights(1, changes);
        Self {
            world: World::new(seed, shard_count, CHANNELS_PER_CONNECTION, &rights),
            clients: Vec::new(),
            hostiles: Hostiles::new(seed),
            ledger: Ledger::default(),
            tenants,
            changes,
            step: 0,
            channel_count,
            channels_per_connection: CHANNELS_PER_CONNECTION,
            draining: false,
            rights_version: 1,
            schedule,
            links: Random::new(seed, "links"),
            stalls: Random::new(seed, "stalls"),
            workload: Random::new(seed, "workload"),
        }
    }

    /// The whole run.
    pub fn run(&mut self, steps: u64) {
        for step in 1..=steps {
            self.step();
            if step % 300 == 0 {
                self.quiet();
                self.at_quiet_point();
            }
        }
        self.quiet();
        if self.schedule.percent(50) {
            self.drain(steps / 4);
        }
        for client in 0..self.clients.len() {
            self.leave(client, true);
        }
        self.hostiles.leave(&mut self.world);
        self.quiet();
        // Clients that only ended their streams are waited for no longer than a closing
        // handshake.
        self.world.advance(3_000);
        self.quiet();
        for shard in self.world.shards() {
            shard.check_vacant();
        }
    }

    fn drain(&mut self, steps: u64) {
        let until = self.world.now().mono_ms + DRAIN_WINDOW_MS;
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

    fn step(&mut self) {
        self.step += 1;
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

    fn is_stalled(&self, client: usize) -> bool {
        self.world.sockets[self.clients[client].socket].stalled
    }

    fn open_clients(&self) -> Vec<usize> {
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

    fn connect(&mut self) {
        if self.open_clients().len() >= CLIENTS_MAX {
            return;
        }
        let app = usize::from(self.workload.percent(25));
        let credential = match self.workload.below(10) {
            0..2 => self.tenants.publishable(app, false),
            2 => self.tenants.publishable(0, true),
            kind => {
                let permissions = match kind {
                    3 => without(Action::Presence),
                    4 => without(Action::Publish),
                    5 => without(Action::Send),
                    _ => Actions::ALL,
                };
                let peer = self.workload.below(PEERS);
                let lifetime_sec = if self.workload.percent(15) { 2 } else { 3_600 };
                let now = self.world.now().unix_sec();
                self.tenants
                    .token(app, peer, permissions, now, lifetime_sec)
            }
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
            let politely = self.schedule.percent(50);
            self.leave(client, politely);
        }
    }

    /// A client closes, or is gone.
    fn leave(&mut self, client: usize, politely: bool) {
        match self.clients[client].phase {
            Phase::Closed(_) => {}
            Phase::Open | Phase::Greeting if politely => {
                let code = CloseCode::NORMAL_CLOSURE;
                self.send_close(client, Some(code));
                self.end_epochs(client);
                self.clients[client].phase = Phase::Leaving;
            }
            _ => self.over(client, None),
        }
    }

    /// Nothing more is said to a client, or by it.
    pub fn over(&mut self, client: usize, code: Option<u16>) {
        self.end_epochs(client);
        let client = &mut self.clients[client];
        client.phase = Phase::Closed(code);
        if code.is_none() {
            self.world.end(client.socket);
        }
    }

    fn end_epochs(&mut self, client: usize) {
        for subscription in self.clients[client].channels.values_mut() {
            if let Some(epoch) = subscription.epoch.take() {
                self.ledger.epochs[epoch].over = true;
            }
        }
    }

    pub fn send_close(&mut self, client: usize, code: Option<CloseCode>) {
        let mut payload = Vec::new();
        if let Some(code) = code {
            CloseFrame { code, reason: "" }.append_payload(&mut payload);
        }
        self.send_frame(client, Opcode::Close, &payload);
    }

    pub fn send_frame(&mut self, client: usize, opcode: Opcode, payload: &[u8]) {
        let key = [self.workload.below(256) as u8, 7, 8, 9];
        let mut frame = Vec::new();
        append_masked_frame(&mut frame, opcode, key, payload);
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

    fn switch_rights(&mut self) {
        self.rights_version += 1;
        let rights = self.tenants.rights(self.rights_version, self.changes);
        for shard in 0..self.world.shard_count() {
            self.world.rights(shard, &rights);
        }
        for client in &mut self.clients {
            let key = self.tenants.actions(client.credential.app, self.changes);
            client.actions = key.intersection(client.credential.permissions);
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
        }
        if self.schedule.percent(15) {
            self.world.jump_to_deadline();
            self.quiet();
        }
    }

    /// A client asks for something.
    fn act(&mut self) {
        let alive = self.open_clients();
        let open = alive.into_iter().filter(|at| self.clients[*at].is_open());
        let open: Vec<usize> = open.collect();
        if open.is_empty() {
            return self.connect();
        }
        let client = *self.workload.pick(&open);
        if self.clients[client].requests.len() >= REQUESTS_OUT_MAX {
            return;
        }
        let channel = self.workload.below(self.channel_count);
        match self.workload.below(20) {
            0..5 => self.subscribe(client, channel),
            5..7 => self.unsubscribe(client, channel),
            7..14 => self.publish(client, channel),
            14..18 => self.send_direct(client),
            18 => self.request(client, Request::Ping, json!({"type": "ping"}), true),
            _ => {
                let (code, bad) = self.workload.pick(&[
                    ("unknown_type", r#"{"type":"shout"}"#),
                    (
                        "channel_not_authorized",
                        r#"{"type":"publish","channel":"x","data":1}"#,
                    ),
                    (
                        "channel_reserved",
                        r#"{"type":"subscribe","channel":"_System/x"}"#,
                    ),
                    ("invalid_channel", r#"{"type":"unsubscribe","channel":""}"#),
                    ("missing_data", r#"{"type":"publish","channel":"room-0"}"#),
                ]);
                let may = self.clients[client].actions.contains(Action::Publish);
                if may || *code != "channel_not_authorized" {
                    let bad = serde_json::from_str(bad).unwrap();
                    self.request(client, Request::Bad(code), bad, true);
                }
            }
        }
    }

    fn request(&mut self, client: usize, request: Request, mut body: serde_json::Value, id: bool) {
        let it = &mut self.clients[client];
        if id {
            it.next_request += 1;
            body["requestId"] = json!(it.next_request.to_string());
            it.requests.insert(it.next_request, request);
        }
        self.send_frame(client, Opcode::Text, body.to_string().as_bytes());
    }

    fn subscribe(&mut self, client: usize, channel: usize) {
        let metadata = self.workload.percent(50);
        let it = &mut self.clients[client];
        it.ever_asked.insert(channel);
        it.channels.entry(channel).or_default().subscribes_out += 1;
        let body = json!({
            "type": "subscribe",
            "channel": format!("room-{channel}"),
            "includeSenderMetadata": metadata,
        });
        let step = self.step;
        self.request(
            client,
            Request::Subscribe {
                channel,
                metadata,
                step,
            },
            body,
            true,
        );
    }

    fn unsubscribe(&mut self, client: usize, channel: usize) {
        let subscription = self.clients[client].channels.entry(channel).or_default();
        subscription.unsubscribes_out += 1;
        if let Some(epoch) = subscription.epoch.take() {
            self.ledger.epochs[epoch].over = true;
        }
        let body = json!({"type": "unsubscribe", "channel": format!("room-{channel}")});
        self.request(client, Request::Unsubscribe { channel }, body, true);
    }

    fn publish(&mut self, client: usize, channel: usize) {
        let number = self.ledger.number();
        let it = &self.clients[client];
        let publication = Publication {
            client,
            app: it.credential.app,
            channel,
            step: self.step,
            epoch: it.settled(channel),
            accepted: None,
        };
        self.ledger.publications.insert(number, publication);
        let body = json!({
            "type": "publish",
            "channel": format!("room-{channel}"),
            "data": {"n": number, "fill": self.fill()},
        });
        let with_id = self.workload.percent(80);
        self.request(client, Request::Publish(number), body, with_id);
    }

    fn send_direct(&mut self, client: usize) {
        let app = self.clients[client].credential.app;
        let peers = self.open_clients().into_iter().map(|at| &self.clients[at]);
        let peers = peers.filter(|it| it.credential.app == app && !it.peer.is_empty());
        let mut peers: Vec<String> = peers.map(|it| it.peer.clone()).collect();
        peers.push(format!("peer {}", self.workload.below(PEERS)));
        let to = self.workload.pick(&peers).clone();
        let number = self.ledger.number();
        let channels = self.clients[client].channels.iter();
        let epochs = channels.filter_map(|(at, it)| Some((*at, it.epoch?)));
        let direct = Direct {
            client,
            app,
            to: to.clone(),
            step: self.step,
            epochs: epochs.collect(),
            accepted: None,
            receivers: Vec::new(),
        };
        self.ledger.directs.insert(number, direct);
        let body = json!({"type": "send", "to": to, "data": {"n": number, "fill": self.fill()}});
        self.request(client, Request::Send(number), body, true);
    }

    /// Makes some messages large.
    fn fill(&mut self) -> String {
        match self.workload.below(30) {
            0 => "x".repeat(self.workload.below(3_000)),
            _ => String::new(),
        }
    }

    /// Lets everything come to rest and looks at it.
    pub fn quiet(&mut self) {
        for socket in &mut self.world.sockets {
            socket.stalled = false;
        }
        for round in 0.. {
            assert!(round < 5_000, "never quiet");
            let mut any = self.world.settle();
            for client in 0..self.clients.len() {
                any |= self.receive(client);
            }
            any |= self.hostiles.read_all(&mut self.world);
            if any {
                continue;
            }
            // Snapshots and announcements wait for their time.
            match self.world.until_deadline() {
                Some(ms) if ms <= PAUSE_MS_MAX => self.world.advance(ms.max(1)),
                _ => break,
            }
        }
        self.world.check_all_read();
        let shards = self.world.shards();
        shards.iter().for_each(|shard| shard.check_invariants());
        Shard::check_quiet(&shards);
        self.check_quiet();
        self.hostiles.check_quiet(&self.world, self.draining);
    }

    pub fn is_scoped(app: usize) -> bool {
        app == SCOPED_APP
    }
}
