//! What all shards have found, as one.

use std::collections::BTreeMap;

use crate::domain::look::{
    ChannelRow, ChannelState, ConnectionRow, Networks, Place, Seen, SeenRows,
};

/// A peer on all shards.
#[derive(Debug, Default)]
pub(super) struct PeerSum {
    pub connections: u64,
    pub metadata: Option<Box<str>>,
}

/// The rows of all shards that have answered, the best first.
#[derive(Debug)]
pub(super) struct Merged {
    pub channels: BTreeMap<Place, ChannelRow>,
    /// The channel that was asked for, and who owns it.
    pub channel: Option<(u16, Box<ChannelState>)>,
    pub peers: BTreeMap<Place, PeerSum>,
    /// Each with its shard.
    pub connections: BTreeMap<(Place, u16), ConnectionRow>,
    pub networks: Networks,
    pub walked: u64,
    pub is_complete: bool,
    /// Whether a shard has rows behind those that it has told.
    pub has_more: bool,
}

impl Default for Merged {
    fn default() -> Self {
        Self {
            channels: BTreeMap::new(),
            channel: None,
            peers: BTreeMap::new(),
            connections: BTreeMap::new(),
            networks: Networks::default(),
            walked: 0,
            is_complete: true,
            has_more: false,
        }
    }
}

impl Merged {
    /// Adds what a shard has found.
    pub(super) fn add(&mut self, shard: u16, seen: Seen) {
        self.walked += seen.walked;
        self.is_complete &= seen.is_complete;
        self.has_more |= seen.has_more;
        match seen.rows {
            SeenRows::Channels(rows) => self.channels.extend(rows),
            SeenRows::Channel(Some(state)) => self.channel = Some((shard, state)),
            SeenRows::Channel(None) | SeenRows::Busy => {}
            SeenRows::Peers(rows) => {
                for (place, row) in rows {
                    let sum = self.peers.entry(place).or_default();
                    sum.connections += row.connections.len() as u64;
                    sum.metadata = sum.metadata.take().or(row.metadata);
                }
            }
            SeenRows::Connections(rows) => {
                let rows = rows.into_iter();
                self.connections
                    .extend(rows.map(|(place, row)| ((place, shard), row)));
            }
            SeenRows::Networks(networks) => {
                for (network, connections) in networks.connections {
                    self.networks.add(network, connections);
                }
                self.networks.others += networks.others;
            }
        }
    }
}
