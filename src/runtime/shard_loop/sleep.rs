//! How a shard with nothing to do waits.

use std::time::Duration;

use futures_lite::future::or;
use glommio::timer::Timer;

use super::ShardLoop;

/// How long a shard without a mesh waits for its sockets alone before it goes to sleep in
/// glommio, which costs 14 calls of the kernel.
const LINGER: Duration = Duration::from_millis(2);
/// Pause before trying a full mesh link again, if nothing else wakes the shard.
const LINK_RETRY: Duration = Duration::from_millis(1);

impl ShardLoop {
    /// Sleeps until there is something to do. Answers whether glommio's other tasks have had
    /// their turn.
    pub(super) async fn sleep(&mut self) -> bool {
        let now = self.clock.now();
        let paused = self.paused_listeners.iter().map(|(_, at)| *at).min();
        let deadline_ms = self
            .shard
            .next_deadline_ms()
            .into_iter()
            .chain(paused)
            .chain(self.next_fence_ms())
            .min();
        let mut timeout =
            deadline_ms.map(|at| Duration::from_millis(at.saturating_sub(now.mono_ms)));
        if self.mesh_out.has_backlog() {
            timeout = Some(timeout.map_or(LINK_RETRY, |timeout| timeout.min(LINK_RETRY)));
        }
        // A mesh cannot wake a thread that the ring blocks.
        if !self.multiple_shards && self.ring.wait(timeout.map_or(LINGER, |it| it.min(LINGER))) {
            return false;
        }
        if self.ring.prepare_to_sleep() {
            self.ring.awake();
            return false;
        }
        self.sleep.wake();
        match timeout {
            None => self.wake.wait().await,
            Some(timeout) => {
                or(self.wake.wait(), async {
                    Timer::new(timeout).await;
                })
                .await;
            }
        }
        self.ring.awake();
        true
    }
}
