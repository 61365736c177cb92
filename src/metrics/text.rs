//! Prometheus' text exposition format, version 0.0.4.

use std::fmt::{Display, Write};

use super::counters::Counters;
use super::label::{Label, Tally};
use super::latency::{Distribution, Latencies, QUANTILES, Stage};
use super::snapshot::{Gauges, HistoryDisk, ShardSnapshot};

/// What every name begins with.
const PREFIX: &str = "ringmesh_";

/// A metrics page that is being written.
#[derive(Debug, Default)]
pub(crate) struct MetricsPage(String);

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only grows, until the process ends.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Quantiles, count and sum.
    Summary,
}

impl MetricsPage {
    /// Begins a metric: its samples follow. `name` without the prefix.
    pub(crate) fn metric(&mut self, kind: Kind, name: &str, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Summary => "summary",
        };
        // Writing into a string cannot fail, here and below.
        let _ = writeln!(self.0, "# HELP {PREFIX}{name} {help}");
        let _ = writeln!(self.0, "# TYPE {PREFIX}{name} {kind}");
    }

    /// Appends a sample. Label values are our own texts: none has to be escaped.
    pub(crate) fn sample(&mut self, name: &str, labels: &[(&str, String)], value: impl Display) {
        self.0 += PREFIX;
        self.0 += name;
        for (at, (label, text)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{label}=\"{text}\"");
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    /// A metric with one sample.
    pub(crate) fn single(&mut self, kind: Kind, name: &str, help: &str, value: impl Display) {
        self.metric(kind, name, help);
        self.sample(name, &[], value);
    }

    fn summary(&mut self, name: &str, labels: &[(&'static str, String)], of: &Distribution) {
        for (at, quantile) in QUANTILES.iter().enumerate() {
            let mut labels = labels.to_vec();
            labels.push(("quantile", quantile.to_string()));
            match of.quantiles {
                Some(values) => self.sample(name, &labels, Seconds(values[at])),
                None => self.sample(name, &labels, "NaN"),
            }
        }
        self.sample(&format!("{name}_sum"), labels, Seconds(of.sum_ns));
        self.sample(&format!("{name}_count"), labels, of.count);
    }

    /// Returns the text of the page.
    #[must_use]
    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

/// Nanoseconds, shown as seconds.
struct Seconds(u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const PER_SEC: u64 = 1_000_000_000;
        write!(f, "{}.{:09}", self.0 / PER_SEC, self.0 % PER_SEC)
    }
}

/// Appends everything that shards tell.
pub(crate) fn append_shards(page: &mut MetricsPage, all: &[ShardSnapshot]) {
    append_gauges(page, all);
    append_cpu(page, all);
    append_counters(page, all);
    append_histories(page, all);
    append_history_disk(page, all);
    append_tallies(page, all);
    append_latencies(page, all);
}

fn shard_label(snapshot: &ShardSnapshot) -> (&'static str, String) {
    ("shard", snapshot.shard.to_string())
}

fn append_gauges(page: &mut MetricsPage, all: &[ShardSnapshot]) {
    type Gauge = (&'static str, &'static str, fn(&Gauges) -> u64);
    let gauges: [Gauge; 9] = [
        ("connections", "Connections now.", |it| {
            it.connections as u64
        }),
        (
            "connections_unauthenticated",
            "Connections that have not shown a good credential.",
            |it| it.connections_unauthenticated as u64,
        ),
        ("channels", "Channels with subscribers.", |it| {
            it.channels as u64
        }),
        ("peers", "Connected peers.", |it| it.peers as u64),
        (
            "connections_blocked",
            "Connections whose sockets take no more for now.",
            |it| it.connections_blocked as u64,
        ),
        (
            "outbound_queue_bytes",
            "Bytes that wait to be written to connections.",
            |it| it.outbound_queue_bytes as u64,
        ),
        (
            "mesh_backlog_messages",
            "Messages for other shards, kept back because a link is full.",
            |it| it.mesh_backlog_messages as u64,
        ),
        (
            "mesh_queue_batches",
            "Batches from other shards that wait to be handled.",
            |it| it.mesh_queue_batches as u64,
        ),
        (
            "rights_version",
            "Version of the apps and keys that hold on the shard.",
            |it| it.rights_version,
        ),
    ];
    for (name, help, value) in gauges {
        page.metric(Kind::Gauge, name, help);
        for snapshot in all {
            page.sample(name, &[shard_label(snapshot)], value(&snapshot.gauges));
        }
    }
}

fn append_cpu(page: &mut MetricsPage, all: &[ShardSnapshot]) {
    let name = "shard_cpu_seconds_total";
    page.metric(Kind::Counter, name, "CPU time of the shard's thread.");
    for snapshot in all {
        page.sample(name, &[shard_label(snapshot)], Seconds(snapshot.cpu_ns));
    }
}

fn append_counters(page: &mut MetricsPage, all: &[ShardSnapshot]) {
    type Counter = (&'static str, &'static str, fn(&Counters) -> u64);
    let counters: [Counter; 14] = [
        ("connections_opened_total", "Connections accepted.", |it| {
            it.connections_opened
        }),
        ("handshakes_total", "WebSockets that were welcomed.", |it| {
            it.handshakes
        }),
        (
            "messages_received_total",
            "Text messages from clients.",
            |it| it.messages_received,
        ),
        (
            "messages_sent_total",
            "Text messages queued to clients: deliveries, presence, replies.",
            Counters::messages_sent,
        ),
        (
            "deliveries_total",
            "Copies of publications and direct messages queued to clients.",
            |it| it.deliveries,
        ),
        (
            "presence_sent_total",
            "Presence frames queued to clients.",
            |it| it.presence_sent,
        ),
        ("received_bytes_total", "Bytes read from sockets.", |it| {
            it.bytes_received
        }),
        ("sent_bytes_total", "Bytes that sockets took.", |it| {
            it.bytes_sent
        }),
        (
            "mesh_messages_total",
            "Messages sent to other shards.",
            |it| it.mesh_sent,
        ),
        ("loop_turns_total", "Turns of the shard's loop.", |it| {
            it.turns
        }),
        (
            "unauthenticated_closed_total",
            "Idle connections without a credential that were closed to make room.",
            |it| it.unauthenticated_closed,
        ),
        (
            "forwarded_untrusted_total",
            "Requests with X-Forwarded-For from who is not in server.trusted_proxies.",
            |it| it.forwarded_untrusted,
        ),
        (
            "loop_turns_cut_off_total",
            "Turns that left some of what had happened to sockets to the next one.",
            |it| it.turns_cut_off,
        ),
        ("replies_total", "Answers to clients' own messages.", |it| {
            it.replies
        }),
    ];
    for (name, help, value) in counters {
        page.metric(Kind::Counter, name, help);
        for snapshot in all {
            let value = value(&snapshot.metrics.counters);
            page.sample(name, &[shard_label(snapshot)], value);
        }
    }
}

/// What channels keep, and what becomes of it.
fn append_histories(page: &mut MetricsPage, all: &[ShardSnapshot]) {
    type Gauge = (&'static str, &'static str, fn(&ShardSnapshot) -> u64);
    let gauges: [Gauge; 3] = [
        (
            "history_channels",
            "Channels that keep publications.",
            |it| it.gauges.history_channels as u64,
        ),
        (
            "history_bytes",
            "Bytes that kept publications take in memory.",
            |it| it.gauges.history_bytes as u64,
        ),
        ("history_ceiling_bytes", "Bytes that they may take.", |it| {
            it.gauges.history_bytes_max as u64
        }),
    ];
    for (name, help, value) in gauges {
        page.metric(Kind::Gauge, name, help);
        for snapshot in all {
            page.sample(name, &[shard_label(snapshot)], value(snapshot));
        }
    }
    append_history_counters(page, all);
}

fn append_history_counters(page: &mut MetricsPage, all: &[ShardSnapshot]) {
    type Counter = (&'static str, &'static str, fn(&Counters) -> u64);
    let counters: [Counter; 7] = [
        (
            "history_recovered_total",
            "Subscribers that came back and have got all that they missed.",
            |it| it.history_recovered,
        ),
        (
            "history_not_recovered_total",
            "Subscribers that came back and were told that this is not kept.",
            |it| it.history_not_recovered,
        ),
        (
            "history_replayed_total",
            "Publications that were replayed to subscribers.",
            |it| it.history_replayed,
        ),
        (
            "history_evicted_total",
            "Publications that gave way because all histories took too much memory.",
            |it| it.history_evicted,
        ),
        (
            "history_ids_evicted_total",
            "Ids of publications that were forgotten before their time.",
            |it| it.history_ids_evicted,
        ),
        (
            "history_numberings_evicted_total",
            "Numberings that were forgotten because all histories took too much memory.",
            |it| it.history_numberings_evicted,
        ),
        (
            "history_duplicates_total",
            "Publications that were not published again, because their id was known.",
            |it| it.history_duplicates,
        ),
    ];
    for (name, help, value) in counters {
        page.metric(Kind::Counter, name, help);
        for snapshot in all {
            let value = value(&snapshot.metrics.counters);
            page.sample(name, &[shard_label(snapshot)], value);
        }
    }
}

/// What is kept on disk.
fn append_history_disk(page: &mut MetricsPage, all: &[ShardSnapshot]) {
    type Metric = (Kind, &'static str, &'static str, fn(&HistoryDisk) -> f64);
    let metrics: [Metric; 8] = [
        (
            Kind::Counter,
            "history_appended_bytes_total",
            "Bytes that were appended to history on disk.",
            |it| it.appended_bytes as f64,
        ),
        (
            Kind::Gauge,
            "history_disk_bytes",
            "Bytes of the segments of history on disk.",
            |it| it.stored_bytes as f64,
        ),
        (
            Kind::Gauge,
            "history_segments",
            "Segments of history on disk.",
            |it| it.segments as f64,
        ),
        (
            Kind::Counter,
            "history_syncs_total",
            "How often history was made durable.",
            |it| it.syncs as f64,
        ),
        (
            Kind::Counter,
            "history_sync_seconds_total",
            "The time that this took.",
            |it| it.sync_ns as f64 / 1e9,
        ),
        (
            Kind::Counter,
            "history_errors_total",
            "Writes and syncs of history that failed.",
            |it| it.errors as f64,
        ),
        (
            Kind::Gauge,
            "history_channels_behind",
            "Channels that are kept in memory only until the disk takes bytes again.",
            |it| it.channels_behind as f64,
        ),
        (
            Kind::Gauge,
            "history_failing",
            "1 while history cannot be written to disk.",
            |it| f64::from(u8::from(it.is_failing)),
        ),
    ];
    for (kind, name, help, value) in metrics {
        page.metric(kind, name, help);
        for snapshot in all {
            let value = value(&snapshot.gauges.history_disk);
            page.sample(name, &[shard_label(snapshot)], value);
        }
    }
}

fn append_tallies(page: &mut MetricsPage, all: &[ShardSnapshot]) {
    let mut tally = Tallies { page, all };
    tally.append(
        "connections_closed_total",
        "Connections ended, by close code; 1006: without one; http: never a WebSocket.",
        |it| &it.connections_closed,
    );
    tally.append(
        "accept_pauses_total",
        "Pauses in accepting, by cause.",
        |it| &it.accept_pauses,
    );
    tally.append(
        "handshakes_refused_total",
        "WebSockets refused, by cause.",
        |it| &it.handshakes_refused,
    );
    tally.append("dropped_total", "Messages dropped, by cause.", |it| {
        &it.dropped
    });
    tally.append(
        "rest_requests_total",
        "REST requests answered, by route and status.",
        |it| &it.rest_requests,
    );
}

struct Tallies<'p> {
    page: &'p mut MetricsPage,
    all: &'p [ShardSnapshot],
}

impl Tallies<'_> {
    fn append<L: Label>(&mut self, name: &str, help: &str, of: fn(&Counters) -> &Tally<L>) {
        self.page.metric(Kind::Counter, name, help);
        for snapshot in self.all {
            for (label, count) in of(&snapshot.metrics.counters).iter() {
                let mut labels = vec![shard_label(snapshot)];
                labels.extend(label.pairs());
                self.page.sample(name, &labels, count);
            }
        }
    }
}

