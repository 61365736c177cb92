//! What happens to the process and around it: ends of each kind, disks that fail, shards that are
//! silent or lost, clocks that jump, rules that change.

use std::sync::Arc;

use ringmesh::domain::history::{HistoryAck, HistoryFsync, HistoryRules};

use super::{Histories, REPEATED_MS_MAX};
use crate::tenants::Changes;

/// Steps with a lost shard, at most.
const LOSSY_STEPS_MAX: usize = 150;

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    InOrder,
    Killed,
    PowerLost,
}

impl Histories {
    pub(super) fn trouble(&mut self) {
        let shard_count = self.world.shard_count();
        match self.random.below(10) {
            0..2 => self.restart(),
            2 => self.jump(),
            3 => self.set_wall_clock(),
            4 => self.change_rule(),
            5 if shard_count > 1 && self.lossy_until.is_none() => self.lose(),
            6 => {
                let silent = self.random.below(shard_count);
                self.world.silence(silent);
            }
            7 => self.world.wake_all(),
            _ => self.change_disk(),
        }
    }

    /// Nothing is broken any more.
    pub(super) fn make_whole(&mut self) {
        self.world.wake_all();
        if self.lossy_until.is_some() {
            self.restart();
        }
        if !self.has_rule {
            self.change_rule();
        }
        self.heal_disk();
    }

    /// The process ends, and another one starts.
    pub(super) fn restart(&mut self) {
        let end = match self.random.below(4) {
            0 => End::InOrder,
            1 => End::PowerLost,
            _ => End::Killed,
        };
        // What was written to them has left, and may still be read.
        for actor in 0..self.actors.len() {
            if self.random.percent(50) {
                self.receive(actor);
            }
        }
        for at in 0..self.world.shard_count() {
            match end {
                End::InOrder => {
                    self.world.nodes[at].silent_since_ms = None;
                    self.world.end_turn(at);
                    self.world.end_records(at);
                }
                End::Killed | End::PowerLost => self.end_amid_a_write(at),
            }
        }
        self.actors.iter_mut().for_each(|it| it.connection = None);
        if self.may_forget_ids(end) {
            self.actors.iter_mut().for_each(|it| it.unacked.clear());
        }
        self.promise_after(end);
        self.lossy_until = None;
        if self.kept.as_ref().is_some_and(|it| it.is_faulty) && self.random.percent(20) {
            self.break_disk();
        } else {
            self.heal_disk();
        }
        let is_failing = self.kept.as_ref().is_some_and(|it| it.is_failing);
        if let Some(kept) = &mut self.kept {
            kept.has_failed = is_failing;
        }
        self.give_up_what_is_old();
        self.start();
    }

    /// The thread of a shard may have got some of its records written, and a part of the next.
    fn end_amid_a_write(&mut self, at: usize) {
        let Some(kept) = &self.kept else {
            return;
        };
        if self.random.percent(50) {
            self.world.write_records(at);
        }
        if self.random.percent(50) {
            self.world.settle_records(at);
            self.world.hand_over_records(at);
            kept.disk.state().ends_after = Some(self.random.below(400));
            self.world.write_records(at);
            kept.disk.state().ends_after = None;
        }
    }

    /// Whether publications whose ids may be sent again may be missing between others.
    fn may_forget_ids(&self, end: End) -> bool {
        let is_unsynced = end == End::PowerLost && self.settings.fsync != HistoryFsync::Turn;
        is_unsynced || self.kept.as_ref().is_some_and(|it| it.has_failed)
    }

    /// What the next process must have depends on how this one has ended.
    fn promise_after(&mut self, end: End) {
        let Self {
            kept,
            settings,
            numberings,
            random,
            ..
        } = self;
        let Some(kept) = kept else {
            numberings.break_promises();
            return numberings.restart(Some(false));
        };
        let is_stored = settings.ack == HistoryAck::Stored;
        match end {
            End::InOrder if !kept.has_failed => numberings.promise_all(),
            End::Killed if is_stored => {}
            End::PowerLost if is_stored && settings.fsync == HistoryFsync::Turn => {}
            End::InOrder if is_stored => {}
            _ => numberings.break_promises(),
        }
        if end == End::PowerLost {
            kept.disk.lose_power(|bound| random.below(bound));
        }
        numberings.restart(match end {
            // What the lost shard has kept did end in order.
            _ if self.lossy_until.is_some() => None,
            End::InOrder if kept.has_failed => None,
            End::InOrder => Some(true),
            End::Killed | End::PowerLost => Some(false),
        });
    }

