//! Connections of one peer, in the order in which they came.
//!
//! Nearly every peer has one or two: they stand in an array, which is searched. From
//! `MANY` on they are numbered and found by their hash, so that a peer with thousands of
//! connections costs no more for each than thousands of peers do.

use std::collections::{BTreeMap, HashMap};

use ahash::RandomState;
use smallvec::SmallVec;

use crate::ids::ConnectionRef;

/// How many connections are too many to be searched one by one.
const MANY: usize = 16;
/// With how many they are few again. Less than [`MANY`], so that a number that goes to and fro does
/// not have all of them moved each time.
const FEW: usize = MANY / 2;

/// See the top of this file.
#[derive(Debug)]
pub enum Tabs<T> {
    /// An array in the order in which they came.
    Few(SmallVec<[(ConnectionRef, T); 1]>),
    /// A table in which each has the number of its place in the order.
    Many(Box<Numbered<T>>),
}

/// Connections with numbers, found by their hash.
#[derive(Debug)]
pub struct Numbered<T> {
    in_order: BTreeMap<u64, (ConnectionRef, T)>,
    numbers: HashMap<ConnectionRef, u64, RandomState>,
    next_number: u64,
}

impl<T> Tabs<T> {
    /// Holds a single connection.
    #[must_use]
    pub fn new(connection: ConnectionRef, value: T) -> Self {
        Self::Few(SmallVec::from_buf([(connection, value)]))
    }

    /// Adds a connection behind the others, unless it is there. Returns what is kept for it if it
    /// is.
    pub fn insert(
        &mut self,
        connection: ConnectionRef,
        value: impl FnOnce() -> T,
        hasher: &RandomState,
    ) -> Option<&mut T> {
        if self.get_mut(connection).is_some() {
            return self.get_mut(connection);
        }
        match self {
            Self::Few(tabs) => {
                tabs.push((connection, value()));
                if tabs.len() >= MANY {
                    *self = Self::Many(Box::new(Numbered::new(tabs.drain(..), hasher)));
                }
            }
            Self::Many(tabs) => tabs.insert(connection, value()),
        }
        None
    }

    /// Removes a connection. Returns what was kept for it, if it was there.
    pub fn remove(&mut self, connection: ConnectionRef) -> Option<T> {
        match self {
            Self::Few(tabs) => {
                let at = tabs.iter().position(|(known, _)| *known == connection)?;
                Some(tabs.remove(at).1)
            }
            Self::Many(tabs) => {
                let number = tabs.numbers.remove(&connection)?;
                let removed = tabs.in_order.remove(&number);
                if tabs.in_order.len() <= FEW {
                    let left = std::mem::take(&mut tabs.in_order);
                    *self = Self::Few(left.into_values().collect());
                }
                removed.map(|(_, value)| value)
            }
        }
    }

    /// What is kept for a connection.
    pub fn get_mut(&mut self, connection: ConnectionRef) -> Option<&mut T> {
        let (_, value) = match self {
            Self::Few(tabs) => tabs.iter_mut().find(|(known, _)| *known == connection)?,
            Self::Many(tabs) => {
                let number = tabs.numbers.get(&connection)?;
                tabs.in_order.get_mut(number)?
            }
        };
        Some(value)
    }

    /// The connection that came first and is still there.
    #[must_use]
    pub fn first(&self) -> Option<&(ConnectionRef, T)> {
        match self {
            Self::Few(tabs) => tabs.first(),
            Self::Many(tabs) => tabs.in_order.values().next(),
        }
    }

    /// All connections, in order.
    pub fn iter(&self) -> impl Iterator<Item = &(ConnectionRef, T)> {
        let (few, many) = match self {
            Self::Few(tabs) => (Some(tabs), None),
            Self::Many(tabs) => (None, Some(&tabs.in_order)),
        };
        let many = many.into_iter().flat_map(BTreeMap::values);
        few.into_iter().flatten().chain(many)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first().is_none()
    }
}

impl<T> Numbered<T> {
    fn new(tabs: impl Iterator<Item = (ConnectionRef, T)>, hasher: &RandomState) -> Self {
        let mut numbered = Self {
            in_order: BTreeMap::new(),
            numbers: HashMap::with_hasher(hasher.clone()),
            next_number: 0,
        };
        for (connection, value) in tabs {
            numbered.insert(connection, value);
        }
        numbered
    }

    fn insert(&mut self, connection: ConnectionRef, value: T) {
        let number = self.next_number;
        self.numbers.insert(connection, number);
        self.in_order.insert(number, (connection, value));
        self.next_number += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::{ConnectionId, ShardId};

    fn connection(slot: u32) -> ConnectionRef {
        ConnectionRef {
            home: ShardId(0).into(),
            connection: ConnectionId {
                slot,
                generation: 0,
            },
        }
    }

    proptest! {
        /// As an array that is searched and moved: up and down through both thresholds.
        #[test]
        fn they_are_as_a_plain_array_is(
            steps in prop::collection::vec((any::<bool>(), 0u32..40), 1..400),
        ) {
            let hasher = RandomState::with_seeds(1, 2, 3, 4);
            let mut naive = vec![(connection(99), 0)];
            let mut tabs = Tabs::new(connection(99), 0);
            for (value, (is_added, slot)) in steps.into_iter().enumerate() {
                let it = connection(slot);
                let at = naive.iter().position(|(known, _)| *known == it);
                if is_added {
                    let known = tabs.insert(it, || value, &hasher).copied();
                    prop_assert_eq!(known, at.map(|at| naive[at].1));
                    if at.is_none() {
                        naive.push((it, value));
                    }
                } else {
                    let removed = at.map(|at| naive.remove(at).1);
                    prop_assert_eq!(tabs.remove(it), removed);
                }
                let known = naive.iter_mut().find(|(known, _)| *known == it);
                prop_assert_eq!(tabs.get_mut(it), known.map(|(_, value)| value));
                prop_assert_eq!(tabs.first(), naive.first());
                prop_assert!(tabs.iter().eq(&naive));
                prop_assert_eq!(tabs.is_empty(), naive.is_empty());
                let is_many = matches!(tabs, Tabs::Many(_));
                let holds = match is_many {
                    true => naive.len() > FEW,
                    false => naive.len() < MANY,
                };
                prop_assert!(holds);
            }
        }
    }
}
