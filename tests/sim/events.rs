//! What the shards have recorded, held against what has happened: one `closed` for each `opened`,
//! whatever the order of events, and sums that are those of the metrics.

use std::collections::BTreeSet;

use ringmesh::events::kind::{Cause, Door, Kind};
use ringmesh::events::record::{Detail, Read};
use ringmesh::events::recorder::Rings;
use ringmesh::events::ring::{Block, Ring};
use ringmesh::ids::ConnectionId;

use crate::world::World;

/// Memory of a shard's events: nothing is overwritten in an ordinary run.
pub(crate) const EVENTS_BYTES: usize = 4 << 20;

/// All records of a ring; `None` when some have been overwritten.
fn records(ring: &Ring) -> Option<Vec<Read>> {
    let mut block = Block::default();
    let mut records = Vec::new();
    let readable = ring.readable();
    if readable.start > 0 {
        return None;
    }
    for number in readable {
        assert!(ring.copy(number, &mut block));
        records.extend(block.records().map(|(_, read)| read));
    }
    assert!(records.is_sorted_by_key(|it| it.time_ns), "out of order");
    Some(records)
}

/// What one shard has recorded.
struct Recorded {
    opened: BTreeSet<ConnectionId>,
    closed: BTreeSet<ConnectionId>,
    all: Vec<Read>,
}

fn recorded(rings: &Rings) -> Option<Recorded> {
    let mut all = records(&rings.ends)?;
    all.extend(records(&rings.routine)?);
    let (mut opened, mut closed) = (BTreeSet::new(), BTreeSet::new());
    for read in all.iter().filter(|it| !it.is_summary) {
        let connection = read.connection;
        match (read.kind, connection) {
            (Kind::Opened, Some(id)) => assert!(opened.insert(id), "opened twice: {read:?}"),
            (Kind::Closed, Some(id)) => assert!(closed.insert(id), "closed twice: {read:?}"),
            _ => {}
        }
    }
    let stray = closed.difference(&opened).next();
    assert_eq!(stray, None, "closed and never opened");
    Some(Recorded {
        opened,
        closed,
        all,
    })
}

/// For how many the records of a kind stand.
fn sum(all: &[Read], is_meant: impl Fn(&Read) -> bool) -> u64 {
    let meant = all.iter().filter(|it| !it.is_summary && is_meant(it));
    meant.map(|it| u64::from(it.count)).sum()
}

impl World {
    /// Whoever was opened and not closed has a socket.
    pub(crate) fn check_open_events(&self) {
        for (node, rings) in self.nodes.iter().zip(&self.events) {
            if node.is_lost || node.silent_since_ms.is_some() {
                continue;
            }
            let Some(Recorded { opened, closed, .. }) = recorded(rings) else {
                continue;
            };
            for id in opened.difference(&closed) {
                assert!(
                    node.has(*id),
                    "{id:?} is gone and was not recorded as closed"
                );
            }
        }
    }

    /// The shards end: each connection has its end, and what was counted was recorded.
    pub(crate) fn check_all_events(&mut self) {
        let now = self.now();
        for (node, rings) in self.nodes.iter_mut().zip(&self.events) {
            if node.is_lost {
                continue;
            }
            node.shard.end_events(now);
            let Some(Recorded {
                opened,
                closed,
                all,
            }) = recorded(rings)
            else {
                continue;
            };
            assert_eq!(opened, closed, "one closed for each opened");
            let counters = &node.shard.metrics().counters;
            let is_new = |it: &Read| it.kind == Kind::Opened && it.cause != Cause::HandedOver;
            assert_eq!(counters.handshakes, sum(&all, is_new));
            let at_connect = |it: &Read| matches!(it.detail, Detail::Shown(Door::Connect, ..));
            assert_eq!(
                counters.handshakes_refused.sum(),
                sum(&all, |it| it.kind == Kind::Refused && at_connect(it))
            );
            assert_eq!(
                counters.unauthenticated_closed,
                sum(&all, |it| it.kind == Kind::Accept
                    && it.cause == Cause::GaveWay)
            );
        }
    }
}
