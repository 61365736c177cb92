//! What operators see of channels, members, connections and peers: one slot of a table at a time.

use std::cmp::Reverse;

use crate::domain::channel::Channel;
use crate::domain::look::{
    Best, ChannelOrder, ChannelRow, ChannelState, ConnectionOrder, ConnectionRow, Filter, Look,
    NAMES_MAX, Networks, PeerRow, Place, ROWS_MAX, Rows, Seen, SeenRows,
};
use crate::planted::{Bug, planted};
use crate::shard::channel::channels::{LocalChannel, Member};
use crate::shard::connection::connections::{Connection, Held, Session};
use crate::shard::effect::ChannelSlot;
use crate::shard::query::Answer;
use crate::shard::state::Shard;
use crate::shard::walks::{Gathered, SLOT_COST, Walk};

/// What it costs to see a channel whose roster another shard has: no more of it is read than its
/// slot. The unit is [`SLOT_COST`] for any other slot.
const OTHERS_COST: usize = 1;
/// What the row of a connection costs, which is made of many parts.
const ROW_COST: usize = 8 * SLOT_COST;
/// What it costs to count a connection with its network, one of many thousands.
const NETWORK_COST: usize = 4 * SLOT_COST;
/// Bytes of a name that are compared with a pattern for the cost of a slot.
const BYTES_PER_COST: usize = 32;

impl Shard {
    /// Makes the portions of walks smaller: for simulations, where there is little to look at.
    pub fn limit_walks(&mut self, portion: usize) {
        self.walks.portion = portion;
    }

    /// The most that a portion of a walk has cost, in slots.
    #[must_use]
    pub fn dearest_portion(&self) -> usize {
        self.walks.dearest.div_ceil(SLOT_COST)
    }

    /// An operator asks to see something: what takes a walk is answered later.
    pub(in crate::shard) fn look(&mut self, look: Look, number: u64) {
        let gathered = match &look {
            Look::Channel(app, name) => {
                let hash = self.context.placement.channel_hash(*app, name);
                let slot = self.channels.find(hash, app, name);
                let channel = slot.and_then(|slot| self.channels.get(slot));
                let rows = SeenRows::Channel(channel.and_then(|it| self.state_of(it)));
                return self.answer_look(number, rows);
            }
            Look::Channels(rows, _) => Gathered::Channels(Best::new(rows.limit)),
            Look::Members(rows, _) | Look::Peers(rows) => Gathered::Peers(Best::new(rows.limit)),
            Look::Connections(rows, ..) => Gathered::Connections(Best::new(rows.limit)),
            Look::Networks(..) => Gathered::Networks(Networks::default()),
            Look::Peer(..) => Gathered::Connections(Best::new(ROWS_MAX)),
        };
        let now_ms = self.context.now.mono_ms;
        if !self.walks.begin((number, look), gathered, now_ms) {
            self.answer_look(number, SeenRows::Busy);
        }
    }

    /// Does a portion of the walk under way, if one is due.
    pub(in crate::shard) fn advance_walks(&mut self) {
        let now_ms = self.context.now.mono_ms;
        while let Some((mut walk, is_late)) = self.walks.take_due(now_ms) {
            if is_late {
                self.answer_walk(walk, false);
                continue;
            }
            let (is_done, cost) = self.walk_on(&mut walk);
            self.walks.advanced(now_ms, cost);
            match is_done {
                true => self.answer_walk(walk, true),
                false => self.walks.put_back(walk),
            }
        }
    }

    fn answer_walk(&mut self, walk: Walk, is_complete: bool) {
        let (number, seen) = walk.into_seen(is_complete);
        let answers = &mut self.context.effects.answers;
        answers.push((number, Answer::Seen(Box::new(seen))));
    }

    fn answer_look(&mut self, number: u64, rows: SeenRows) {
        let seen = Seen {
            rows,
            walked: 0,
            is_complete: true,
            has_more: false,
        };
        let answers = &mut self.context.effects.answers;
        answers.push((number, Answer::Seen(Box::new(seen))));
    }

