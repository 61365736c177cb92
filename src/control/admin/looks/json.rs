//! What is seen, as JSON.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::merge::Merged;
use crate::domain::look::{ChannelRow, ConnectionRow, Networks, ROWS_MAX, Rows};

/// Bytes of an answer.
const BYTES_MAX: usize = 256 * 1_024;

/// A list that ends at its limit, or when the answer is long.
struct List {
    rows: Vec<Value>,
    limit: usize,
    bytes: usize,
    /// The last name.
    last: Option<String>,
    /// Rows that have no place in it.
    is_cut: bool,
}

impl List {
    fn new(limit: usize) -> Self {
        Self {
            rows: Vec::new(),
            limit,
            bytes: 0,
            last: None,
            is_cut: false,
        }
    }

    fn push(&mut self, name: &str, row: Value) {
        let bytes = self.bytes + row.to_string().len();
        let is_too_long = bytes > BYTES_MAX && !self.rows.is_empty();
        self.is_cut |= self.rows.len() >= self.limit || is_too_long;
        if !self.is_cut {
            self.bytes = bytes;
            self.rows.push(row);
            self.last = Some(name.to_owned());
        }
    }

    /// The name to go on behind, if there is more.
    fn next(&self, has_more: bool) -> Option<&str> {
        let last = self.last.as_deref();
        last.filter(|_| self.is_cut || has_more)
    }
}

/// The answer for a list of channels. Only lists by name can be gone on with.
pub(super) fn channels(merged: Merged, asked: &Rows, is_paged: bool) -> Value {
    let mut list = List::new(asked.limit);
    let mut names = HashSet::new();
    for (place, row) in merged.channels {
        // A channel may have been met twice, with other numbers.
        if names.insert(place.name.clone()) {
            list.push(&place.name, channel_row(&place.name, &row));
        }
    }
    let next = list.next(merged.has_more).filter(|_| is_paged);
    json!({
        "next": next,
        "channels": list.rows,
        "walked": merged.walked,
        "complete": merged.is_complete,
    })
}

fn channel_row(name: &str, row: &ChannelRow) -> Value {
    json!({
        "channel": name,
        "peers": row.peers,
        "connections": row.connections,
        "rate": rate(row.rate_milli),
    })
}

/// A second's publications, of those of a thousand.
fn rate(milli: u64) -> f64 {
    milli as f64 / 1_000.0
}

/// The answer for one channel, if somebody is in it.
pub(super) fn channel(merged: &Merged, name: &str) -> Option<Value> {
    let (owner, state) = merged.channel.as_ref()?;
    let homes = state
        .homes
        .iter()
        .map(|(seat, connections)| json!({ "shard": seat.shard().0, "connections": connections }));
    let mut body = channel_row(name, &state.row);
    body["published"] = state.published.into();
    body["owner"] = (*owner).into();
    body["homes"] = homes.collect();
    body["joining"] = state.joining.into();
    Some(body)
}

/// The answer for the members of a channel.
pub(super) fn members(merged: Merged, asked: &Rows) -> Value {
    let mut list = List::new(asked.limit);
    for (place, sum) in merged.peers {
        let mut row = json!({ "peerId": place.name, "connections": sum.connections });
        if let Some(metadata) = sum.metadata {
            row["metadata"] = object(&metadata);
        }
        list.push(&place.name, row);
    }
    json!({
        "next": list.next(merged.has_more),
        "members": list.rows,
        "walked": merged.walked,
        "complete": merged.is_complete,
    })
}

/// The answer for a list of peers.
pub(super) fn peers(merged: Merged, asked: &Rows) -> Value {
    let mut list = List::new(asked.limit);
    for (place, sum) in merged.peers {
        let row = json!({ "peerId": place.name, "connections": sum.connections });
        list.push(&place.name, row);
    }
    json!({
        "next": list.next(merged.has_more),
        "peers": list.rows,
        "walked": merged.walked,
        "complete": merged.is_complete,
    })
}

/// The answer for a list of connections.
pub(super) fn connections(merged: Merged, limit: usize) -> Value {
    let mut list = List::new(limit);
    for ((place, shard), row) in &merged.connections {
        list.push(&place.name, connection(*shard, row));
    }
    json!({
        "connections": list.rows,
        "walked": merged.walked,
        "complete": merged.is_complete,
    })
}

/// The answer for where connections come from: where most do first.
pub(super) fn networks(merged: Merged, limit: usize) -> Value {
    let Networks {
        connections,
        others,
    } = merged.networks;
    let distinct = connections.len();
    let mut rows: Vec<_> = connections.into_iter().collect();
    rows.sort_by_key(|(network, connections)| (Reverse(*connections), *network));
    let row = |(network, connections): (IpAddr, u64)| {
        let network = match network {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("{address}/64"),
        };
        json!({ "address": network, "connections": connections })
    };
    json!({
        "addresses": rows.into_iter().take(limit).map(row).collect::<Vec<_>>(),
        "distinct": distinct,
        "walked": merged.walked,
        "complete": merged.is_complete && others == 0,
    })
}

fn connection(shard: u16, row: &ConnectionRow) -> Value {
    json!({
        "connection": format!("{shard}.{}.{}", row.id.slot, row.id.generation),
        "peerId": row.peer,
        "address": row.address.to_string(),
        "key": row.key,
        "since": row.since_unix_ms / 1_000,
        "queuedBytes": row.queued_bytes,
        "blockedMs": row.blocked_ms,
        "held": row.held,
        "bytesIn": row.bytes_in,
        "bytesOut": row.bytes_out,
        "messagesIn": row.messages_in,
        "channels": row.channels,
    })
}

/// The answer for one peer, whether it is connected or not.
pub(super) fn peer(merged: Merged, id: &str, last_closed: Value) -> Value {
    let mut list = List::new(ROWS_MAX);
    let mut metadata = None;
    for ((place, shard), row) in &merged.connections {
        let mut shown = connection(*shard, row);
        shown["expiresAt"] = row.expires_sec.into();
        shown["lastReceivedMs"] = row.last_received_ms.into();
        shown["channelCount"] = row.channels.into();
        shown["channels"] = json!(row.channel_names);
        metadata = metadata.or(row.metadata.as_deref());
        list.push(&place.name, shown);
    }
    json!({
        "peerId": id,
        "metadata": metadata.map(object),
        "complete": merged.is_complete && !list.is_cut && !merged.has_more,
        "connections": list.rows,
        "lastClosed": last_closed,
    })
}

/// Metadata was a JSON object in a token.
fn object(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}
