//! What the shards of the old process are asked, and heard within a time.

use std::os::fd::OwnedFd;
use std::time::Instant;

use crate::runtime::boot::ShardsHandle;
use crate::runtime::command::{Done, Exported, HandCommand, ShardCommand};
use crate::shard::handover::Waves;

/// What a shard says that has not answered.
const SILENT: &str = "a shard did not answer in time";

impl ShardsHandle {
    /// Asks each shard something, and returns their answers in the order of the shards.
    fn hear_all<T>(
        &self,
        deadline: Instant,
        command: impl Fn(flume::Sender<T>) -> HandCommand,
    ) -> Result<Vec<T>, String> {
        let ask = |shard| {
            let (sender, receiver) = flume::bounded(1);
            self.tell(shard, ShardCommand::Hand(command(sender)));
            receiver
        };
        let asked: Vec<_> = (0..self.count()).map(ask).collect();
        let hear = |answer: flume::Receiver<T>| answer.recv_deadline(deadline);
        let heard: Result<_, _> = asked.into_iter().map(hear).collect();
        heard.map_err(|_| SILENT.to_owned())
    }

    /// Tells each shard something. Returns whether all have done it in time.
    fn done_by_all(&self, deadline: Instant, command: impl Fn(Done) -> HandCommand) -> bool {
        let (done, heard) = Done::pair();
        for shard in 0..self.count() {
            self.tell(shard, ShardCommand::Hand(command(done.clone())));
        }
        drop(done);
        (0..self.count()).all(|_| heard.recv_deadline(deadline).is_ok())
    }

    /// Copies of all listeners' descriptors, each with whether it speaks TLS.
    pub(super) fn listeners(&self, deadline: Instant) -> Result<Vec<(OwnedFd, bool)>, String> {
        let mut all = Vec::new();
        for listeners in self.hear_all(deadline, HandCommand::Listeners)? {
            let listeners = listeners.map_err(|error| format!("the listeners: {error}"))?;
            all.extend(listeners);
        }
        Ok(all)
    }

    /// Nobody is served any more.
    pub(super) fn freeze(&self, deadline: Instant) -> Result<(), String> {
        let all = self.done_by_all(deadline, HandCommand::Freeze);
        all.then_some(()).ok_or_else(|| SILENT.to_owned())
    }

    /// Asks all frozen shards, as one wave. Returns whether nothing is on its way.
    pub(super) fn ask_quiet(&self, waves: &mut Waves, deadline: Instant) -> Result<bool, String> {
        let answers = self.hear_all(deadline, HandCommand::AskQuiet)?;
        Ok(waves.is_over(answers))
    }

    /// What quiet shards hand over, in their order. They do nothing from then on.
    pub(super) fn export(&self, deadline: Instant) -> Result<Vec<Exported>, String> {
        let exported = self.hear_all(deadline, HandCommand::Export)?;
        exported.into_iter().collect()
    }

    /// All are served again, however far it had come.
    pub(super) fn thaw(&self, deadline: Instant) -> bool {
        self.done_by_all(deadline, HandCommand::Thaw)
    }
}
