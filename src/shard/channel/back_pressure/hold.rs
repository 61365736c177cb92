//! A channel that lags, at its owner and where its publishers are.
//!
//! Each home reports how many of its members are late, see [`lag`](super::lag). While these are
//! more than half of all members, the owner holds the channel's publishers, and tells every shard
//! so. It also holds them while a home has a member that waits for its snapshot and for which much
//! is held. On each shard the publishers of the channel wait in a line. An open line lets two go
//! on, then four, and so on at each look. A thousand publishers at once would fill the members'
//! queues before the owner could hold them again.

use std::collections::VecDeque;
use std::mem;

use smallvec::SmallVec;

use super::sender_of;
use crate::ids::{ConnectionId, Seat};
use crate::shard::channel::channels::Channels;
use crate::shard::channel::pressure::{Reported, Waiting};
use crate::shard::connection::connections::{Connections, Held, Phase};
use crate::shard::context::Context;
use crate::shard::mesh_message::{Hold, Lag, Lateness, MeshMessage};

/// How many publishers go on first when a line opens.
const FIRST: usize = 2;

impl Channels {
    /// Whether a publication to the channel with this hash has to wait, on whatever shard its
    /// owner is. None has to while the shard is frozen.
    #[inline]
    pub(in crate::shard) fn is_held(&self, hash: u64, context: &Context) -> bool {
        self.pressure.holds.any() && !context.is_frozen && self.pressure.holds.has(hash)
    }

    /// Takes the report of a home about the members of a channel.
    pub(in crate::shard) fn owner_lag(
        &mut self,
        home: Seat,
        lag: Lag,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let Lag { channel, lateness } = lag;
        let slot = self.find_key(&channel);
        let owned = slot.and_then(|slot| self.owned(slot));
        let homes = owned.iter().flat_map(|owned| owned.homes());
        let total: u32 = homes.map(|home| home.member_count).sum();
        let reported = self.pressure.holds.reported.entry(channel.hash);
        let reported = reported.or_insert_with(|| Reported::new(channel.clone()));
        reported.homes.retain(|(seat, ..)| *seat != home);
        if lateness.is_reason() {
            reported.homes.push((home, lateness));
        }
        let homes = || reported.homes.iter().map(|(_, lateness)| lateness);
        let late: u32 = homes().map(|it| it.late).sum();
        let stuck: u32 = homes().map(|it| it.stuck).sum();
        let is_majority_late = 2 * late > total.saturating_sub(stuck);
        let is_held = is_majority_late || homes().any(|it| it.full_join);
        let was_held = mem::replace(&mut reported.is_held, is_held);
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
        } else if !is_held && lateness.is_reason() {
            let hold = Hold { channel, is_held };
            match home == context.id() {
                true => self.hold(&hold, connections, context),
                false => {
                    let hold = MeshMessage::Hold(Box::new(hold));
                    context.effects.send(home.shard(), hold);
                }
            }
        }
    }

    /// Closes or opens the line of a channel, as its owner says.
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

    /// Holds nobody any more for members whose home is gone, or for an owner that is gone.
    pub(in crate::shard) fn lose_holds(
        &mut self,
        lost: Seat,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let reported = self.pressure.holds.reported.values();
        let told = reported.filter(|it| it.homes.iter().any(|(home, _)| *home == lost));
        let told: Vec<_> = told.map(|it| it.channel.clone()).collect();
        for channel in told {
            let lateness = Lateness::default();
            self.owner_lag(lost, Lag { channel, lateness }, connections, context);
        }
        let lines = self.pressure.holds.lines.iter_mut();
        let closed = lines.filter(|(_, line)| line.opens.is_none());
        let mut opened = Vec::new();
        for (hash, line) in closed.filter(|(hash, _)| context.placement.owner(**hash) == lost) {
            line.opens = Some(FIRST);
            opened.push(*hash);
        }
        for hash in opened {
            self.advance_line(hash, connections, context);
        }
    }

    /// Lets the next publishers of each open line go on.
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

    /// Sends the messages that wait in lines on their way. Input goes on waiting.
    pub(in crate::shard) fn send_from_lines(
        &mut self,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let is_message = |waiting: &Waiting| matches!(waiting, Waiting::Message(_));
        let mut messages = Vec::new();
        for line in self.pressure.holds.lines.values_mut() {
            let waiting = mem::take(&mut line.waiting).into_iter();
            let (sent, input): (VecDeque<_>, _) = waiting.partition(is_message);
            messages.extend(sent);
            line.waiting = input;
        }
        let lines = &mut self.pressure.holds.lines;
        lines.retain(|_, line| line.opens.is_none() || !line.waiting.is_empty());
        for message in messages {
            self.go_on(message, connections, context);
        }
    }

    /// Whether a message, and not only input, waits in a line.
    pub(in crate::shard) fn has_messages_in_lines(&self) -> bool {
        let lines = self.pressure.holds.lines.values();
        let mut waiting = lines.flat_map(|line| &line.waiting);
        waiting.any(|it| matches!(it, Waiting::Message(_)))
    }

    /// Lets one publisher go on. A message to a channel that this shard owns still waits until
    /// what is queued has been offered.
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
                context.effects.send(owner.shard(), message);
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

    /// Holds the input of a connection whose next message is for the channel with this hash.
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

    /// Puts a publisher, or its message, at the end of a line.
    pub(super) fn put_in_line(&mut self, hash: u64, waiting: Waiting) {
        let line = self.pressure.holds.lines.entry(hash).or_default();
        line.waiting.push_back(waiting);
    }

    /// Panics if a publisher waits in a line.
    pub(in crate::shard) fn check_nobody_waits_in_line(&self) {
        assert!(!self.pressure.holds.any(), "a publisher waits in line");
    }

    /// Panics unless each open line has a next look.
    pub(in crate::shard) fn check_lines(&self) {
        let mut lines = self.pressure.holds.lines.values();
        assert!(
            lines.all(|line| line.opens.is_none()
                || !line.waiting.is_empty() && self.pressure.lags.look_ms.is_some()),
            "an open line that nobody advances"
        );
    }
}
