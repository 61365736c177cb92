//! Operators who look: lists of channels, members, connections and peers are asked of all shards at
//! any moment, and held against what the clients know.
//!
//! What was there from the question to the next quiet point is in the answer, unless the list ended
//! before; nothing is there twice, nothing that never was, and no walk takes more than its share.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use ringmesh::domain::app_id::AppTag;
use ringmesh::domain::look::{ChannelOrder, ConnectionOrder, Filter, Look, Rows, Seen, SeenRows};
use ringmesh::ids::ConnectionId;
use ringmesh::proto::pattern::Pattern;
use ringmesh::shard::input::Input;
use ringmesh::shard::query::{Answer, Query};

use crate::random::Random;
use crate::walk::Walk;

/// Portions of walks, by seed: a slot at a time, some, all.
pub(crate) const PORTIONS: [usize; 4] = [1, 3, 17, 1_024];
/// What the dearest slot costs: the row of a connection, or a long name.
const SLOT_COST_MAX: usize = 16;
/// Walks that a shard takes in at a time.
const WALKS_MAX: usize = 5;
/// How long a walk may take with its waiting, in milliseconds.
const WALK_MS_MAX: u64 = 10_000;
/// Rows of a list that nothing cuts.
const ALL: usize = 200;
const CHANNEL_ORDERS: [ChannelOrder; 3] = [
    ChannelOrder::Name,
    ChannelOrder::Connections,
    ChannelOrder::Rate,
];
const CONNECTION_ORDERS: [ConnectionOrder; 5] = [
    ConnectionOrder::Newest,
    ConnectionOrder::Oldest,
    ConnectionOrder::Queue,
    ConnectionOrder::BytesOut,
    ConnectionOrder::MessagesIn,
];

/// Which names a list is to have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    pub after: Option<String>,
    pub prefix: Option<&'static str>,
    pub limit: usize,
}

impl Names {
    pub(crate) fn want(&self, name: &str) -> bool {
        self.after.as_deref().is_none_or(|after| name > after)
            && self.prefix.is_none_or(|it| name.starts_with(it))
    }

    fn rows(&self, app: AppTag) -> Rows {
        let pattern = self.prefix.map(|it| Pattern::parse(&format!("{it}*")));
        Rows {
            app,
            matching: pattern.map(|it| it.expect("a prefix is a pattern")),
            after: self.after.as_deref().map(Into::into),
            limit: self.limit,
        }
    }
}

/// What is looked at.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Channels(Names, ChannelOrder),
    Channel(usize),
    Members(Names, usize),
    /// `true`: of an address that nobody has.
    Connections(Names, ConnectionOrder, bool),
    Networks(Names),
    Peers(Names),
    Peer(String),
}

impl What {
    pub(crate) fn names(&self) -> Option<&Names> {
        match self {
            Self::Channels(names, _) | Self::Members(names, _) | Self::Peers(names) => Some(names),
            Self::Connections(names, ..) => Some(names),
            Self::Channel(_) | Self::Networks(_) | Self::Peer(_) => None,
        }
    }

    fn is_walk(&self) -> bool {
        !matches!(self, Self::Channel(_))
    }

    fn is_of_channels(&self) -> bool {
        matches!(self, Self::Channels(..))
    }

    fn look(&self, app: usize) -> Look {
        let app = AppTag::of(&format!("app_{app}"));
        let room = |it: &usize| format!("room-{it}").into_boxed_str();
        match self {
            Self::Channels(names, order) => Look::Channels(names.rows(app), *order),
            Self::Channel(channel) => Look::Channel(app, room(channel)),
            Self::Members(names, channel) => Look::Members(names.rows(app), room(channel)),
            Self::Connections(names, order, elsewhere) => {
                let block = if *elsewhere {
                    "10.0.0.0/8"
                } else {
                    "127.0.0.1/32"
                };
                let filter = Filter {
                    address: Some(block.parse().expect("a block")),
                    key: None,
                };
                Look::Connections(names.rows(app), filter, *order)
            }
            Self::Networks(names) => Look::Networks(names.rows(app), Filter::default()),
            Self::Peers(names) => Look::Peers(names.rows(app)),
            Self::Peer(id) => Look::Peer(app, id.as_str().into()),
        }
    }
}

/// A question to all shards.
#[derive(Debug)]
pub(crate) struct Asked {
    pub app: usize,
    pub what: What,
    asked_ms: u64,
    /// Clients that had been greeted.
    pub open: Vec<usize>,
    /// Memberships that had been acked.
    pub epochs: Vec<usize>,
    /// How often each slot of each shard had been used, without those who had gone.
    slots: Vec<Vec<u32>>,
    /// What each shard has answered.
    pub seen: Vec<Option<Seen>>,
}

