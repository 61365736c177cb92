//! How a shard with nothing to do waits: in its ring, where sockets, other threads and the next
//! deadline end the wait alike.

use std::io;
use std::time::Duration;

use super::ShardLoop;

/// Pause before trying a full mesh link again, if nothing else wakes the shard.
const LINK_RETRY: Duration = Duration::from_millis(1);

impl ShardLoop {
    /// Sleeps until there is something to do.
    pub(super) fn sleep(&mut self) -> io::Result<()> {
        self.wake.prepare_to_sleep();
        if self.mesh_in.is_empty() && self.commands.is_empty() {
            let timeout = self.until_next_deadline();
            self.ring.wait(timeout)?;
        }
        self.wake.awake();
        Ok(())
    }

    fn until_next_deadline(&self) -> Option<Duration> {
        let now_ms = self.clock.now().mono_ms;
        let paused = self.paused_listeners.iter().map(|(_, at)| *at).min();
        let deadlines = self.shard.next_deadline_ms().into_iter();
        let deadline_ms = deadlines.chain(paused).chain(self.next_fence_ms()).min();
        let timeout = deadline_ms.map(|at| Duration::from_millis(at.saturating_sub(now_ms)));
        if self.mesh_out.has_backlog() {
            return Some(timeout.map_or(LINK_RETRY, |timeout| timeout.min(LINK_RETRY)));
        }
        timeout
    }
}
