//! The control plane's side of a shard: what it is told, and what it tells.

use crate::control::ControlHandle;
use crate::runtime::command::{Commands, Done, ShardCommand};
use crate::shard::state::Shard;

/// See the top of this file.
pub(super) struct ControlSide {
    commands: Commands,
    /// Where usage is reported.
    control: Option<ControlHandle>,
    /// Who waits until every connection follows the present rights.
    rights_told: Vec<Done>,
    drain: Drain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drain {
    None,
    UnderWay,
    Reported,
}

impl ControlSide {
    /// Nothing has been said yet.
    pub(super) fn new(commands: Commands, control: Option<ControlHandle>) -> Self {
        Self {
            commands,
            control,
            rights_told: Vec::new(),
            drain: Drain::None,
        }
    }

    /// The next command, if there is one.
    pub(super) fn next(&self) -> Option<ShardCommand> {
        self.commands.next()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// The shard is switching to other rights: that is told when it has.
    pub(super) fn await_rights(&mut self, done: Done) {
        self.rights_told.push(done);
    }

    /// The shard is to have no connections before long: that is told when it has none.
    pub(super) fn await_drain(&mut self) {
        if self.drain == Drain::None {
            self.drain = Drain::UnderWay;
        }
    }

    /// Tells what is to be told at the end of a turn. `is_vacant`: no socket is open.
    pub(super) fn report(&mut self, shard: &mut Shard, is_vacant: bool) {
        self.report_usage(shard);
        // A change of rights is done when nobody is left whom it closes.
        if !shard.is_switching_rights() {
            self.rights_told.drain(..).for_each(Done::done);
        }
        if self.drain == Drain::UnderWay && is_vacant {
            self.drain = Drain::Reported;
            self.commands.report_drained();
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
