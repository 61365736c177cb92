//! The peers of a large channel by their ids, so that a page of them needs no sorting.
//!
//! A few hundred are sorted whenever somebody asks; sorting thousands would hold up everybody
//! else on the shard. So from `MANY` on the order is kept, at the cost of a look-up for each
//! peer that comes or goes.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Bound;

use crate::domain::peer::SharedPeer;

/// From how many peers on the order is kept: to sort as many takes about 0.1 ms.
const MANY: usize = 1_024;
/// Below how many it is forgotten. Less than [`MANY`], so that a number that goes to and fro does
/// not have all of them sorted each time.
const FEW: usize = MANY / 2;

/// See the top of this file.
#[derive(Debug, Default)]
pub struct PeerOrder {
    kept: Option<BTreeSet<InOrder>>,
}

#[derive(Debug)]
struct InOrder(SharedPeer);

impl PeerOrder {
    /// A peer is seen as `peer` from now on: it is new, or another of its connections decides.
    pub fn set(&mut self, peer: &SharedPeer) {
        if let Some(kept) = &mut self.kept {
            kept.replace(InOrder(peer.clone()));
        }
    }

    /// A peer is gone.
    pub fn remove(&mut self, id: &str) {
        if let Some(kept) = &mut self.kept {
            kept.remove(id);
        }
    }

    /// Begins or ends to keep the order, as the number of peers asks for.
    pub fn adapt<'p, P>(&mut self, count: usize, peers: impl FnOnce() -> P)
    where
        P: Iterator<Item = &'p SharedPeer>,
    {
        if self.kept.is_none() && count >= MANY {
            self.kept = Some(peers().map(|peer| InOrder(peer.clone())).collect());
        } else if self.kept.is_some() && count < FEW {
            self.kept = None;
        }
    }

    /// The peers behind an id, or all of them, in order; `None` where no order is kept.
    pub fn after(&self, id: Option<&str>) -> Option<impl Iterator<Item = &SharedPeer>> {
        let from = id.map_or(Bound::Unbounded, Bound::Excluded);
        let kept = self.kept.as_ref()?;
        Some(
            kept.range::<str, _>((from, Bound::Unbounded))
                .map(|it| &it.0),
        )
    }
}

impl Borrow<str> for InOrder {
    fn borrow(&self) -> &str {
        self.0.id.as_str()
    }
}

impl Ord for InOrder {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.id.as_str().cmp(other.0.id.as_str())
    }
}

impl PartialOrd for InOrder {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for InOrder {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for InOrder {}