impl Asked {
    /// Whether a connection has been there since the question.
    pub(crate) fn may_hold(&self, shard: usize, id: ConnectionId) -> bool {
        let slot = self.slots[shard].get(id.slot as usize);
        slot.is_none_or(|used_up| id.generation > *used_up)
    }
}

/// Something that was left out: wrong, if it is still there at the next quiet point.
pub(crate) enum LeftOut {
    Client(usize, String),
    Epoch(usize, String),
}

/// See the top of this file.
pub(crate) struct Looks {
    random: Random,
    next_number: u64,
    pub asked: BTreeMap<u64, Asked>,
    pub left_out: Vec<LeftOut>,
    /// Who owns a channel of an app, once a shard has said so.
    pub owners: BTreeMap<(usize, String), usize>,
    /// The one that was answered last.
    last: Option<Asked>,
    portion: usize,
}

impl Looks {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed, "looks"),
            next_number: 0,
            asked: BTreeMap::new(),
            left_out: Vec::new(),
            owners: BTreeMap::new(),
            last: None,
            portion: PORTIONS[seed as usize / 4 % 4],
        }
    }

    fn names(&mut self, prefixes: [&'static str; 2], last: usize) -> Names {
        let prefix = *self
            .random
            .pick(&[None, None, Some(prefixes[0]), Some(prefixes[1])]);
        let after = self.random.percent(30).then(|| self.random.below(last));
        Names {
            after: after.map(|it| format!("{}{it}", prefixes[0])),
            prefix,
            limit: *self.random.pick(&[1, 2, 5, ALL]),
        }
    }

    fn what(&mut self, channels: usize) -> What {
        let channel = self.random.below(channels);
        match self.random.below(7) {
            0 => {
                let order = *self.random.pick(&CHANNEL_ORDERS);
                What::Channels(self.names(["room-", "hall-"], channels), order)
            }
            1 => What::Channel(channel),
            2 => What::Members(self.names(["peer ", "nobody"], 5), channel),
            3 => {
                let order = *self.random.pick(&CONNECTION_ORDERS);
                let elsewhere = self.random.percent(10);
                let names = Names {
                    after: None,
                    ..self.names(["peer ", "nobody"], 5)
                };
                What::Connections(names, order, elsewhere)
            }
            4 => What::Peers(self.names(["peer ", "nobody"], 5)),
            5 => What::Networks(Names {
                after: None,
                ..self.names(["peer ", "nobody"], 5)
            }),
            _ => What::Peer(format!("peer {}", self.random.below(5))),
        }
    }

    /// All lists of an app, whole.
    fn everything(channels: usize) -> Vec<What> {
        let all = || Names {
            limit: ALL,
            ..Names::default()
        };
        let rooms = 0..channels;
        let of_rooms = rooms.flat_map(|it| [What::Channel(it), What::Members(all(), it)]);
        let mut everything = vec![
            What::Channels(all(), ChannelOrder::Name),
            What::Connections(all(), ConnectionOrder::Queue, false),
            What::Networks(all()),
            What::Peers(all()),
        ];
        everything.extend((0..2).map(|it| What::Peer(format!("peer {it}"))));
        everything.extend(of_rooms);
        everything
    }
}

impl Walk {
    /// Now and then somebody looks, and what has been seen is looked through.
    pub(crate) fn step_looks(&mut self) {
        if self.looks.random.percent(2) {
            let what = self.looks.what(self.channel_count);
            let app = self.looks.random.below(2);
            self.look(app, what);
        }
        self.take_answers();
    }

    /// Asks all shards, which are all there.
    fn look(&mut self, app: usize, what: What) {
        let shards = 0..self.world.shard_count();
        if !shards.clone().all(|at| self.world.is_awake(at)) {
            return;
        }
        let clients = 0..self.clients.len();
        let open = clients.filter(|at| {
            let it = &self.clients[*at];
            it.is_open() && it.credential.app == app
        });
        let open: Vec<usize> = open.collect();
        let epochs = open
            .iter()
            .flat_map(|at| self.clients[*at].channels.values());
        let asked = Asked {
            app,
            asked_ms: self.world.now().mono_ms,
            epochs: epochs.filter_map(|it| it.epoch).collect(),
            open,
            slots: shards
                .clone()
                .map(|at| self.world.nodes[at].slots_gone())
                .collect(),
            seen: vec![None; shards.len()],
            what,
        };
        let look = asked.what.look(app);
        self.looks.next_number += 1;
        let number = self.looks.next_number;
        self.looks.asked.insert(number, asked);
        for at in shards {
            let query = Query::Look(look.clone());
            self.world.handle(at, Input::Ask { query, number });
        }
    }