    /// Nobody is connected any more.
    pub(super) fn drop_all(&mut self) {
        for actor in 0..self.actors.len() {
            if let Some(connection) = self.actors[actor].connection.take() {
                self.world.reset(connection.socket);
            }
        }
    }

    /// A publication is not sent again when its id may be forgotten.
    fn give_up_what_is_old(&mut self) {
        let (numberings, actors) = (&self.numberings, &mut self.actors);
        let is_recent =
            |number| numberings.aged_ms - numberings.sent_to(number).1 < REPEATED_MS_MAX;
        for actor in actors {
            actor.unacked.retain(|it| is_recent(it.number));
        }
    }

    /// Much time passes. Nobody is connected for so long without a word.
    fn jump(&mut self) {
        let ms = *self.random.pick(&[30_000, 1_000_000, 1_800_000, 3_700_000]);
        self.world.wake_all();
        self.drop_all();
        // What was sent again is at its place before its id is forgotten.
        for _ in 0..200 {
            self.world.settle();
            self.pass(1);
        }
        self.pass(ms);
        self.give_up_what_is_old();
        self.numberings.may_have_ended(false);
    }

    /// Somebody sets the wall clock, which counts for the next process. Nobody comes with a token
    /// that is not valid yet.
    fn set_wall_clock(&mut self) {
        self.drop_all();
        let ms = *self.random.pick(&[1_000, 60_000, 1_800_000, 3_700_000]);
        let unix_ms = self.world.now().unix_ms;
        if self.random.percent(50) {
            self.world.set_wall_clock(unix_ms + ms);
            self.numberings.aged_ms += ms;
            self.give_up_what_is_old();
        } else {
            self.world.set_wall_clock(unix_ms - ms);
        }
    }

    /// Channels keep less, or nothing, or something again.
    fn change_rule(&mut self) {
        self.rights_version += 1;
        let is_less = self.has_rule && self.random.percent(50) && self.rule.messages > 3;
        if is_less {
            self.rule.messages /= 2;
            self.bounds.messages = self.rule.messages.into();
        } else {
            // Whoever was in the channel before need not know of another numbering.
            self.drop_all();
            self.numberings.may_have_ended(true);
            self.has_rule ^= true;
        }
        let rules: &[_] = match self.has_rule {
            true => std::slice::from_ref(&self.rule),
            false => &[],
        };
        let rules = HistoryRules::new(rules).unwrap();
        self.tenants.set_history(Arc::new(rules));
        let rights = self.tenants.rights(self.rights_version, Changes::default());
        for at in 0..self.world.shard_count() {
            self.world.rights(at, &rights);
        }
    }

    /// A shard is gone, with the connections on it; after a while the process is started again.
    fn lose(&mut self) {
        let lost = self.random.below(self.world.shard_count());
        self.world.end_records(lost);
        self.world.lose(lost);
        for other in 0..self.world.shard_count() {
            self.world.tell_lost(other, lost);
        }
        for actor in &mut self.actors {
            let socket = actor.connection.as_ref().map(|it| it.socket);
            if socket.is_some_and(|it| self.world.sockets[it].shard == lost) {
                actor.connection = None;
            }
        }
        let steps = 1 + self.random.below(LOSSY_STEPS_MAX);
        self.lossy_until = Some(self.step + steps as u64);
    }

    fn change_disk(&mut self) {
        match &self.kept {
            Some(kept) if kept.is_failing => self.heal_disk(),
            Some(kept) if kept.is_faulty => self.break_disk(),
            _ => {}
        }
    }

    /// The disk takes nothing from now on: it is full, or nothing becomes durable.
    fn break_disk(&mut self) {
        let Some(kept) = &mut self.kept else {
            return;
        };
        let mut state = kept.disk.state();
        let is_full = self.random.percent(70);
        match is_full {
            true => state.full_after = Some(self.random.below(300)),
            false => state.sync_fails = true,
        }
        drop(state);
        (kept.is_failing, kept.has_failed) = (true, true);
        kept.takes_some = !is_full && self.settings.fsync != HistoryFsync::Turn;
        kept.failed_at = self.next_number;
    }

    fn heal_disk(&mut self) {
        let Some(kept) = self.kept.as_mut().filter(|it| it.is_failing) else {
            return;
        };
        let mut state = kept.disk.state();
        (state.full_after, state.sync_fails) = (None, false);
        drop(state);
        kept.is_failing = false;
        kept.healed_at = self.next_number;
    }
}
