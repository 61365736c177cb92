//! Channels most of whose members read more slowly than is published: at the owner, and where
//! their publishers are.
//!
//! Homes say how many of their members are late, see [`lag`](super::lag). The owner of the
//! channel holds its publishers back while these are more than half of all, and says so to every
//! shard. There, whoever publishes to the channel waits in a line. When the line is opened, two
//! go on, then four, and so on at each look: a thousand publishers at once would fill the
//! members' queues before another word could come.

use smallvec::SmallVec;

use super::sender_of;
use crate::ids::{ConnectionId, ShardId};
use crate::shard::channel::channels::Channels;
use crate::shard::channel::pressure::Waiting;
use crate::shard::connection::connections::{Connections, Held, Phase};
use crate::shard::context::Context;
use crate::shard::mesh_message::{Hold, Lag, MeshMessage};

/// How many go on first when a line is opened.
const FIRST: usize = 2;

impl Channels {
    /// Whether a publication to the channel with this hash has to wait, whoever owns it.
    #[inline]
    pub(in crate::shard) fn is_held(&self, hash: u64) -> bool {
        self.pressure.holds.any() && self.pressure.holds.has(hash)
    }

    /// A home of a channel says how its members come along.
    pub(in crate::shard) fn owner_lag(
        &mut self,
        home: ShardId,
        lag: Lag,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let Lag {
            channel,
            late,
            stuck,
        } = lag;
        let slot = self.find_key(&channel);
        let owned = slot.and_then(|slot| self.owned(slot));
        let homes = owned.iter().flat_map(|owned| owned.homes());
        let total: u32 = homes.map(|home| home.member_count).sum();
        let reported = self.pressure.holds.reported.entry(channel.hash);
        let reported = reported.or_default();
        reported.homes.retain(|(shard, ..)| *shard != home);
        if late > 0 {
            reported.homes.push((home, late, stuck));
        }
        let homes = reported.homes.iter();
        let (all_late, all_stuck) = homes.fold((0, 0), |all, it| (all.0 + it.1, all.1 + it.2));
        let is_held = 2 * all_late > total.saturating_sub(all_stuck);
        let was_held = std::mem::replace(&mut reported.is_held, is_held);
        if reported.homes.is_empty() {
            self.pressure.holds.reported.remove(&channel.hash);
        }
        if is_held != was_held {
            let (to_others, here) = (channel.clone(), channel);
            context.send_to_others(|| {
                let channel = to_others.clone();
                MeshMessage::Hold(Box::new(Hold { channel, is_held }))
            });
            let channel = here;
            self.hold(&Hold { channel, is_held }, connections, context);
        } else if !is_held && late > 0 {
            let hold = Hold { channel, is_held };
            match home == context.id() {
                true => self.hold(&hold, connections, context),
                false => {
                    let hold = MeshMessage::Hold(Box::new(hold));
                    context.effects.send(home, hold);
                }
            }
        }
    }

    /// The owner of a channel holds its publishers back, or no longer.
    pub(in crate::shard) fn hold(
        &mut self,
        hold: &Hold,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let Hold { channel, is_held } = hold;
        let lines = &mut self.pressure.holds.lines;
        if *is_held {
            lines.entry(channel.hash).or_default().opens = None;
        } else if let Some(line) = lines.get_mut(&channel.hash)
            && line.opens.is_none()
        {
            line.opens = Some(FIRST);
            self.advance_line(channel.hash, connections, context);
        }
        self.note_hold(channel, *is_held, context);
    }

    /// Lets some of those go on whose lines are open.
    pub(super) fn advance_lines(&mut self, connections: &mut Connections, context: &mut Context) {
        let lines = self.pressure.holds.lines.iter();
        let open = lines.filter(|(_, line)| line.opens.is_some());
        let open: Vec<u64> = open.map(|(hash, _)| *hash).collect();
        for hash in open {
            self.advance_line(hash, connections, context);
        }
    }

    fn advance_line(&mut self, hash: u64, connections: &mut Connections, context: &mut Context) {
        let Some(line) = self.pressure.holds.lines.get_mut(&hash) else {
            return;
        };
        let Some(count) = line.opens else { return };
        line.opens = Some(2 * count);
        let count = count.min(line.waiting.len());
        let next: SmallVec<[Waiting; FIRST]> = line.waiting.drain(..count).collect();
        if line.waiting.is_empty() {
            self.pressure.holds.lines.remove(&hash);
        } else {
            self.pressure.lags.look_soon(context.now.mono_ms);
        }
        for waiting in next {
            self.go_on(waiting, connections, context);
        }
    }

    /// Lets one go on. A message of this shard's own channel still waits for an offer.
    pub(in crate::shard) fn go_on(
        &mut self,
        waiting: Waiting,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        match waiting {
            Waiting::Input(id) => connections.release_input(id, Held::FAN_OUT),
            Waiting::Message(MeshMessage::Publish(publish))
                if context.placement.owner(publish.channel.hash) != context.id() =>
            {
                let owner = context.placement.owner(publish.channel.hash);
                let message = MeshMessage::Publish(publish);
                let sender = sender_of(&message, context.id());
                context.effects.send(owner, message);
                if let Some(id) = sender {
                    connections.release_input(id, Held::FAN_OUT);
                }
            }
            waiting @ Waiting::Message(_) => {
                let turn = self.pressure.turn;
                self.pressure.waiting.push_back((turn, waiting));
            }
        }
    }

    /// Holds a connection's input back that is to publish to the channel with this hash.
    pub(super) fn wait_in_line(
        &mut self,
        hash: u64,
        id: ConnectionId,
        connections: &mut Connections,
    ) {
        if let Some(connection) = connections.get_mut(id)
            && let Phase::Open(_) = connection.phase
            && !connection.held.has(Held::FAN_OUT)
        {
            connection.held.add(Held::FAN_OUT);
            self.put_in_line(hash, Waiting::Input(id));
        }
    }

    /// Puts somebody at the end of a line.
    pub(super) fn put_in_line(&mut self, hash: u64, waiting: Waiting) {
        let line = self.pressure.holds.lines.entry(hash).or_default();
        line.waiting.push_back(waiting);
    }

    /// Panics if a publisher waits for a channel's members.
    pub(in crate::shard) fn check_nobody_waits_in_line(&self) {
        assert!(!self.pressure.holds.any(), "a publisher waits in line");
    }

    /// Panics unless lines that are open go on.
    pub(in crate::shard) fn check_lines(&self) {
        let mut lines = self.pressure.holds.lines.values();
        assert!(
            lines.all(|line| line.opens.is_none()
                || !line.waiting.is_empty() && self.pressure.lags.look_ms.is_some()),
            "an open line that nobody advances"
        );
    }
}
