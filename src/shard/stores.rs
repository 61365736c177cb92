//! Who waits until a publication is stored, or that a channel was forgotten.
//!
//! The shard makes records of what is published in channels that are kept on disk; the runtime
//! hands a turn's records over as one batch, and says later what has become of the batch. Where
//! acks wait for that, whoever waits for a publication is told then.

use std::collections::VecDeque;
use std::mem;

use crate::domain::history::HistoryAck;
use crate::domain::peer::SharedChannel;
use crate::ids::{Seat, Ticket};
use crate::shard::mesh_message::Sequenced;

/// See the top of this file.
#[derive(Debug, Default)]
pub(in crate::shard) struct Stores {
    /// Whether there is a disk to write to; without one nothing is recorded.
    pub(in crate::shard) is_open: bool,
    /// Whether acks wait until a publication is stored.
    pub(in crate::shard) acks_wait: bool,
    /// Who waits for what was published in this turn.
    new: Vec<Waiting>,
    /// Who waits for which batch, in the order of the batches.
    handed_over: VecDeque<(u64, Vec<Waiting>)>,
}

/// Whoever waits until something is stored.
#[derive(Debug)]
pub(in crate::shard) struct Waiting {
    pub channel: SharedChannel,
    pub home: Seat,
    pub waiter: Ticket,
    pub awaited: Awaited,
}

/// What is to be stored.
#[derive(Debug)]
pub(in crate::shard) enum Awaited {
    /// A publication.
    Publication {
        sequenced: Sequenced,
        wants_position: bool,
    },
    /// That the channel has forgotten so many publications.
    Forgetting { count: u64 },
}

impl Stores {
    /// There is a disk to write to, or one that cannot be written to; acks wait for it, or not.
    pub(in crate::shard) fn begin(&mut self, is_open: bool, ack: HistoryAck) {
        self.is_open = is_open;
        self.acks_wait = ack == HistoryAck::Stored;
    }

    /// Whoever waits for that is told when the records of this turn are stored.
    pub(in crate::shard) fn wait(&mut self, waiting: Waiting) {
        self.new.push(waiting);
    }

    /// Whether somebody waits for what was recorded in this turn.
    pub(in crate::shard) fn is_awaited(&self) -> bool {
        !self.new.is_empty()
    }

    /// Whether nobody waits for any batch.
    pub(in crate::shard) fn are_settled(&self) -> bool {
        self.new.is_empty() && self.handed_over.is_empty()
    }

    /// The records of this turn are in that batch.
    pub(in crate::shard) fn handed_over(&mut self, batch: u64) {
        if self.new.is_empty() {
            return;
        }
        match self.handed_over.back_mut() {
            Some((last, waiting)) if *last == batch => waiting.append(&mut self.new),
            _ => self
                .handed_over
                .push_back((batch, mem::take(&mut self.new))),
        }
    }

    /// Those who wait for a batch.
    pub(in crate::shard) fn take(&mut self, batch: u64) -> Vec<Waiting> {
        let found = self.handed_over.iter().position(|(it, _)| *it == batch);
        let found = found.and_then(|at| self.handed_over.remove(at));
        found.map_or_else(Vec::new, |(_, waiting)| waiting)
    }
}
