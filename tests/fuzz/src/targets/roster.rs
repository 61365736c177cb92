//! The roster of a channel against a map: bytes are joins and leaves.

use std::collections::BTreeMap;
use std::sync::Arc;

use ahash::RandomState;
use ringmesh::domain::peer::{JsonName, PeerInfo, SharedPeer};
use ringmesh::domain::roster::{Before, Roster};
use ringmesh::ids::{ConnectionId, ConnectionRef, ShardId};

use super::Bytes;

/// Connections of each peer in the order in which they came, with the number of a join that is
/// under way.
type Model = BTreeMap<String, BTreeMap<ConnectionRef, u32>>;

pub(crate) fn run(bytes: &[u8]) {
    let hasher = RandomState::with_seeds(1, 2, 3, 4);
    let (mut roster, mut model) = (Roster::new(hasher), Model::new());
    let mut script = Bytes(bytes);
    let mut number = 0;
    while !script.is_empty() {
        let operation = script.byte();
        let peer = peer(script.byte());
        let connection = connection(script.byte());
        let id = peer.id.as_str().to_owned();
        match operation % 5 {
            0..=2 => {
                number += 1;
                join(&mut roster, &mut model, &peer, connection, number);
            }
            3 => leave(&mut roster, &mut model, &id, connection),
            _ => {
                if let Some(known) = model.get_mut(&id).and_then(|it| it.get_mut(&connection)) {
                    *known = 0;
                    let known = roster.get_mut(&id, connection);
                    known.expect("it is there").joining = 0;
                }
            }
        }
        assert_eq!(roster.contains(&id), model.contains_key(&id));
        assert_eq!(roster.peer_count(), model.len());
        // All of it at times only, and in the end: large rosters take long to compare.
        if operation & 0x38 == 0 || script.is_empty() {
            check(&mut roster, &model, &id);
        }
    }
}

fn join(
    roster: &mut Roster,
    model: &mut Model,
    peer: &SharedPeer,
    connection: ConnectionRef,
    number: u32,
) {
    let is_new = !model.contains_key(peer.id.as_str());
    let tabs = model.entry(peer.id.as_str().to_owned()).or_default();
    let expected = match tabs.get(&connection) {
        None if is_new => Before::NoPeer,
        None => Before::NoTab,
        Some(0) => Before::There,
        Some(joining) => Before::Joining(*joining),
    };
    if !matches!(expected, Before::Joining(_)) {
        tabs.insert(connection, number);
    }
    assert_eq!(roster.join(peer, connection, number), expected);
}

fn leave(roster: &mut Roster, model: &mut Model, id: &str, connection: ConnectionRef) {
    let removed = roster.remove(id, connection);
    let known = model.get_mut(id).and_then(|it| it.remove(&connection));
    assert_eq!(removed.is_some(), known.is_some());
    let is_empty = model.get(id).is_some_and(BTreeMap::is_empty);
    if let Some(removed) = removed {
        assert_eq!(removed.peer_left, is_empty);
    }
    if is_empty {
        model.remove(id);
    }
}

fn check(roster: &mut Roster, model: &Model, id: &str) {
    assert_eq!(roster.is_empty(), model.is_empty());
    let tabs: usize = model.values().map(BTreeMap::len).sum();
    assert_eq!(roster.connections().count(), tabs);
    let behind = roster.peers_after(Some(id)).map(|peer| peer.id.as_str());
    let expected = model.keys().filter(|it| it.as_str() > id);
    assert!(
        behind.eq(expected.map(String::as_str)),
        "in the order of ids"
    );
    let all = roster.peers_after(None).map(|peer| peer.id.as_str());
    assert!(all.eq(model.keys().map(String::as_str)));
    let listed = roster.list(|it| it == id).len();
    assert_eq!(listed, model.len() - usize::from(model.contains_key(id)));
    assert_eq!(roster.place(id), None, "left out of the list");
}

fn peer(number: u8) -> SharedPeer {
    Arc::new(PeerInfo {
        id: JsonName::new(&format!("p{number}")),
        metadata: None,
    })
}

fn connection(number: u8) -> ConnectionRef {
    ConnectionRef {
        home: ShardId(u16::from(number & 3)).into(),
        connection: ConnectionId {
            slot: u32::from(number >> 2),
            generation: 1,
        },
    }
}
