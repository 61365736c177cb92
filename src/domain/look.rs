//! What operators ask to see of who is connected to what, and the rows that a shard finds.
//!
//! A shard finds the best rows of a list, not all of them: so many as were asked for. The best of
//! all shards are among those that each has found.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::domain::app_id::AppTag;
use crate::ids::{ConnectionId, Seat};
use crate::proto::cidr::Cidr;
use crate::proto::pattern::Pattern;

/// Rows that may be asked for at once.
pub const ROWS_MAX: usize = 200;
/// Networks that are counted: more than a shard usually has connections.
pub const NETWORKS_MAX: usize = 65_536;
/// Channels of a connection that are named.
pub const NAMES_MAX: usize = 100;

/// What is asked.
#[derive(Clone, Debug)]
pub enum Look {
    /// Channels that somebody is in.
    Channels(Rows, ChannelOrder),
    /// One channel.
    Channel(AppTag, Box<str>),
    /// Peers in that channel, by name.
    Members(Rows, Box<str>),
    /// Connections.
    Connections(Rows, Filter, ConnectionOrder),
    /// Where the connections come from, whose peers have such names: all networks, whatever the
    /// limit is.
    Networks(Rows, Filter),
    /// Peers, by name.
    Peers(Rows),
    /// The connections of one peer, whatever else there is of it.
    Peer(AppTag, Box<str>),
}

/// Which rows of a list.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Of which app.
    pub app: AppTag,
    /// What their names match, if it matters.
    pub matching: Option<Pattern>,
    /// Names behind this one.
    pub after: Option<Box<str>>,
    /// How many, at most [`ROWS_MAX`].
    pub limit: usize,
}

/// Which connections.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// From there.
    pub address: Option<Cidr>,
    /// With that key.
    pub key: Option<Box<str>>,
}

/// Which channels come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelOrder {
    /// Those whose names do.
    Name,
    /// Those with most connections.
    Connections,
    /// Those with most publications.
    Rate,
}

/// Which connections come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionOrder {
    /// Those that were opened last.
    Newest,
    /// Those that were opened first.
    Oldest,
    /// Those for which most waits.
    Queue,
    /// Those that have been sent most.
    BytesOut,
    /// Those that have sent most messages.
    MessagesIn,
}

/// What a shard has found.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// What.
    pub rows: SeenRows,
    /// Slots that were looked at.
    pub walked: u64,
    /// Whether all were.
    pub is_complete: bool,
    /// Whether there are rows behind these.
    pub has_more: bool,
}

/// The rows that a shard has found, the best first.
#[derive(Clone, Debug, PartialEq)]
pub enum SeenRows {
    /// Channels that the shard owns.
    Channels(Vec<(Place, ChannelRow)>),
    /// The channel, if the shard owns it.
    Channel(Option<Box<ChannelState>>),
    /// Peers with connections of the shard.
    Peers(Vec<(Place, PeerRow)>),
    /// Connections of the shard.
    Connections(Vec<(Place, ConnectionRow)>),
    /// Networks from which connections of the shard come.
    Networks(Networks),
    /// Nothing was looked at: too much was asked before.
    Busy,
}

/// A place in an order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// More is better.
    pub number: Reverse<u64>,
    /// Among equals, names are in their order.
    pub name: Box<str>,
    /// Of things that have no names, what tells them apart.
    pub tie: u64,
}

/// A channel in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelRow {
    /// Peers in it.
    pub peers: u64,
    /// Connections of these.
    pub connections: u64,
    /// Publications in a thousand seconds.
    pub rate_milli: u64,
}

/// All that is known of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelState {
    /// As in a list.
    pub row: ChannelRow,
    /// Publications since somebody was in it.
    pub published: u64,
    /// Who has connections in it, and how many.
    pub homes: Vec<(Seat, u32)>,
    /// Connections on their way into it.
    pub joining: usize,
}

/// A peer in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerRow {
    /// The slots of its connections.
    pub connections: BTreeSet<u32>,
    /// What others are told of it: a JSON object.
    pub metadata: Option<Box<str>>,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionRow {
    /// Its number on its shard.
    pub id: ConnectionId,
    /// Whose it is.
    pub peer: Box<str>,
    /// What others are told of the peer.
    pub metadata: Option<Box<str>>,
    /// Where it comes from.
    pub address: IpAddr,
    /// What may be shown of its key's id.
    pub key: String,
    /// Since when, in Unix milliseconds.
    pub since_unix_ms: u64,
    /// Bytes of deliveries that wait for it.
    pub queued_bytes: u64,
    /// For how long its socket has taken nothing, in milliseconds.
    pub blocked_ms: u64,
    /// Why its input is held back, if it is.
    pub held: Option<&'static str>,
    /// Bytes that came.
    pub bytes_in: u64,
    /// Bytes that its socket took.
    pub bytes_out: u64,
    /// Messages that came.
    pub messages_in: u32,
    /// How many channels it is in.
    pub channels: usize,
    /// Names of these, up to [`NAMES_MAX`], where they were asked for.
    pub channel_names: Vec<Box<str>>,
    /// When its token ends, in Unix seconds.
    pub expires_sec: Option<u64>,
    /// How long ago bytes came last, in milliseconds.
    pub last_received_ms: u64,
}

/// How many connections come from each network: an IPv4 address, or 64 bits of an IPv6 address,
/// which is what counts as one for the rates of requests and connects.
///
/// A list of the best would not do here: a network that is in no shard's list may be the first when
/// all shards are summed. So all are kept, within a bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// By the first address of a network.
    pub connections: BTreeMap<IpAddr, u64>,
    /// Connections from networks for which there was no room.
    pub others: u64,
}