    /// Looks at the next slots. Returns whether these were the last, and what they have cost.
    fn walk_on(&self, walk: &mut Walk) -> (bool, usize) {
        let members = match &walk.look {
            Look::Members(rows, name) => self.members_of(rows, name),
            _ => &[],
        };
        let slots = match &walk.look {
            Look::Channels(..) => self.channels.slot_count(),
            Look::Members(..) => members.len() as u32,
            _ => self.connections.slot_count(),
        };
        let mut left = walk.left.map_or(slots, |left| left.min(slots));
        if planted(Bug::WalkSkipsSlot) && walk.left.is_some() {
            left = left.saturating_sub(1);
        }
        let mut cost = 0;
        let portion = self.walks.portion * SLOT_COST;
        while left > 0 && (cost < portion || planted(Bug::WalkWithoutPortions)) {
            left -= 1;
            walk.walked += 1;
            cost += match (&walk.look, &mut walk.gathered) {
                (Look::Channels(rows, order), Gathered::Channels(best)) => {
                    let channel = self.channels.get(ChannelSlot(left));
                    channel.map_or(OTHERS_COST, |it| self.see_channel(it, rows, *order, best))
                }
                (Look::Members(rows, _), Gathered::Peers(best)) => {
                    self.see_member(members[left as usize].connection_slot, rows, best)
                }
                (Look::Peers(rows), Gathered::Peers(best)) => self.see_member(left, rows, best),
                (look, Gathered::Connections(best)) => self.see_connection(left, look, best),
                (Look::Networks(rows, filter), Gathered::Networks(networks)) => {
                    self.see_network(left, rows, filter, networks)
                }
                _ => SLOT_COST,
            };
        }
        walk.left = Some(left);
        (left == 0, cost)
    }

    fn members_of(&self, rows: &Rows, name: &str) -> &[Member] {
        let hash = self.context.placement.channel_hash(rows.app, name);
        let slot = self.channels.find(hash, &rows.app, name);
        let channel = slot.and_then(|slot| self.channels.get(slot));
        channel.map_or(&[], |channel| &channel.members)
    }

    /// Returns the cost.
    fn see_channel(
        &self,
        channel: &LocalChannel,
        rows: &Rows,
        order: ChannelOrder,
        best: &mut Best<ChannelRow>,
    ) -> usize {
        let Some(owned) = &channel.owned else {
            return OTHERS_COST;
        };
        let name = channel.key.name.as_str();
        if channel.key.app != rows.app {
            return SLOT_COST;
        }
        if rows.want(name) {
            self.put_channel((name, owned), order, best);
        }
        rows.cost_of(name)
    }

    /// Keeps a channel if it is among the best. Most are not, and of these as little as possible is
    /// read: each part of a channel is a miss of the cache.
    fn put_channel(
        &self,
        (name, owned): (&str, &Channel),
        order: ChannelOrder,
        best: &mut Best<ChannelRow>,
    ) {
        let number = match order {
            ChannelOrder::Name => 0,
            ChannelOrder::Connections => connections_in(owned),
            ChannelOrder::Rate => owned.rate.per_1000_sec(self.context.now.mono_ms),
        };
        let is_among = best.is_among(number, name, 0);
        if !is_among && best.has_more() || owned.roster().is_empty() {
            return;
        }
        match is_among {
            true => {
                let place = Place {
                    number: Reverse(number),
                    ..Place::of_name(name)
                };
                best.put(place, self.row_of(owned));
            }
            false => best.note_more(),
        }
    }

    fn row_of(&self, owned: &Channel) -> ChannelRow {
        ChannelRow {
            peers: owned.roster().peer_count() as u64,
            connections: connections_in(owned),
            rate_milli: owned.rate.per_1000_sec(self.context.now.mono_ms),
        }
    }

    fn state_of(&self, channel: &LocalChannel) -> Option<Box<ChannelState>> {
        let owned = channel.owned.as_deref()?;
        let homes = owned.homes().iter();
        let state = ChannelState {
            row: self.row_of(owned),
            published: owned.rate.published(),
            homes: homes.map(|home| (home.seat, home.member_count)).collect(),
            joining: owned.joining_count(),
        };
        (!owned.roster().is_empty()).then(|| Box::new(state))
    }

    /// Returns the cost.
    fn see_member(&self, slot: u32, rows: &Rows, best: &mut Best<PeerRow>) -> usize {
        let Some(session) = self.connections.at_slot(slot).and_then(Connection::session) else {
            return SLOT_COST;
        };
        let peer = &session.peer;
        let id = peer.id.as_str();
        if session.key.app.id.tag() != rows.app {
            return SLOT_COST;
        }
        if rows.want(id) && best.admits(0, id, 0) {
            let new = || PeerRow {
                metadata: peer.metadata.clone(),
                ..PeerRow::default()
            };
            best.at(Place::of_name(id), new, |row| {
                row.connections.insert(slot);
            });
        }
        rows.cost_of(id)
    }

    /// Returns the cost.
    fn see_connection(&self, slot: u32, look: &Look, best: &mut Best<ConnectionRow>) -> usize {
        let Some(connection) = self.connections.at_slot(slot) else {
            return SLOT_COST;
        };
        let Some(session) = connection.session() else {
            return SLOT_COST;
        };
        let id = session.peer.id.as_str();
        let (app, is_wanted, order, cost) = match look {
            Look::Connections(rows, filter, order) => {
                let is_wanted = filter.wants(connection, session) && rows.want(id);
                (rows.app, is_wanted, *order, rows.cost_of(id))
            }
            Look::Peer(app, peer) => (*app, **peer == *id, ConnectionOrder::Newest, SLOT_COST),
            _ => return SLOT_COST,
        };
        if !is_wanted || session.key.app.id.tag() != app {
            return cost;
        }
        let row = self.number_of(connection, order);
        let tie = u64::from(slot);
        if best.admits(row, id, tie) {
            let place = Place {
                number: Reverse(row),
                name: id.into(),
                tie,
            };
            let is_of_peer = matches!(look, Look::Peer(..));
            best.put(place, self.connection_row(connection, session, is_of_peer));
            return cost + ROW_COST;
        }
        cost
    }

