//! The shards as the control plane sees them.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::control::{Later, Shards};
use crate::domain::rights::Rights;
use crate::runtime::boot::ShardsHandle;
use crate::runtime::command::ShardStats;

/// Running shards, as something the control plane can switch and ask.
#[derive(Debug)]
pub struct ControlLink {
    shards: ShardsHandle,
    draining: Arc<AtomicBool>,
}

impl ControlLink {
    /// Links running shards. `draining` says that the process no longer takes connections.
    #[must_use]
    pub fn new(shards: ShardsHandle, draining: Arc<AtomicBool>) -> Self {
        Self { shards, draining }
    }

    async fn shard_stats(&self) -> Vec<ShardStats> {
        let receiver = self.shards.stats();
        let mut all = Vec::new();
        while let Ok(stats) = receiver.recv_async().await {
            all.push(stats);
        }
        all.sort_by_key(|stats| stats.shard);
        all
    }
}

impl Shards for ControlLink {
    fn switch(&self, rights: Arc<Rights>) -> Later<'_, ()> {
        Box::pin(async move {
            let heard = self.shards.switch_rights(&rights);
            // Ends when every shard has answered, or is gone and has dropped its sender.
            while heard.recv_async().await.is_ok() {}
        })
    }

    fn stats(&self) -> Later<'_, Value> {
        Box::pin(async move {
            json!({
                "version": env!("CARGO_PKG_VERSION"),
                "shards": self.shard_stats().await,
            })
        })
    }

    fn metrics(&self) -> Later<'_, String> {
        Box::pin(async move {
            let all = self.shard_stats().await;
            let mut text = String::new();
            gauge(&mut text, "connections", "Connections now.", &all, |it| {
                it.connections
            });
            gauge(
                &mut text,
                "channels",
                "Channels with subscribers.",
                &all,
                |it| it.channels,
            );
            gauge(&mut text, "peers", "Connected peers.", &all, |it| it.peers);
            text
        })
    }

    fn unready(&self) -> Option<String> {
        self.draining
            .load(Ordering::Acquire)
            .then(|| "the server is shutting down".into())
    }
}

/// Appends one gauge of every shard in Prometheus' text format.
fn gauge(
    text: &mut String,
    name: &str,
    help: &str,
    all: &[ShardStats],
    value: impl Fn(&ShardStats) -> usize,
) {
    // Writing into a string cannot fail.
    let _ = writeln!(
        text,
        "# HELP ringmesh_{name} {help}\n# TYPE ringmesh_{name} gauge"
    );
    for stats in all {
        let _ = writeln!(
            text,
            "ringmesh_{name}{{shard=\"{}\"}} {}",
            stats.shard,
            value(stats)
        );
    }
}
