//! The report of a node about itself: the body of `GET /api/internal/v1/stats`, which
//! `ringmesh stats` reads.
//!
//! Both ends use these types. A field that a server of another version does not send is 0 or
//! `None`, and one that is not known here is passed over.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::counters::Counters;
use super::label::{Label, Tally};
use super::latency::{Distribution, Latencies, Stage};
use super::snapshot::ShardSnapshot;

/// The report of one process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NodeReport {
    /// The version of the server.
    pub version: String,
    /// When it was made, Unix time in milliseconds.
    pub at: u64,
    /// Channels that connections are subscribed to, each counted for each of them.
    pub subscriptions: u64,
    /// How fast it goes, all shards together.
    pub rates: RatesReport,
    /// What takes memory.
    pub memory: MemoryReport,
    /// What the process takes of the machine.
    pub process: ProcessReport,
    /// Latencies of all shards together.
    pub latencies: LatencyReports,
    /// Each shard, in order of their numbers.
    pub shards: Vec<ShardReport>,
}

/// What a process takes of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ProcessReport {
    /// Time since the start, in milliseconds.
    pub uptime_ms: u64,
    /// CPU time of all threads, in milliseconds.
    pub cpu_ms: u64,
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
    /// What resident memory is held below, in bytes; `None` where the server does not say.
    pub resident_bytes_max: Option<u64>,
    /// Open file descriptors.
    pub open_files: u64,
    /// File descriptors that may be open; `None` is unlimited.
    pub open_files_max: Option<u64>,
    /// Connects that found a listen queue full; `None` where the kernel does not say.
    pub listen_overflows: Option<u64>,
}

/// One shard. The numbers of the moment are those of [`Gauges`](super::snapshot::Gauges).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ShardReport {
    pub shard: u16,
    /// CPU time of its thread, in milliseconds.
    pub cpu_ms: u64,
    pub connections: u64,
    pub connections_unauthenticated: u64,
    pub channels: u64,
    pub peers: u64,
    pub connections_blocked: u64,
    pub outbound_queue_bytes: u64,
    pub mesh_backlog_messages: u64,
    pub mesh_queue_batches: u64,
    pub history_channels: u64,
    pub history_bytes: u64,
    pub rights_version: u64,
    /// As of the node.
    pub subscriptions: u64,
    /// As of the node.
    pub rates: RatesReport,
    /// As of the node.
    pub memory: MemoryReport,
    /// Counts since the start.
    pub totals: TotalsReport,
    /// Latencies of this shard.
    pub latencies: LatencyReports,
}

/// Per second, over the last seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RatesReport {
    /// Text messages from clients.
    pub messages_in: f64,
    /// Copies of publications and direct messages.
    pub deliveries: f64,
    /// Bytes read from sockets.
    pub bytes_in: f64,
    /// Bytes that sockets took.
    pub bytes_out: f64,
    /// Connections that were accepted.
    pub opened: f64,
    /// Connections whose sockets are gone.
    pub closed: f64,
    /// Handshakes that were refused.
    pub refused: f64,
}

impl RatesReport {
    /// Each number's growth since an earlier one, in a second.
    #[must_use]
    pub(crate) fn since(&self, before: &Self, seconds: f64) -> Self {
        let rate = |now: f64, before: f64| (now - before).max(0.0) / seconds;
        Self {
            messages_in: rate(self.messages_in, before.messages_in),
            deliveries: rate(self.deliveries, before.deliveries),
            bytes_in: rate(self.bytes_in, before.bytes_in),
            bytes_out: rate(self.bytes_out, before.bytes_out),
            opened: rate(self.opened, before.opened),
            closed: rate(self.closed, before.closed),
            refused: rate(self.refused, before.refused),
        }
    }

    /// Adds another shard's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.messages_in += other.messages_in;
        self.deliveries += other.deliveries;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.opened += other.opened;
        self.closed += other.closed;
        self.refused += other.refused;
    }
}

/// Bytes, by what takes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct MemoryReport {
    /// Of the process; of a shard it is not known, and 0.
    pub resident: u64,
    /// What waits to be written to connections.
    pub outbound_queues: u64,
    /// What events have filled of their rings.
    pub events: u64,
}

/// Counts since the start, those of [`Counters`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct TotalsReport {
    pub connections_opened: u64,
    pub accept_pauses: TallyReport,
    pub unauthenticated_closed: u64,
    pub connections_closed: TallyReport,
    pub handshakes: u64,
    pub handshakes_refused: TallyReport,
    pub forwarded_untrusted: u64,
    pub messages_received: u64,
    pub messages_sent: u64,
    pub deliveries: u64,
    pub presence_sent: u64,
    pub replies: u64,
    pub history_recovered: u64,
    pub history_not_recovered: u64,
    pub history_replayed: u64,
    pub history_evicted: u64,
    pub history_ids_evicted: u64,
    pub history_numberings_evicted: u64,
    pub history_duplicates: u64,
    pub dropped: TallyReport,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub mesh_messages: u64,
    pub rest_requests: TallyReport,
    pub turns: u64,
    pub turns_cut_off: u64,
}