    /// Takes what the shards have answered. Returns whether there was anything.
    pub(crate) fn take_answers(&mut self) -> bool {
        let mut any = false;
        for at in 0..self.world.shard_count() {
            let shard = &mut self.world.nodes[at].shard;
            if shard.effects().answers.is_empty() {
                continue;
            }
            any = true;
            let dearest = shard.dearest_portion();
            assert!(
                dearest < self.looks.portion + SLOT_COST_MAX,
                "a portion has cost {dearest}"
            );
            for (number, answer) in mem::take(&mut shard.effects_mut().answers) {
                match answer {
                    Answer::Seen(seen) => self.seen(at, number, *seen),
                    other => panic!("{other:?} was not asked for"),
                }
            }
        }
        any
    }

    fn seen(&mut self, at: usize, number: u64, seen: Seen) {
        // What waits at this shard, this one with it.
        let waits = self.looks.asked.values();
        let waits = waits.filter(|it| it.what.is_walk() && it.seen[at].is_none());
        let waits = waits.count();
        let portion = self.looks.portion as u64;
        let elapsed_ms = self.world.now().mono_ms;
        let Some(asked) = self.looks.asked.get_mut(&number) else {
            panic!("the look {number} was answered twice");
        };
        assert!(asked.seen[at].is_none(), "a look was answered twice");
        let elapsed_ms = elapsed_ms - asked.asked_ms;
        if seen.rows == SeenRows::Busy {
            assert!(waits > WALKS_MAX, "{waits} walks, and no place for one");
        } else {
            let in_time = seen.is_complete || elapsed_ms >= WALK_MS_MAX;
            assert!(in_time, "a walk was broken off after {elapsed_ms} ms");
        }
        // In a list of channels an eighth of a slot's cost is enough for one of another shard.
        let per_cost = if asked.what.is_of_channels() { 8 } else { 1 };
        let walked_max = portion * per_cost * (elapsed_ms + 1);
        assert!(seen.walked <= walked_max, "{} slots walked", seen.walked);
        asked.seen[at] = Some(seen);
        if asked.seen.iter().all(Option::is_some) {
            let asked = self.looks.asked.remove(&number).expect("it was there");
            self.check_seen(&asked);
            self.looks.last = Some(asked);
        }
    }

    /// Nothing is on its way: whoever was left out and is there should have been seen, and what is
    /// seen now is what is there.
    pub(crate) fn check_looks(&mut self) {
        assert!(self.looks.asked.is_empty(), "a look has no answer");
        for left_out in mem::take(&mut self.looks.left_out) {
            match left_out {
                LeftOut::Client(at, text) => {
                    let it = &self.clients[at];
                    assert!(!it.is_open() || it.is_uncertain, "{text}");
                }
                LeftOut::Epoch(at, text) => {
                    assert!(self.ledger.epochs[at].over || self.is_lossy, "{text}");
                }
            }
        }
        // Who is closed by a drain stays on the rosters.
        if !self.draining && self.looks.random.percent(30) {
            self.look_at_rest();
        }
    }

    fn look_at_rest(&mut self) {
        let app = self.looks.random.below(2);
        let everything = Looks::everything(self.channel_count);
        let what = self.looks.random.pick(&everything).clone();
        let before = self.truth(app);
        self.look(app, what);
        self.take_answers();
        for ms in 0.. {
            if self.looks.asked.is_empty() {
                break;
            }
            assert!(ms < WALK_MS_MAX, "a look has no answer");
            self.world.advance(1);
            for at in 0..self.world.shard_count() {
                self.world.end_turn(at);
            }
            self.take_answers();
        }
        // Time has passed: somebody's token may have expired.
        self.come_to_rest();
        if self.truth(app) == before
            && let Some(asked) = self.looks.last.take()
        {
            self.check_exactly(&asked, &before);
        }
    }

    /// A shard is gone: nobody waits for its answers.
    pub(crate) fn forget_looks(&mut self, lost: usize) {
        self.looks.asked.retain(|_, asked| {
            asked.seen[lost].get_or_insert(Seen {
                rows: SeenRows::Busy,
                walked: 0,
                is_complete: false,
                has_more: false,
            });
            asked.seen.iter().any(Option::is_none)
        });
    }

    /// Who is in each channel of an app: peers with the sockets of their connections.
    pub(crate) fn truth(&self, app: usize) -> Truth {
        let mut truth = Truth::default();
        for it in &self.clients {
            if !it.is_open() || it.credential.app != app {
                continue;
            }
            truth.is_uncertain |= it.is_uncertain;
            let peer = truth.peers.entry(it.peer.clone()).or_default();
            peer.insert(it.socket);
            for (channel, _) in it.channels.iter().filter(|(_, it)| it.open) {
                let channel = truth.channels.entry(*channel).or_default();
                let peer = channel.entry(it.peer.clone()).or_default();
                peer.insert(it.socket);
            }
        }
        truth
    }
}

/// What is there when nothing is on its way.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Truth {
    pub peers: BTreeMap<String, BTreeSet<usize>>,
    pub channels: BTreeMap<usize, BTreeMap<String, BTreeSet<usize>>>,
    /// Somebody does not know what it is in.
    pub is_uncertain: bool,
}
