//! The control plane's side of a shard: what it is told, and what it tells.

use crate::control::ControlHandle;
use crate::runtime::command::{Commands, ShardCommand};
use crate::shard::query::Answer;
use crate::shard::state::Shard;

/// See the top of this file.
pub(super) struct ControlSide {
    commands: Commands,
    /// Where usage is reported.
    control: Option<ControlHandle>,
    /// Who waits until every connection follows the present rights.
    rights_told: Vec<flume::Sender<u64>>,
    /// What operators have asked, by number, and who waits for the answer.
    asked: Vec<(u64, flume::Sender<Answer>)>,
    next_number: u64,
    awaited: Option<Await>,
}

/// What the shard comes to at its end, and tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Await {
    /// Every WebSocket has been closed.
    Drained,
    /// No socket is open.
    Vacant,
}

impl ControlSide {
    /// Nothing has been said yet.
    pub(super) fn new(commands: Commands, control: Option<ControlHandle>) -> Self {
        Self {
            commands,
            control,
            rights_told: Vec::new(),
            asked: Vec::new(),
            next_number: 0,
            awaited: None,
        }
    }

    /// The next command, if there is one.
    pub(super) fn next(&mut self) -> Option<ShardCommand> {
        self.commands.next()
    }

    /// Does nothing until the shard is to go on.
    pub(super) fn wait_for_thaw(&mut self) {
        self.commands.wait_for_thaw();
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// The shard is switching to other rights: that is told when it has.
    pub(super) fn await_rights(&mut self, done: flume::Sender<u64>) {
        self.rights_told.push(done);
    }

    /// Something is asked of the shard: its answer is told. Returns the number of the question.
    pub(super) fn await_answer(&mut self, answer: flume::Sender<Answer>) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.asked.push((number, answer));
        number
    }

    /// The shard comes to that before long: it is told when it has.
    pub(super) fn await_end(&mut self, awaited: Await) {
        self.awaited = Some(awaited);
    }

    /// Tells what is to be told at the end of a turn. `is_vacant`: no socket is open.
    pub(super) fn report(&mut self, shard: &mut Shard, is_vacant: bool) {
        self.report_usage(shard);
        self.report_answers(shard);
        // A change of rights is done when nobody is left whom it closes, and nothing is kept any
        // more that it ends.
        if !self.rights_told.is_empty() && !shard.is_behind_rights() {
            let closed = shard.take_closed_for_rights();
            for told in self.rights_told.drain(..) {
                // Whoever asked may have given up.
                let _ = told.send(closed);
            }
        }
        let is_there = self.awaited.is_some_and(|awaited| match awaited {
            Await::Drained => shard.is_drained(),
            Await::Vacant => is_vacant,
        });
        if is_there {
            self.awaited = None;
            self.commands.report_end();
        }
    }

    fn report_answers(&mut self, shard: &mut Shard) {
        for (number, answer) in shard.effects_mut().answers.drain(..) {
            if let Some(at) = self.asked.iter().position(|(asked, _)| *asked == number) {
                // Whoever asked may have given up.
                let _ = self.asked.swap_remove(at).1.send(answer);
            }
        }
    }

    /// What the control plane cannot take now goes with the next turn's.
    fn report_usage(&self, shard: &mut Shard) {
        let usage = &mut shard.effects_mut().usage;
        if usage.is_empty() {
            return;
        }
        let deltas = std::mem::take(usage);
        if let Some(control) = &self.control
            && let Err(deltas) = control.report_usage(deltas)
        {
            shard.effects_mut().usage = deltas;
        }
    }
}