impl TotalsReport {
    /// Returns what [`RatesReport`] is about, as counts since the start.
    #[must_use]
    pub(crate) fn counts(&self) -> RatesReport {
        RatesReport {
            messages_in: self.messages_received as f64,
            deliveries: self.deliveries as f64,
            bytes_in: self.bytes_received as f64,
            bytes_out: self.bytes_sent as f64,
            opened: self.connections_opened as f64,
            closed: self.connections_closed.values().sum::<u64>() as f64,
            refused: self.handshakes_refused.values().sum::<u64>() as f64,
        }
    }
}

/// Labels that have occurred, and how often. Several label values are joined by a space.
pub(crate) type TallyReport = BTreeMap<String, u64>;

/// The distribution of every latency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct LatencyReports {
    pub handshake: DistributionReport,
    pub read_to_command: DistributionReport,
    pub command_to_order: DistributionReport,
    pub mesh_hop: DistributionReport,
    pub order_to_last_write: DistributionReport,
    pub fan_out: DistributionReport,
    pub direct: DistributionReport,
    pub reply: DistributionReport,
    pub snapshot: DistributionReport,
    pub loop_lag: DistributionReport,
    pub rest: DistributionReport,
}

/// Times in microseconds; `None` where nothing happened in the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DistributionReport {
    /// How many, since the start.
    pub count: u64,
    /// All of them together, since the start.
    pub sum_us: f64,
    /// The median.
    pub p50_us: Option<f64>,
    /// 90% took no longer.
    pub p90_us: Option<f64>,
    /// 99% took no longer.
    pub p99_us: Option<f64>,
    /// 99.9% took no longer.
    pub p999_us: Option<f64>,
    /// The longest.
    pub max_us: Option<f64>,
}

impl From<&ShardSnapshot> for ShardReport {
    fn from(snapshot: &ShardSnapshot) -> Self {
        let gauges = &snapshot.gauges;
        Self {
            shard: snapshot.shard,
            cpu_ms: snapshot.cpu_ns / 1_000_000,
            connections: gauges.connections as u64,
            connections_unauthenticated: gauges.connections_unauthenticated as u64,
            channels: gauges.channels as u64,
            peers: gauges.peers as u64,
            connections_blocked: gauges.connections_blocked as u64,
            outbound_queue_bytes: gauges.outbound_queue_bytes as u64,
            mesh_backlog_messages: gauges.mesh_backlog_messages as u64,
            mesh_queue_batches: gauges.mesh_queue_batches as u64,
            history_channels: gauges.history_channels as u64,
            history_bytes: gauges.history_bytes as u64,
            rights_version: gauges.rights_version,
            subscriptions: gauges.subscriptions,
            rates: RatesReport::default(),
            memory: MemoryReport {
                outbound_queues: gauges.outbound_queue_bytes as u64,
                ..MemoryReport::default()
            },
            totals: (&snapshot.metrics.counters).into(),
            latencies: LatencyReports::merged([&snapshot.metrics.latencies]),
        }
    }
}

impl From<&Counters> for TotalsReport {
    fn from(counters: &Counters) -> Self {
        Self {
            connections_opened: counters.connections_opened,
            accept_pauses: tally(&counters.accept_pauses),
            unauthenticated_closed: counters.unauthenticated_closed,
            connections_closed: tally(&counters.connections_closed),
            handshakes: counters.handshakes,
            handshakes_refused: tally(&counters.handshakes_refused),
            forwarded_untrusted: counters.forwarded_untrusted,
            messages_received: counters.messages_received,
            messages_sent: counters.messages_sent(),
            deliveries: counters.deliveries,
            presence_sent: counters.presence_sent,
            replies: counters.replies,
            history_recovered: counters.history_recovered,
            history_not_recovered: counters.history_not_recovered,
            history_replayed: counters.history_replayed,
            history_evicted: counters.history_evicted,
            history_ids_evicted: counters.history_ids_evicted,
            history_numberings_evicted: counters.history_numberings_evicted,
            history_duplicates: counters.history_duplicates,
            dropped: tally(&counters.dropped),
            bytes_received: counters.bytes_received,
            bytes_sent: counters.bytes_sent,
            mesh_messages: counters.mesh_sent,
            rest_requests: tally(&counters.rest_requests),
            turns: counters.turns,
            turns_cut_off: counters.turns_cut_off,
        }
    }
}

