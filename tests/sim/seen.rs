//! What operators have been shown, held against what the clients know: see `looks`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ringmesh::domain::look::{
    ChannelOrder, ChannelRow, ChannelState, ConnectionRow, PeerRow, Place, Seen, SeenRows,
};
use ringmesh::ids::ConnectionId;

use crate::client::Client;
use crate::looks::{Asked, LeftOut, Names, Truth, What};
use crate::walk::Walk;

/// Where all clients connect from.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl Walk {
    /// All shards have answered: what is shown was there, once, and nothing is left out.
    pub(crate) fn check_seen(&mut self, asked: &Asked) {
        let seen = asked.seen.iter().flatten();
        if seen.clone().any(|it| it.rows == SeenRows::Busy) {
            self.world.meter.note("look", "Busy");
            return;
        }
        for (at, seen) in seen.clone().enumerate() {
            self.check_list(asked, seen);
            self.check_rows(asked, at, &seen.rows);
        }
        if seen.clone().all(|it| it.is_complete) {
            self.world.meter.note("look", name_of(&asked.what));
            self.note_left_out(asked);
        }
    }

    /// A list is in its order, as long as it may be, and has what was asked for.
    fn check_list(&self, asked: &Asked, seen: &Seen) {
        let places: Vec<&Place> = match &seen.rows {
            SeenRows::Channels(rows) => rows.iter().map(|(place, _)| place).collect(),
            SeenRows::Peers(rows) => rows.iter().map(|(place, _)| place).collect(),
            SeenRows::Connections(rows) => rows.iter().map(|(place, _)| place).collect(),
            SeenRows::Channel(_) | SeenRows::Networks(_) | SeenRows::Busy => return,
        };
        let is_rising = places.windows(2).all(|it| it[0] < it[1]);
        assert!(is_rising, "a list is out of order, or has a row twice");
        let Some(names) = asked.what.names() else {
            return;
        };
        assert!(places.len() <= names.limit, "a list is too long");
        let is_cut = seen.has_more && seen.is_complete;
        assert!(!is_cut || places.len() == names.limit, "a list ends early");
        for place in places {
            assert!(names.want(&place.name), "{} was not wanted", place.name);
        }
    }

    /// What a shard shows is, or was.
    fn check_rows(&mut self, asked: &Asked, at: usize, rows: &SeenRows) {
        match rows {
            SeenRows::Channels(rows) => {
                for (place, row) in rows {
                    self.check_channel(asked, at, &place.name, row);
                }
            }
            SeenRows::Channel(Some(state)) => {
                let What::Channel(channel) = &asked.what else {
                    panic!("nobody asked for one channel");
                };
                self.check_channel(asked, at, &format!("room-{channel}"), &state.row);
            }
            SeenRows::Peers(rows) => {
                for (place, row) in rows {
                    self.check_peer(asked, at, &place.name, row);
                }
            }
            SeenRows::Connections(rows) => {
                let ids: BTreeSet<ConnectionId> = rows.iter().map(|(_, row)| row.id).collect();
                assert_eq!(ids.len(), rows.len(), "a connection is there twice");
                for (_, row) in rows {
                    self.check_connection(asked, at, row);
                }
            }
            SeenRows::Networks(networks) => {
                assert_eq!(networks.others, 0, "there is room for one network");
                let all_are_here = networks.connections.keys().all(|it| *it == HERE);
                assert!(all_are_here, "{networks:?}");
            }
            SeenRows::Channel(None) | SeenRows::Busy => {}
        }
    }

    fn check_channel(&mut self, asked: &Asked, at: usize, name: &str, row: &ChannelRow) {
        // Who is joining may be on the roster and not be counted at its home.
        assert!(row.peers > 0, "{name} is empty");
        let owners = &mut self.looks.owners;
        let owner = *owners.entry((asked.app, name.to_owned())).or_insert(at);
        assert_eq!(owner, at, "{name} has two owners");
        let mut clients = self.clients.iter();
        let somebody = clients.any(|it| it.credential.app == asked.app && has_asked(it, name));
        assert!(somebody, "nobody was ever in {name}");
    }

    fn check_peer(&self, asked: &Asked, at: usize, id: &str, row: &PeerRow) {
        assert!(!row.connections.is_empty(), "{id} has no connection");
        let mut clients = self.clients.iter();
        let somebody = clients.any(|it| {
            let has_been_in = match &asked.what {
                What::Members(_, channel) => it.ever_asked.contains(channel),
                _ => true,
            };
            has_been_in && self.is_at(it, at) && it.credential.app == asked.app && is_of(it, id)
        });
        assert!(somebody, "{id} was never there");
    }

    fn check_connection(&self, asked: &Asked, at: usize, row: &ConnectionRow) {
        assert!(asked.may_hold(at, row.id), "a connection that was gone");
        let mut clients = self.clients.iter();
        let client = clients.find(|it| {
            let socket = &self.world.sockets[it.socket];
            socket.shard == at && socket.id == row.id
        });
        let client = client.expect("a connection is that of a client");
        assert_eq!(client.credential.app, asked.app, "of another app");
        assert!(is_of(client, &row.peer), "{} is somebody else", row.peer);
        if let What::Peer(id) = &asked.what {
            assert_eq!(*row.peer, **id, "of another peer");
        }
        let elsewhere = matches!(asked.what, What::Connections(.., true));
        assert!(!elsewhere, "it comes from elsewhere");
    }

    fn is_at(&self, client: &Client, shard: usize) -> bool {
        self.world.sockets[client.socket].shard == shard
    }

    /// Notes who was there when it was asked, and is not shown.
    fn note_left_out(&mut self, asked: &Asked) {
        let mut left_out = Vec::new();
        match &asked.what {
            What::Connections(names, _, elsewhere) if !elsewhere => {
                self.connections_left_out(asked, |peer| names.want(peer), &mut left_out);
            }
            // Of a number nobody can tell whom it left out: it is compared when all is quiet.
            What::Connections(..) | What::Networks(_) => {}
            What::Peer(id) => self.connections_left_out(asked, |it| it == id, &mut left_out),
            What::Peers(names) => {
                for at in &asked.open {
                    if self.is_missed(asked, *at, names) {
                        let text = format!("{} is not among the peers", self.clients[*at].peer);
                        left_out.push(LeftOut::Client(*at, text));
                    }
                }
            }
            What::Members(names, channel) => {
                for epoch in &asked.epochs {
                    let it = &self.ledger.epochs[*epoch];
                    if it.channel == *channel && self.is_missed(asked, it.client, names) {
                        let peer = &self.clients[it.client].peer;
                        let text = format!("{peer} is not among the members of room-{channel}");
                        left_out.push(LeftOut::Epoch(*epoch, text));
                    }
                }
            }
            What::Channels(names, order) => {
                for epoch in &asked.epochs {
                    let channel = self.ledger.epochs[*epoch].channel;
                    if self.is_channel_missed(asked, channel, names, *order) {
                        let text = format!("room-{channel} is not among the channels");
                        left_out.push(LeftOut::Epoch(*epoch, text));
                    }
                }
            }
            What::Channel(channel) => {
                let mut states = asked.seen.iter().flatten();
                let is_known = states.any(|it| matches!(it.rows, SeenRows::Channel(Some(_))));
                for epoch in &asked.epochs {
                    if !is_known && self.ledger.epochs[*epoch].channel == *channel {
                        let text = format!("nobody knows of room-{channel}");
                        left_out.push(LeftOut::Epoch(*epoch, text));
                    }
                }
            }
        }
        self.looks.left_out.append(&mut left_out);
    }

    fn connections_left_out(
        &self,
        asked: &Asked,
        wanted: impl Fn(&str) -> bool,
        left_out: &mut Vec<LeftOut>,
    ) {
        for at in &asked.open {
            let client = &self.clients[*at];
            let socket = &self.world.sockets[client.socket];
            let Some(seen) = &asked.seen[socket.shard] else {
                continue;
            };
            let SeenRows::Connections(rows) = &seen.rows else {
                panic!("connections were asked for");
            };
            let is_shown = rows.iter().any(|(_, row)| row.id == socket.id);
            if wanted(&client.peer) && !is_shown && !seen.has_more {
                let text = format!("a connection of {} is not shown", client.peer);
                left_out.push(LeftOut::Client(*at, text));
            }
        }
    }

    /// Whether a client's connection is not counted with its peer, in a list that goes so far.
    fn is_missed(&self, asked: &Asked, client: usize, names: &Names) -> bool {
        let client = &self.clients[client];
        let socket = &self.world.sockets[client.socket];
        let Some(seen) = &asked.seen[socket.shard] else {
            return false;
        };
        let SeenRows::Peers(rows) = &seen.rows else {
            panic!("peers were asked for");
        };
        let mut rows_of = rows.iter().filter(|(place, _)| *place.name == *client.peer);
        let is_shown = rows_of.any(|(_, row)| row.connections.contains(&socket.id.slot));
        names.want(&client.peer) && !is_shown && reaches(seen, rows, &client.peer)
    }

    fn is_channel_missed(
        &self,
        asked: &Asked,
        channel: usize,
        names: &Names,
        order: ChannelOrder,
    ) -> bool {
        let name = format!("room-{channel}");
        let owner = self.looks.owners.get(&(asked.app, name.clone())).copied();
        let shards = match owner {
            Some(at) => at..at + 1,
            None => 0..asked.seen.len(),
        };
        let is_missed = shards.into_iter().all(|at| {
            let Some(seen) = &asked.seen[at] else {
                return false;
            };
            let SeenRows::Channels(rows) = &seen.rows else {
                panic!("channels were asked for");
            };
            let is_shown = rows.iter().any(|(place, _)| *place.name == *name);
            let reaches = match order {
                ChannelOrder::Name => reaches(seen, rows, &name),
                _ => !seen.has_more,
            };
            !is_shown && reaches
        });
        names.want(&name) && is_missed
    }

    /// Nothing has changed since it was asked: what is shown is what is there.
    pub(crate) fn check_exactly(&self, asked: &Asked, truth: &Truth) {
        let seen = asked.seen.iter().flatten();
        match &asked.what {
            What::Connections(..) | What::Peer(_) => {
                let shown = seen.enumerate().flat_map(|(at, it)| match &it.rows {
                    SeenRows::Connections(rows) => rows.iter().map(|(_, row)| (at, row)).collect(),
                    _ => Vec::new(),
                });
                self.check_all_connections(&asked.what, shown.collect(), truth);
            }
            What::Networks(_) => {
                let shown = seen.map(|it| match &it.rows {
                    SeenRows::Networks(it) => it.connections.values().sum::<u64>(),
                    other => panic!("networks were asked for: {other:?}"),
                });
                let there = truth.peers.values().map(|sockets| sockets.len() as u64);
                let there: u64 = there.sum();
                assert_eq!(shown.sum::<u64>(), there, "the connections of all networks");
            }
            What::Peers(_) => assert_eq!(peers_of(seen), counted(&truth.peers), "the peers"),
            _ if truth.is_uncertain => {}
            What::Members(_, channel) => {
                let there = truth.channels.get(channel).map(counted);
                let there = there.unwrap_or_default();
                assert_eq!(peers_of(seen), there, "the members of room-{channel}");
            }
            What::Channels(..) => {
                let rows = seen.flat_map(|it| match &it.rows {
                    SeenRows::Channels(rows) => rows.as_slice(),
                    _ => &[],
                });
                let shown = rows.map(|(place, row)| (String::from(&*place.name), sums(row)));
                let there = truth.channels.iter();
                let there = there.map(|(it, peers)| (format!("room-{it}"), sums_of(peers)));
                let (shown, there): (BTreeMap<_, _>, BTreeMap<_, _>) =
                    (shown.collect(), there.collect());
                assert_eq!(shown, there, "the channels");
            }
            What::Channel(channel) => {
                let states = seen.filter_map(|it| match &it.rows {
                    SeenRows::Channel(state) => state.as_deref(),
                    _ => None,
                });
                let states: Vec<&ChannelState> = states.collect();
                self.check_state(*channel, &states, truth);
            }
        }
    }

    fn check_all_connections(
        &self,
        what: &What,
        shown: Vec<(usize, &ConnectionRow)>,
        truth: &Truth,
    ) {
        let of_peer = match what {
            What::Peer(id) => Some(id),
            _ => None,
        };
        let wanted = truth.peers.iter();
        let wanted = wanted.filter(|(peer, _)| of_peer.is_none_or(|id| id == *peer));
        let sockets = wanted.flat_map(|(_, sockets)| sockets);
        let there: BTreeSet<(usize, ConnectionId)> = sockets
            .map(|it| (self.world.sockets[*it].shard, self.world.sockets[*it].id))
            .collect();
        let ids: BTreeSet<_> = shown.iter().map(|(at, row)| (*at, row.id)).collect();
        assert_eq!(ids, there, "the connections");
        if truth.is_uncertain {
            return;
        }
        for (at, row) in shown {
            let is_its = |socket: &usize| {
                let socket = &self.world.sockets[*socket];
                (socket.shard, socket.id) == (at, row.id)
            };
            let rooms = truth.channels.iter();
            let rooms = rooms.filter(|(_, peers)| peers.values().flatten().any(is_its));
            let rooms: BTreeSet<String> = rooms.map(|(it, _)| format!("room-{it}")).collect();
            assert_eq!(row.channels, rooms.len(), "channels of {}", row.peer);
            let names = row.channel_names.iter().map(|it| String::from(&**it));
            let names: BTreeSet<String> = names.collect();
            assert!(of_peer.is_none() || names == rooms, "names of channels");
        }
    }

    fn check_state(&self, channel: usize, states: &[&ChannelState], truth: &Truth) {
        let Some(peers) = truth.channels.get(&channel) else {
            assert!(states.is_empty(), "room-{channel} is empty");
            return;
        };
        let [state] = states else {
            panic!("room-{channel} is known to {}", states.len());
        };
        assert_eq!(sums(&state.row), sums_of(peers), "room-{channel}");
        assert_eq!(state.joining, 0, "nobody is on the way");
        let mut homes = BTreeMap::new();
        for socket in peers.values().flatten() {
            *homes.entry(self.world.sockets[*socket].shard).or_default() += 1;
        }
        let shown = state.homes.iter();
        let shown = shown.map(|(seat, count)| (seat.shard().index(), *count));
        assert_eq!(shown.collect::<BTreeMap<_, u32>>(), homes, "homes");
    }
}