impl Networks {
    /// Counts a connection from that address.
    pub fn count(&mut self, address: IpAddr) {
        self.add(network_of(address), 1);
    }

    /// Adds connections of a network that was counted elsewhere.
    pub fn add(&mut self, network: IpAddr, connections: u64) {
        let has_room = self.connections.len() < NETWORKS_MAX;
        match self.connections.get_mut(&network) {
            Some(count) => *count += connections,
            None if has_room => {
                self.connections.insert(network, connections);
            }
            None => self.others += connections,
        }
    }
}

/// The first address of the network that an address counts as.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

impl Rows {
    /// Whether a name is wanted.
    #[must_use]
    pub fn want(&self, name: &str) -> bool {
        self.after.as_deref().is_none_or(|after| name > after)
            && self.matching.as_ref().is_none_or(|it| it.matches(name))
    }
}

impl Place {
    /// A name among names.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        Self {
            number: Reverse(0),
            name: name.into(),
            tie: 0,
        }
    }
}

/// The best rows so far, as many as were asked for.
#[derive(Debug)]
pub struct Best<R> {
    rows: BTreeMap<Place, R>,
    limit: usize,
    has_more: bool,
}

impl<R> Best<R> {
    /// Room for so many.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            rows: BTreeMap::new(),
            limit,
            has_more: false,
        }
    }

    /// Whether a row with that number and name would be among the best. If not, there is more.
    pub fn admits(&mut self, number: u64, name: &str, tie: u64) -> bool {
        let is_among = self.is_among(number, name, tie);
        self.has_more |= !is_among;
        is_among
    }

    /// Whether a row with that number and name would be among the best.
    #[must_use]
    pub fn is_among(&self, number: u64, name: &str, tie: u64) -> bool {
        match self.rows.last_key_value() {
            Some((last, _)) if self.rows.len() >= self.limit => {
                (Reverse(number), name, tie) <= (last.number, &*last.name, last.tie)
            }
            last => last.is_some() || self.limit > 0,
        }
    }

    /// Whether there is more than what is kept.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.has_more
    }

    /// There is a row that is not among the best.
    pub fn note_more(&mut self) {
        self.has_more = true;
    }

    /// Adds a row, or replaces it.
    pub fn put(&mut self, place: Place, row: R) {
        self.rows.insert(place, row);
        self.cut();
    }

    /// The row at a place, made if it is not there. It must be among the best.
    pub fn at(&mut self, place: Place, new: impl FnOnce() -> R, change: impl FnOnce(&mut R)) {
        change(self.rows.entry(place).or_insert_with(new));
        self.cut();
    }

    fn cut(&mut self) {
        if self.rows.len() > self.limit {
            self.rows.pop_last();
            self.has_more = true;
        }
    }

    /// The rows, the best first, and whether there are more.
    #[must_use]
    pub fn into_rows(self) -> (Vec<(Place, R)>, bool) {
        (self.rows.into_iter().collect(), self.has_more)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_best_are_kept_whatever_comes_first(
            rows in prop::collection::vec((0u64..5, 0u64..20), 0..60),
            limit in 1usize..8,
        ) {
            let mut best = Best::new(limit);
            let name = |it: u64| format!("n{it:02}");
            for (number, of) in &rows {
                if best.admits(*number, &name(*of), 0) {
                    let place = Place {
                        number: Reverse(*number),
                        ..Place::of_name(&name(*of))
                    };
                    best.put(place, *of);
                }
            }
            let (found, has_more) = best.into_rows();
            let mut all: Vec<_> = rows.iter().map(|(number, of)| (Reverse(*number), *of)).collect();
            all.sort_unstable();
            all.dedup();
            prop_assert_eq!(has_more, all.len() > limit);
            all.truncate(limit);
            let found: Vec<_> = found.iter().map(|(place, of)| (place.number, *of)).collect();
            prop_assert_eq!(found, all);
        }
    }

    #[test]
    fn connections_are_counted_by_network_within_a_bound() {
        let mut networks = Networks::default();
        for (address, network, connections) in [
            ("10.0.0.1", "10.0.0.1", 1),
            ("10.0.0.2", "10.0.0.2", 1),
            ("::ffff:10.0.0.1", "10.0.0.1", 2),
            ("2001:db8:1:2:3::4", "2001:db8:1:2::", 1),
            ("2001:db8:1:2::5", "2001:db8:1:2::", 2),
            ("2001:db8:1:3::5", "2001:db8:1:3::", 1),
        ] {
            networks.count(address.parse().unwrap());
            let network: IpAddr = network.parse().unwrap();
            assert_eq!(networks.connections[&network], connections, "{address}");
        }
        for number in 0..=NETWORKS_MAX as u32 {
            networks.count(IpAddr::V4(number.into()));
        }
        assert_eq!(networks.connections.len(), NETWORKS_MAX);
        let all: u64 = networks.connections.values().sum();
        assert_eq!(all + networks.others, 6 + NETWORKS_MAX as u64 + 1);
        assert_eq!(networks.others, 5);
    }

    #[test]
    fn a_name_is_wanted_behind_another_and_by_its_pattern() {
        let rows = Rows {
            app: AppTag::of("a"),
            matching: Some(Pattern::parse("b*").unwrap()),
            after: Some("ba".into()),
            limit: 1,
        };
        for (name, wanted) in [("ba", false), ("bb", true), ("b", false), ("ca", false)] {
            assert_eq!(rows.want(name), wanted, "{name}");
        }
    }
}