/// Each shard's, and all shards' together: quantiles cannot be added up by whoever reads them.
fn append_latencies(page: &mut MetricsPage, all: &[ShardSnapshot]) {
    for stage in Stage::ALL {
        let name = format!("{}_seconds", stage.name());
        page.metric(Kind::Summary, &name, stage.help());
        for snapshot in all {
            let distribution = snapshot.metrics.latencies.distribution(stage);
            page.summary(&name, &[shard_label(snapshot)], &distribution);
        }
        let name = format!("node_{name}");
        let help = format!("All shards together: {}", stage.help());
        page.metric(Kind::Summary, &name, &help);
        let latencies = all.iter().map(|snapshot| &snapshot.metrics.latencies);
        page.summary(&name, &[], &Latencies::merged(latencies, stage));
    }
}

#[cfg(test)]
mod tests {
    use super::super::label::{EndedBy, RestOutcome, Route};
    use super::*;

    fn snapshot(shard: u16) -> ShardSnapshot {
        ShardSnapshot {
            shard,
            cpu_ns: 1_500_000_000,
            gauges: Gauges::default(),
            metrics: Box::default(),
        }
    }

    fn page(all: &[ShardSnapshot]) -> String {
        let mut page = MetricsPage::default();
        append_shards(&mut page, all);
        page.into_string()
    }