/// Whether a client ever asked for the channel of that name.
fn has_asked(client: &Client, name: &str) -> bool {
    let mut asked = client.ever_asked.iter();
    asked.any(|it| format!("room-{it}") == name)
}

/// Whether a client is that peer, as far as it can be known.
fn is_of(client: &Client, id: &str) -> bool {
    client.is_peer(id) || client.peer.is_empty() && client.credential.sub.is_none()
}

/// Whether a list by name has a place for that one.
fn reaches<T>(seen: &Seen, rows: &[(Place, T)], name: &str) -> bool {
    let last = rows.last().map(|(place, _)| &*place.name);
    !seen.has_more || last.is_some_and(|last| name <= last)
}

/// Peers with the number of their connections on all shards.
fn peers_of<'a>(seen: impl Iterator<Item = &'a Seen>) -> BTreeMap<String, usize> {
    let mut peers = BTreeMap::new();
    for seen in seen {
        let SeenRows::Peers(rows) = &seen.rows else {
            panic!("peers were asked for");
        };
        for (place, row) in rows {
            *peers.entry(place.name.to_string()).or_default() += row.connections.len();
        }
    }
    peers
}

fn counted(peers: &BTreeMap<String, BTreeSet<usize>>) -> BTreeMap<String, usize> {
    let peers = peers.iter();
    peers
        .map(|(it, sockets)| (it.clone(), sockets.len()))
        .collect()
}

/// Peers and connections.
fn sums(row: &ChannelRow) -> (u64, u64) {
    (row.peers, row.connections)
}

fn sums_of(peers: &BTreeMap<String, BTreeSet<usize>>) -> (u64, u64) {
    let connections: usize = peers.values().map(BTreeSet::len).sum();
    (peers.len() as u64, connections as u64)
}

fn name_of(what: &What) -> &'static str {
    match what {
        What::Channels(..) => "Channels",
        What::Channel(_) => "Channel",
        What::Members(..) => "Members",
        What::Connections(..) => "Connections",
        What::Networks(_) => "Networks",
        What::Peers(_) => "Peers",
        What::Peer(_) => "Peer",
    }
}