    /// Returns the cost.
    fn see_network(
        &self,
        slot: u32,
        rows: &Rows,
        filter: &Filter,
        networks: &mut Networks,
    ) -> usize {
        let Some(connection) = self.connections.at_slot(slot) else {
            return SLOT_COST;
        };
        let Some(session) = connection.session() else {
            return SLOT_COST;
        };
        let id = session.peer.id.as_str();
        let is_of_app = session.key.app.id.tag() == rows.app;
        if is_of_app && filter.wants(connection, session) && rows.want(id) {
            networks.count(connection.remote);
            return rows.cost_of(id) + NETWORK_COST;
        }
        rows.cost_of(id)
    }

    /// When a connection was opened, in Unix milliseconds.
    fn since_unix_ms(&self, connection: &Connection) -> u64 {
        let now = self.context.now;
        let age_ms = now.mono_ms.saturating_sub(connection.account.opened_ms);
        now.unix_ms.saturating_sub(age_ms)
    }

    /// By what a connection has its place: more is better.
    fn number_of(&self, connection: &Connection, order: ConnectionOrder) -> u64 {
        let account = &connection.account;
        match order {
            ConnectionOrder::Newest => self.since_unix_ms(connection),
            ConnectionOrder::Oldest => !self.since_unix_ms(connection),
            ConnectionOrder::Queue => connection.queued_bytes() as u64,
            ConnectionOrder::BytesOut => account.bytes_out,
            ConnectionOrder::MessagesIn => u64::from(account.messages_in),
        }
    }

    fn connection_row(
        &self,
        connection: &Connection,
        session: &Session,
        is_of_peer: bool,
    ) -> ConnectionRow {
        let now_ms = self.context.now.mono_ms;
        let blocked = connection.blocked;
        let memberships = session.memberships.iter();
        let names = memberships.filter_map(|it| self.channels.get(it.channel));
        let names = names.map(|channel| channel.key.name.as_str().into());
        let names_max = if is_of_peer { NAMES_MAX } else { 0 };
        let peer_ms = self.connections.peer_ms(&self.context);
        ConnectionRow {
            id: connection.id,
            peer: session.peer.id.as_str().into(),
            metadata: session.peer.metadata.clone().filter(|_| is_of_peer),
            address: connection.remote,
            key: session.key.shown_id(),
            since_unix_ms: self.since_unix_ms(connection),
            queued_bytes: connection.queued_bytes() as u64,
            blocked_ms: match blocked.is_blocked() {
                true => blocked.for_ms(now_ms),
                false => 0,
            },
            held: connection.held.reason(),
            bytes_in: connection.account.bytes_in,
            bytes_out: connection.account.bytes_out,
            messages_in: connection.account.messages_in,
            channels: session.memberships.len(),
            channel_names: names.take(names_max).collect(),
            expires_sec: session.grant.as_ref().map(|grant| grant.expires_sec),
            last_received_ms: peer_ms.saturating_sub(connection.received_ms),
        }
    }
}

/// How many connections are in a channel.
fn connections_in(owned: &Channel) -> u64 {
    let homes = owned.homes().iter();
    homes.map(|home| u64::from(home.member_count)).sum()
}

impl Held {
    /// A word for the first reason that holds.
    fn reason(self) -> Option<&'static str> {
        let words = [
            (Self::REPLIES, "replies"),
            (Self::LINK, "link"),
            (Self::JOINS, "joins"),
            (Self::REFRESH, "joins"),
            (Self::FAN_OUT, "fan_out"),
            (Self::ANSWERS, "answers"),
        ];
        let mut words = words.into_iter();
        words.find_map(|(reason, word)| self.has(reason).then_some(word))
    }
}

impl Filter {
    fn wants(&self, connection: &Connection, session: &Session) -> bool {
        self.address.is_none_or(|it| it.contains(connection.remote))
            && self
                .key
                .as_deref()
                .is_none_or(|key| *key == *session.key.id)
    }
}

impl Rows {
    /// What it costs to look at a name.
    fn cost_of(&self, name: &str) -> usize {
        match self.matching {
            Some(_) => (1 + name.len() / BYTES_PER_COST) * SLOT_COST,
            None => SLOT_COST,
        }
    }
}