    #[test]
    fn numbers_have_their_names_and_labels() {
        let mut one = snapshot(0);
        one.gauges.connections = 3;
        let counters = &mut one.metrics.counters;
        counters.deliveries = 5;
        counters.replies = 2;
        counters.connections_closed.add(EndedBy::ABNORMAL);
        counters.rest_requests.add(RestOutcome {
            route: Route::Publish,
            status: 429,
        });
        let mut other = snapshot(1);
        other.metrics.latencies.record(Stage::Rest, 2_000_000_000);
        let text = page(&[one, other]);
        for line in [
            "# TYPE ringmesh_connections gauge",
            "ringmesh_connections{shard=\"0\"} 3",
            "ringmesh_connections{shard=\"1\"} 0",
            "# TYPE ringmesh_deliveries_total counter",
            "ringmesh_shard_cpu_seconds_total{shard=\"1\"} 1.500000000",
            "ringmesh_messages_sent_total{shard=\"0\"} 7",
            "ringmesh_connections_closed_total{shard=\"0\",code=\"1006\"} 1",
            "ringmesh_connections_closed_total{shard=\"1\",code=\"http\"} 0",
            "ringmesh_rest_requests_total{shard=\"0\",route=\"/v1/channels/{id}/publish\",\
             status=\"429\"} 1",
            "# TYPE ringmesh_rest_seconds summary",
            "ringmesh_rest_seconds{shard=\"0\",quantile=\"0.5\"} NaN",
            "ringmesh_rest_seconds_sum{shard=\"1\"} 2.000000000",
            "ringmesh_rest_seconds_count{shard=\"1\"} 1",
            "ringmesh_node_rest_seconds_count 1",
        ] {
            assert!(
                text.lines().any(|it| it == line),
                "{line} is not in\n{text}"
            );
        }
    }

    #[test]
    fn a_metric_is_declared_once_and_before_its_samples() {
        let text = page(&[snapshot(0), snapshot(1)]);
        let mut declared = Vec::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let name = rest.split(' ').next().unwrap();
                assert!(!declared.contains(&name), "{name} twice");
                declared.push(name);
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap();
                let name = name.trim_end_matches("_sum").trim_end_matches("_count");
                assert_eq!(declared.last(), Some(&name));
            }
        }
        assert_eq!(
            declared.len(),
            9 + 1 + 14 + 10 + 8 + 5 + 2 * Stage::ALL.len()
        );
    }
}
