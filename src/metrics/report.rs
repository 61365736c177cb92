//! The metrics as JSON: what `GET /api/internal/v1/stats` shows of each shard.

use serde_json::{Map, Value, json};

use super::label::{Label, Tally};
use super::latency::{Distribution, Latencies, Stage};
use super::snapshot::ShardSnapshot;

/// One shard.
#[must_use]
pub fn shard(snapshot: &ShardSnapshot) -> Value {
    let (gauges, counters) = (&snapshot.gauges, &snapshot.metrics.counters);
    json!({
        "shard": snapshot.shard,
        "cpuMs": snapshot.cpu_ns / 1_000_000,
        "connections": gauges.connections,
        "connectionsUnauthenticated": gauges.connections_unauthenticated,
        "channels": gauges.channels,
        "peers": gauges.peers,
        "connectionsBlocked": gauges.connections_blocked,
        "outboundQueueBytes": gauges.outbound_queue_bytes,
        "meshBacklogMessages": gauges.mesh_backlog_messages,
        "meshQueueBatches": gauges.mesh_queue_batches,
        "rightsVersion": gauges.rights_version,
        "totals": {
            "connectionsOpened": counters.connections_opened,
            "acceptPauses": tally(&counters.accept_pauses),
            "unauthenticatedClosed": counters.unauthenticated_closed,
            "connectionsClosed": tally(&counters.connections_closed),
            "handshakes": counters.handshakes,
            "handshakesRefused": tally(&counters.handshakes_refused),
            "messagesReceived": counters.messages_received,
            "messagesSent": counters.messages_sent(),
            "deliveries": counters.deliveries,
            "presenceSent": counters.presence_sent,
            "replies": counters.replies,
            "dropped": tally(&counters.dropped),
            "bytesReceived": counters.bytes_received,
            "bytesSent": counters.bytes_sent,
            "meshMessages": counters.mesh_sent,
            "restRequests": tally(&counters.rest_requests),
            "turns": counters.turns,
            "turnsCutOff": counters.turns_cut_off,
        },
        "latencies": latencies([&snapshot.metrics.latencies]),
    })
}

/// Every stage on several shards together.
#[must_use]
pub fn latencies<'a>(all: impl IntoIterator<Item = &'a Latencies> + Clone) -> Value {
    let stages = Stage::ALL.map(|stage| {
        let of = Latencies::merged(all.clone(), stage);
        (camel_case(stage.name()), distribution(&of))
    });
    Value::Object(stages.into_iter().collect())
}

/// Times in microseconds; `null` where nothing happened in the last minute.
fn distribution(of: &Distribution) -> Value {
    let quantile = |at: usize| of.quantiles.map(|values| micros(values[at]));
    json!({
        "count": of.count,
        "sumUs": micros(of.sum_ns),
        "p50Us": quantile(0),
        "p90Us": quantile(1),
        "p99Us": quantile(2),
        "p999Us": quantile(3),
        "maxUs": quantile(4),
    })
}

fn micros(ns: u64) -> f64 {
    ns as f64 / 1_000.0
}

/// Labels that have occurred, and how often. Several label values are joined by a space.
fn tally<L: Label>(tally: &Tally<L>) -> Value {
    let occurred = tally.iter().filter(|(_, count)| *count > 0);
    let members = occurred.map(|(label, count)| {
        let values: Vec<_> = label.pairs().into_iter().map(|(_, value)| value).collect();
        (values.join(" "), count.into())
    });
    Value::Object(members.collect::<Map<_, _>>())
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |text, word| {
        let (initial, rest) = word.split_at(1);
        text + &initial.to_uppercase() + rest
    })
}

#[cfg(test)]
mod tests {
    use super::super::label::{RestOutcome, Route};
    use super::super::snapshot::Gauges;
    use super::*;

    #[test]
    fn a_shard_is_shown_with_totals_and_latencies() {
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
        let shown = shard(&snapshot);
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
}
