//! Names of apps and keys by their numbers, also of those that were deleted lately.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::rights::Rights;
use crate::ids::{AppIndex, KeyIndex};

/// Apps, and keys, that are deleted and whose names are known: events of older ones are overwritten
/// long since.
const DELETED_MAX: usize = 4_096;

/// See the top of this file. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(Arc<Maps>);

#[derive(Clone, Debug, Default)]
struct Maps {
    apps: BTreeMap<u32, Box<str>>,
    keys: BTreeMap<u32, Key>,
}

#[derive(Clone, Debug)]
struct Key {
    id: Box<str>,
    shown: Box<str>,
}

impl Names {
    /// Learns what there is.
    pub(super) fn learn(&mut self, rights: &Rights) {
        let maps = Arc::make_mut(&mut self.0);
        for app in rights.apps() {
            maps.apps
                .entry(app.index.0)
                .or_insert_with(|| Box::from(&*app.id));
        }
        for key in rights.keys() {
            maps.keys.entry(key.index.0).or_insert_with(|| Key {
                id: key.id.clone(),
                shown: key.shown_id().into(),
            });
        }
        forget(&mut maps.apps, rights.apps().map(|app| app.index.0));
        forget(&mut maps.keys, rights.keys().map(|key| key.index.0));
    }

    /// The id of an app, unless it was deleted long ago.
    pub(super) fn app(&self, index: AppIndex) -> Option<&str> {
        self.0.apps.get(&index.0).map(|id| &**id)
    }

    /// Whether that is a key's id.
    pub(super) fn is_key(&self, index: KeyIndex, id: &str) -> bool {
        let key = self.0.keys.get(&index.0);
        key.is_some_and(|key| &*key.id == id)
    }

    /// What is shown of a key: its id, or the beginning of one that is a credential.
    pub(super) fn key(&self, index: KeyIndex) -> Option<String> {
        let key = self.0.keys.get(&index.0)?;
        Some(key.shown.to_string())
    }
}

/// Forgets the oldest of those that are not live any more, where these are many: numbers rise.
fn forget<T>(known: &mut BTreeMap<u32, T>, live: impl Iterator<Item = u32>) {
    let live: BTreeSet<u32> = live.collect();
    let too_many = known.len().saturating_sub(live.len() + DELETED_MAX);
    if too_many > 0 {
        let deleted = known.keys().filter(|number| !live.contains(number));
        let oldest: Vec<u32> = deleted.take(too_many).copied().collect();
        known.retain(|number, _| oldest.binary_search(number).is_err());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_those_that_are_deleted_are_forgotten() {
        let many = DELETED_MAX as u32 + 10;
        let mut known: BTreeMap<u32, ()> = (0..many).map(|number| (number, ())).collect();
        forget(&mut known, [0, many - 1].into_iter());
        assert_eq!(known.len(), DELETED_MAX + 2);
        assert!(known.contains_key(&0) && known.contains_key(&(many - 1)));
        assert!(!known.contains_key(&8) && known.contains_key(&9));
        forget(&mut known, [0, many - 1].into_iter());
        assert_eq!(known.len(), DELETED_MAX + 2, "no more than has to be");
    }
}
