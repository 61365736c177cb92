//! The shards as the control plane sees them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::control::{Later, Shards};
use crate::domain::rights::Rights;
use crate::metrics::ShardSnapshot;
use crate::metrics::report::{LatencyReports, NodeReport};
use crate::metrics::text::{Kind, MetricsPage, append_shards};
use crate::runtime::boot::ShardsHandle;
use crate::runtime::clock::Clock;
use crate::runtime::memory::Memory;
use crate::runtime::process::{Process, ProcessUsage};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Running shards, as something the control plane can switch and ask.
#[derive(Debug)]
pub struct ControlLink {
    shards: ShardsHandle,
    draining: Arc<AtomicBool>,
    process: Process,
    memory: Arc<Memory>,
}

impl ControlLink {
    /// Links running shards. `draining` says that the process no longer takes connections;
    /// `clock` was started with it.
    #[must_use]
    pub fn new(
        shards: ShardsHandle,
        draining: Arc<AtomicBool>,
        clock: Clock,
        memory: Arc<Memory>,
    ) -> Self {
        Self {
            shards,
            draining,
            process: Process::since(clock),
            memory,
        }
    }

    async fn snapshots(&self) -> Vec<ShardSnapshot> {
        let receiver = self.shards.stats();
        let mut all = Vec::new();
        while let Ok(snapshot) = receiver.recv_async().await {
            all.push(snapshot);
        }
        all.sort_by_key(|snapshot| snapshot.shard);
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

    fn stats(&self) -> Later<'_, NodeReport> {
        Box::pin(async move {
            let all = self.snapshots().await;
            let latencies = all.iter().map(|snapshot| &snapshot.metrics.latencies);
            NodeReport {
                version: VERSION.to_owned(),
                process: ProcessUsage::read(&self.process).report(),
                latencies: LatencyReports::merged(latencies),
                shards: all.iter().map(Into::into).collect(),
            }
        })
    }

    fn metrics(&self) -> Later<'_, MetricsPage> {
        Box::pin(async move {
            let mut page = MetricsPage::default();
            page.metric(Kind::Gauge, "build_info", "1, with the version.");
            page.sample("build_info", &[("version", VERSION.to_owned())], 1);
            ProcessUsage::read(&self.process).append(&mut page);
            page.single(
                Kind::Gauge,
                "memory_ceiling_bytes",
                "What process_resident_memory_bytes is held below.",
                self.memory.ceiling_bytes(),
            );
            append_shards(&mut page, &self.snapshots().await);
            page
        })
    }

    fn unready(&self) -> Option<String> {
        self.draining
            .load(Ordering::Acquire)
            .then(|| "the server is shutting down".into())
    }
}
