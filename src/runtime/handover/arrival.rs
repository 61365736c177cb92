//! What the start of a new process gets from the old one, each part where it belongs.

use std::sync::Arc;

use super::lineage::Lineage;
use super::places::Inherited;
use super::successor::{Successor, Welcomed};
use crate::config::Config;
use crate::control::{ControlHandle, InheritedControl};
use crate::runtime::boot::RunningShards;
use crate::runtime::clock::Clock;
use crate::runtime::service::Service;

/// A start that goes on for another process; without one, an ordinary start.
#[derive(Default)]
pub(in crate::runtime) struct Arrival<'s> {
    from: Option<From<'s>>,
    control: Option<InheritedControl>,
    listeners: Option<Vec<Inherited>>,
    pub lineage: Arc<Lineage>,
}

struct From<'s> {
    successor: &'s Successor,
    welcomed: Welcomed,
    release_store: flume::Sender<()>,
}

impl<'s> Arrival<'s> {
    /// Says hello, if there is somebody to say it to, and gets what the start begins with.
    ///
    /// # Errors
    /// The old process has given up, or ended.
    pub(in crate::runtime) fn greet(
        successor: Option<&'s Successor>,
        shard_count: u16,
        config: &Config,
    ) -> Result<Self, String> {
        let Some(successor) = successor else {
            return Ok(Self::default());
        };
        let mut welcomed = successor.greet(shard_count)?;
        let (release_store, store_released) = flume::bounded(1);
        let admin = welcomed.admin.take().zip(config.admin.listen);
        Ok(Self {
            control: Some(InheritedControl {
                store_copy: std::mem::take(&mut welcomed.store_copy),
                store_released,
                admin,
            }),
            listeners: Some(std::mem::take(&mut welcomed.listeners)),
            lineage: Arc::new(std::mem::take(&mut welcomed.lineage)),
            from: Some(From {
                successor,
                welcomed,
                release_store,
            }),
        })
    }

    /// The clock, which goes on for that of the old process.
    pub(in crate::runtime) fn clock(&self) -> Clock {
        let from = self.from.as_ref();
        from.map_or_else(Clock::start, |from| from.welcomed.clock)
    }

    /// What the control plane goes on with.
    pub(in crate::runtime) fn take_control(&mut self) -> Option<InheritedControl> {
        self.control.take()
    }

    /// The listeners.
    pub(in crate::runtime) fn take_listeners(&mut self) -> Option<Vec<Inherited>> {
        self.listeners.take()
    }

    /// Takes over, if there is somebody to take over from. The server serves when this returns.
    ///
    /// # Errors
    /// The old process serves on.
    pub(in crate::runtime) fn take_over(
        self,
        shards: &RunningShards,
        control: &ControlHandle,
        service: &Service,
    ) -> Result<(), String> {
        let Some(from) = self.from else {
            service.ready();
            return Ok(());
        };
        if shards.handle().keeps_on_disk() {
            return Err("history is to be kept on disk, which begins with a restart".to_owned());
        }
        let adoptions = shards.adoptions();
        let (successor, welcomed) = (from.successor, &from.welcomed);
        successor.take_over(welcomed, adoptions, control, &self.lineage)?;
        control.set_serving(true);
        let service = service.clone();
        let settled = move || service.ready();
        if let Err(error) = successor.settle(from.release_store, settled) {
            // The store is opened at once: the old process lets go of it soon.
            tracing::error!("upgrade: no thread can be started: {error}");
        }
        Ok(())
    }
}
