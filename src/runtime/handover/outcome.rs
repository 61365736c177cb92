//! How an attempt to hand over ends, and what the old process has to do then.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::channel::{Channel, ChannelError, Patience};
use super::messages::{Nothing, kind};
use super::stage::Stage;
use crate::control::HeldStore;

/// Another process serves: this one has to let go of what is left.
pub(in crate::runtime) struct Committed {
    pub pid: u32,
    pub version: String,
    pub pause: Duration,
    pub connections: u64,
    pub(super) channel: Channel,
    pub(super) held: HeldStore,
}

/// How an attempt has ended.
pub(in crate::runtime) enum Outcome {
    Committed(Committed),
    /// This process serves on.
    Abandoned {
        stage: Stage,
        cause: String,
    },
    /// The new process was ended after it had taken over: nobody serves.
    Lost,
}

/// Why an attempt does not go on.
pub(super) enum Trouble {
    /// The new process has ended, or its end of the channel is closed.
    Ended,
    Cause(String),
    Lost,
}

impl From<ChannelError> for Trouble {
    fn from(error: ChannelError) -> Self {
        match error {
            ChannelError::Ended => Self::Ended,
            error => Self::Cause(error.to_string()),
        }
    }
}

impl From<String> for Trouble {
    fn from(cause: String) -> Self {
        Self::Cause(cause)
    }
}

impl From<&str> for Trouble {
    fn from(cause: &str) -> Self {
        Self::Cause(cause.to_owned())
    }
}

impl Committed {
    /// Lets go of the store, which is the other process's from now on.
    pub(in crate::runtime) fn release_store(&mut self) {
        self.held.give_up();
        // It takes the end of the channel for the same.
        let _ = self
            .channel
            .send(kind::STORE_RELEASED, &Nothing {}, &[], soon());
    }

    /// Passes a signal to end on to the process that serves.
    pub(in crate::runtime) fn stop(&self) {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

/// A second, whatever happens.
pub(super) fn soon() -> Patience<'static> {
    Patience {
        deadline: Instant::now() + Duration::from_secs(1),
        is_over: &|| None,
    }
}