impl LatencyReports {
    /// Those of several shards together.
    #[must_use]
    pub(crate) fn merged<'a>(all: impl IntoIterator<Item = &'a Latencies> + Clone) -> Self {
        let of = |stage| DistributionReport::from(&Latencies::merged(all.clone(), stage));
        Self {
            handshake: of(Stage::Handshake),
            read_to_command: of(Stage::ReadToCommand),
            command_to_order: of(Stage::CommandToOrder),
            mesh_hop: of(Stage::MeshHop),
            order_to_last_write: of(Stage::OrderToLastWrite),
            fan_out: of(Stage::FanOut),
            direct: of(Stage::Direct),
            reply: of(Stage::Reply),
            snapshot: of(Stage::Snapshot),
            loop_lag: of(Stage::LoopLag),
            rest: of(Stage::Rest),
        }
    }

    /// One of them.
    #[must_use]
    pub(crate) fn get(&self, stage: Stage) -> &DistributionReport {
        match stage {
            Stage::Handshake => &self.handshake,
            Stage::ReadToCommand => &self.read_to_command,
            Stage::CommandToOrder => &self.command_to_order,
            Stage::MeshHop => &self.mesh_hop,
            Stage::OrderToLastWrite => &self.order_to_last_write,
            Stage::FanOut => &self.fan_out,
            Stage::Direct => &self.direct,
            Stage::Reply => &self.reply,
            Stage::Snapshot => &self.snapshot,
            Stage::LoopLag => &self.loop_lag,
            Stage::Rest => &self.rest,
        }
    }
}

impl From<&Distribution> for DistributionReport {
    fn from(of: &Distribution) -> Self {
        let [p50_us, p90_us, p99_us, p999_us, max_us] = match of.quantiles {
            Some(values) => values.map(|ns| Some(micros(ns))),
            None => [None; 5],
        };
        Self {
            count: of.count,
            sum_us: micros(of.sum_ns),
            p50_us,
            p90_us,
            p99_us,
            p999_us,
            max_us,
        }
    }
}

fn micros(ns: u64) -> f64 {
    ns as f64 / 1_000.0
}

fn tally<L: Label>(tally: &Tally<L>) -> TallyReport {
    let occurred = tally.iter().filter(|(_, count)| *count > 0);
    let members = occurred.map(|(label, count)| {
        let values: Vec<_> = label.pairs().into_iter().map(|(_, value)| value).collect();
        (values.join(" "), count)
    });
    members.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::label::{RestOutcome, Route};
    use super::super::snapshot::Gauges;
    use super::*;

    fn busy() -> ShardReport {
        let mut snapshot = ShardSnapshot {
            shard: 3,
            cpu_ns: 5_000_000,
            gauges: Gauges::default(),
            metrics: Box::default(),
        };
        snapshot.gauges.peers = 2;
        let metrics = &mut *snapshot.metrics;
        metrics.counters.rest_requests.add(RestOutcome {
            route: Route::MintToken,
            status: 201,
        });
        metrics.latencies.record(Stage::OrderToLastWrite, 32_000);
        (&snapshot).into()
    }

    #[test]
    fn a_shard_is_shown_with_totals_and_latencies() {
        let shown = serde_json::to_value(busy()).unwrap();
        assert_eq!((&shown["shard"], &shown["peers"]), (&json!(3), &json!(2)));
        assert_eq!(
            shown["totals"]["restRequests"],
            json!({"/v1/tokens 201": 1})
        );
        let write = &shown["latencies"]["orderToLastWrite"];
        assert_eq!(
            (&write["count"], &write["sumUs"]),
            (&json!(1), &json!(32.0))
        );
        let p999 = write["p999Us"].as_f64().unwrap();
        assert!((p999 / 32.0 - 1.0).abs() < 0.01);
        assert_eq!(shown["latencies"]["rest"]["maxUs"], Value::Null);
    }

    #[test]
    fn what_is_sent_is_what_is_read() {
        let sent = NodeReport {
            version: "1.2.3".into(),
            process: ProcessReport {
                uptime_ms: 5,
                open_files_max: Some(7),
                ..ProcessReport::default()
            },
            shards: vec![busy(), ShardReport::default()],
            ..NodeReport::default()
        };
        let text = serde_json::to_string(&sent).unwrap();
        assert_eq!(serde_json::from_str::<NodeReport>(&text).unwrap(), sent);
    }

    #[test]
    fn a_server_of_another_version_is_read_too() {
        let text = r#"{"version": "9", "news": [1], "shards": [{"latencies": {"news": {}}}]}"#;
        let report: NodeReport = serde_json::from_str(text).unwrap();
        assert_eq!(report.version, "9");
        assert_eq!(report.shards, [ShardReport::default()]);
    }

    #[test]
    fn every_latency_is_found_under_its_name() {
        for stage in Stage::ALL {
            let mut latencies = Latencies::default();
            latencies.record(stage, 5_000);
            let reports = LatencyReports::merged([&latencies]);
            assert_eq!(reports.get(stage).count, 1, "{stage:?}");
            let shown = serde_json::to_value(reports).unwrap();
            let counts = shown.as_object().unwrap().iter();
            let counted: Vec<_> = counts.filter(|(_, it)| it["count"] == 1).collect();
            let [(name, _)] = counted[..] else {
                panic!("{stage:?}: {counted:?}");
            };
            assert_eq!(name.to_lowercase(), stage.name().replace('_', ""));
        }
    }
}
