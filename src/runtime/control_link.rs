//! The shards as the control plane sees them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::control::events::Events;
use crate::control::{Kick, Later, Shards};
use crate::domain::app_id::AppTag;
use crate::domain::configuration::{ReloadReport, Setting};
use crate::domain::history_page::{HistoryAsked, HistoryTold};
use crate::domain::look::{Look, Seen};
use crate::domain::node_info::NodeInfo;
use crate::domain::rights::Rights;
use crate::domain::trace::Trace;
use crate::domain::upgrade::{UpgradeDone, UpgradeFailed};
use crate::events::author::Author;
use crate::events::kind::Keep;
use crate::ids::ShardId;
use crate::metrics::ShardSnapshot;
use crate::metrics::report::{LatencyReports, MemoryReport, NodeReport};
use crate::metrics::text::{Kind, MetricsPage, append_shards};
use crate::runtime::boot::ShardsHandle;
use crate::runtime::clock::{Clock, unix_ms};
use crate::runtime::handover::{Lineage, UpgradeRequests};
use crate::runtime::memory::Memory;
use crate::runtime::node::Node;
use crate::runtime::process::{Process, ProcessUsage};
use crate::runtime::rates::Rates;
use crate::runtime::reload_requests::ReloadRequests;
use crate::runtime::signals::Wish;
use crate::shard::query::{Answer, HistoryQuery, KickQuery, Query};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Running shards, as something the control plane can switch and ask.
#[derive(Debug)]
pub(super) struct ControlLink {
    shards: ShardsHandle,
    draining: Arc<AtomicBool>,
    process: Process,
    memory: Arc<Memory>,
    requests: ReloadRequests,
    upgrades: UpgradeRequests,
    wish: flume::Sender<Wish>,
    events: Arc<Events>,
    node: Node,
    lineage: Arc<Lineage>,
    rates: Rates,
}

impl ControlLink {
    /// Links running shards. `draining` says that the process no longer takes connections.
    #[must_use]
    pub(super) fn new(
        (shards, draining): (ShardsHandle, Arc<AtomicBool>),
        memory: Arc<Memory>,
        (requests, upgrades, wish): (ReloadRequests, UpgradeRequests, flume::Sender<Wish>),
        (events, node, lineage): (Arc<Events>, Node, Arc<Lineage>),
    ) -> Self {
        Self {
            shards,
            draining,
            // The clock of the shards may have been another process's.
            process: Process::since(Clock::start()),
            memory,
            requests,
            upgrades,
            wish,
            events,
            node,
            lineage,
            rates: Rates::default(),
        }
    }

    /// Adds what the shards do not know themselves, and their sums.
    fn complete(&self, report: &mut NodeReport) {
        report.memory = MemoryReport {
            resident: report.process.resident_bytes,
            events: self.events.filled_bytes(None),
            ..MemoryReport::default()
        };
        for shard in &mut report.shards {
            shard.memory.events = self.events.filled_bytes(Some(shard.shard));
            report.memory.events += shard.memory.events;
            report.memory.outbound_queues += shard.memory.outbound_queues;
            report.subscriptions += shard.subscriptions;
        }
        self.rates.fill(report);
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
    fn switch(&self, rights: Arc<Rights>) -> Later<'_, u64> {
        Box::pin(async move {
            self.events.learn(&rights);
            let heard = self.shards.switch_rights(&rights);
            // Ends when every shard has answered, or is gone and has dropped its sender.
            let mut closed = 0;
            while let Ok(count) = heard.recv_async().await {
                closed += count;
            }
            closed
        })
    }

    fn stats(&self) -> Later<'_, NodeReport> {
        Box::pin(async move {
            let all = self.snapshots().await;
            let latencies = all.iter().map(|snapshot| &snapshot.metrics.latencies);
            let mut report = NodeReport {
                version: VERSION.to_owned(),
                at: unix_ms(),
                process: ProcessUsage::read(&self.process).report(self.memory.ceiling_bytes()),
                latencies: LatencyReports::merged(latencies),
                shards: all.iter().map(Into::into).collect(),
                ..NodeReport::default()
            };
            self.complete(&mut report);
            report
        })
    }

    fn node(&self) -> NodeInfo {
        self.node.info()
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
            page.single(
                Kind::Gauge,
                "certificate_not_after_seconds",
                "Up to when the certificate in use is good, in seconds since 1970; 0: none.",
                self.node.certificate_end_unix().unwrap_or(0),
            );
            page.single(
                Kind::Counter,
                "events_stream_lost_total",
                "Events that readers of live streams were too slow for.",
                self.events.lost(),
            );
            self.lineage.append(&mut page);
            append_retained(&mut page, &self.events);
            append_shards(&mut page, &self.snapshots().await);
            page
        })
    }

    fn settings(&self) -> Vec<Setting> {
        self.requests.settings()
    }

    fn reload(&self, by: Author) -> Later<'_, Option<ReloadReport>> {
        Box::pin(async move { self.requests.ask(by).recv_async().await.ok() })
    }

    fn upgrade(&self) -> Later<'_, Option<Result<UpgradeDone, UpgradeFailed>>> {
        Box::pin(async move { self.upgrades.ask(&self.wish).recv_async().await.ok() })
    }

    fn events(&self) -> &Arc<Events> {
        &self.events
    }

    fn connected(&self, app: AppTag, peer: &str) -> Later<'_, u64> {
        let answers = self.shards.connected(app, peer);
        Box::pin(async move {
            let mut sum = 0;
            while let Ok(count) = answers.recv_async().await {
                sum += count;
            }
            sum
        })
    }

    fn kick(&self, kick: Kick) -> Later<'_, Option<u64>> {
        let (shard, connection) = match kick.connection {
            Some((shard, connection)) => (shard, Some(connection)),
            None => (ShardId(0), None),
        };
        let query = KickQuery {
            app: kick.app,
            peer: kick.peer.into(),
            connection,
            by: kick.by,
        };
        let answer = self.shards.ask(shard, Query::Kick(query));
        Box::pin(async move {
            match answer.recv_async().await {
                Ok(Answer::Kicked(closed)) => Some(closed),
                _ => None,
            }
        })
    }

    fn history(
        &self,
        app: AppTag,
        channel: &str,
        asked: HistoryAsked,
    ) -> Later<'_, Option<HistoryTold>> {
        let query = HistoryQuery {
            app,
            channel: channel.into(),
            asked,
        };
        let answer = self.shards.ask(ShardId(0), Query::History(query));
        Box::pin(async move {
            match answer.recv_async().await {
                Ok(Answer::History(told)) => Some(told),
                _ => None,
            }
        })
    }

    fn trace(&self, trace: Trace) -> Later<'_, bool> {
        let answers = self.shards.ask_all(&Query::Trace(Arc::new(trace)));
        Box::pin(async move {
            let mut do_all = true;
            for answer in answers {
                do_all &= matches!(answer.recv_async().await, Ok(Answer::Traces));
            }
            do_all
        })
    }

    fn look(&self, look: Look) -> Vec<(u16, Later<'_, Option<Seen>>)> {
        let answers = self.shards.ask_all(&Query::Look(look)).into_iter();
        let answers = answers.map(|answer| -> Later<'_, Option<Seen>> {
            Box::pin(async move {
                match answer.recv_async().await {
                    Ok(Answer::Seen(seen)) => Some(*seen),
                    _ => None,
                }
            })
        });
        (0..).zip(answers).collect()
    }

    fn unready(&self) -> Option<String> {
        self.draining
            .load(Ordering::Acquire)
            .then(|| "the server is shutting down".into())
    }
}

fn append_retained(page: &mut MetricsPage, events: &Events) {
    if !events.is_on() {
        return;
    }
    const NAME: &str = "events_retained_seconds";
    let help = "For how long back all events of a ring are there.";
    page.metric(Kind::Gauge, NAME, help);
    for (ring, keep) in [("ends", Keep::Ends), ("routine", Keep::Routine)] {
        let value = events.retained_sec(keep);
        page.sample(NAME, &[("ring", ring.to_owned())], value);
    }
}
