//! Every app and key, as records and as what the shards use: one immutable value.
//!
//! A change makes the next registry out of the present one and the edits that the store is
//! given, before anything is written: what cannot be compiled is never stored. Each registry
//! is the source of exactly one [`Rights`] snapshot, whose version rises with every change.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::compile::{Compiler, Slot, declared_app, declared_key};
use super::error::ControlError;
use super::secret::sha256;
use super::store::row::{AppRow, KeyRow};
use super::store::{Edit, Rows};
use crate::domain::declared::{Declared, DeclaredApp, DeclaredKey};
use crate::domain::record::{AppRecord, KeyRecord};
use crate::domain::rights::{App, Key, KeyKind, Rights, SecretHash, SigningMaterial};
use crate::ids::{AppIndex, KeyIndex};

/// Every app and key.
#[derive(Clone)]
pub(super) struct Registry {
    version: u64,
    next_index: u32,
    next_key: u32,
    compiler: Arc<Compiler>,
    apps: BTreeMap<String, AppEntry>,
    keys: BTreeMap<String, KeyEntry>,
    /// Apps with history that the file declared and does not any more.
    undeclared: BTreeMap<String, Undeclared>,
}

/// An app that the file does not declare any more. What its channels keep stays while it lasts, so
/// that a mistake in the file costs no history: for the same app alone, which is one that has the
/// same id and a key in common.
#[derive(Clone)]
struct Undeclared {
    app: Arc<App>,
    keys: Vec<Arc<Key>>,
}

/// An app of the registry.
#[derive(Clone)]
pub(super) struct AppEntry {
    /// As stored; a declared app's has no sealed secret.
    pub row: Arc<AppRow>,
    /// As the shards see it.
    pub app: Arc<App>,
    /// The file that declares it, if it is not stored.
    pub declared_in: Option<Arc<Path>>,
}

/// A key of the registry.
#[derive(Clone)]
pub(super) struct KeyEntry {
    /// As stored; a declared key's has no sealed secrets.
    pub row: Arc<KeyRow>,
    /// As the shards see it.
    pub key: Arc<Key>,
    /// A declared key's API secret.
    declared_api_sha256: Option<SecretHash>,
}

impl Registry {
    /// What the store contains.
    ///
    /// # Errors
    /// `Invalid` when a row makes no sense: a key without its app, a pattern that is none.
    pub(super) fn load(compiler: Compiler, rows: Rows) -> Result<Self, ControlError> {
        let empty = Self {
            version: 0,
            next_index: 0,
            next_key: 0,
            compiler: Arc::new(compiler),
            apps: BTreeMap::new(),
            keys: BTreeMap::new(),
            undeclared: BTreeMap::new(),
        };
        let apps = rows.apps.into_iter().map(Edit::PutApp);
        let edits: Vec<_> = apps
            .chain(rows.keys.into_iter().map(Edit::PutKey))
            .collect();
        empty.edited(&edits)
    }

    /// Seals secrets for new rows.
    #[must_use]
    pub(super) fn compiler(&self) -> &Compiler {
        &self.compiler
    }

    /// The app of that id.
    ///
    /// # Errors
    /// `NotFound`.
    pub(super) fn app(&self, app_id: &str) -> Result<&AppEntry, ControlError> {
        self.apps
            .get(app_id)
            .ok_or_else(|| ControlError::no_app(app_id))
    }

    /// The app of that id, if the admin API may change it.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` for a declared one.
    pub(super) fn stored_app(&self, app_id: &str) -> Result<&AppEntry, ControlError> {
        let entry = self.app(app_id)?;
        match &entry.declared_in {
            Some(file) => Err(ControlError::Conflict(format!(
                "app {app_id:?} is declared in {}: change it there and send SIGHUP",
                file.display()
            ))),
            None => Ok(entry),
        }
    }

    /// The key of that id.
    ///
    /// # Errors
    /// `NotFound`.
    pub(super) fn key(&self, key_id: &str) -> Result<&KeyEntry, ControlError> {
        self.keys
            .get(key_id)
            .ok_or_else(|| ControlError::no_key(key_id))
    }

    /// The key of that id, if the admin API may change it.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` for a declared one.
    pub(super) fn stored_key(&self, key_id: &str) -> Result<&KeyEntry, ControlError> {
        let entry = self.key(key_id)?;
        self.stored_app(&entry.row.record.app_id)?;
        Ok(entry)
    }

    /// All apps, in order of their ids.
    pub(super) fn apps(&self) -> impl Iterator<Item = &AppEntry> {
        self.apps.values()
    }

    /// The keys of an app, the oldest first.
    #[must_use]
    pub(super) fn keys_of(&self, app_id: &str) -> Vec<&KeyEntry> {
        let of_app = |entry: &&KeyEntry| entry.row.record.app_id == app_id;
        let mut keys: Vec<_> = self.keys.values().filter(of_app).collect();
        keys.sort_by_key(|entry| entry.row.record.created_at);
        keys
    }

    /// The next registry: this one with the edits of the store.
    ///
    /// # Errors
    /// `Invalid` when a row makes no sense; nothing has changed then.
    pub(super) fn edited(&self, edits: &[Edit]) -> Result<Self, ControlError> {
        let mut next = self.clone();
        next.version += 1;
        for edit in edits {
            match edit {
                Edit::PutApp(row) => next.put_app(row)?,
                Edit::PutKey(row) => {
                    let entry = next.compiled(Arc::new(row.clone()))?;
                    next.keys.insert(row.record.key_id.clone(), entry);
                }
                Edit::DeleteApp(app_id) => {
                    next.apps.remove(app_id);
                }
                Edit::DeleteKey(key_id) => {
                    next.keys.remove(key_id);
                }
                Edit::PutUsage(_) => {}
            }
        }
        Ok(next)
    }

    /// The next registry: this one with other declared apps. An app declared before and after
    /// stays the same app, with its connections and counts.
    ///
    /// # Errors
    /// `Conflict` when there is an app or key of the same id already; `Invalid` when a
    /// declaration makes no sense. Nothing has changed then.
    pub(super) fn redeclared(&self, declared: &Declared) -> Result<Self, ControlError> {
        let mut next = self.clone();
        next.version += 1;
        next.note_undeclared(declared);
        next.apps.retain(|_, entry| entry.declared_in.is_none());
        next.keys
            .retain(|_, entry| next.apps.contains_key(&entry.row.record.app_id));
        let taken = |what: &str, id: &str| {
            ControlError::Conflict(format!(
                "{what} {id:?} is declared in {} and is in the store as well, made through the \
                 admin API: no server starts or reloads with both; take it out of the file and \
                 start or reload, then delete it from the store (ringmesh {what} {}), and \
                 declare it again",
                declared.file.display(),
                if what == "app" { "delete" } else { "revoke" },
            ))
        };
        for declared_app_ in &declared.apps {
            let record: &AppRecord = &declared_app_.record;
            let known = self.apps.get(&record.app_id).map(|entry| &entry.app);
            let undeclared = next.undeclared.remove(&record.app_id);
            let returned = undeclared.filter(|it| it.has_key_of(declared_app_));
            let known = known.or(returned.as_ref().map(|it| &it.app));
            let slot = known.map(|app| Slot::of(app));
            let slot = slot.unwrap_or_else(|| next.new_slot());
            let app = Arc::new(declared_app(declared_app_, slot, next.version));
            let entry = AppEntry {
                row: Arc::new(AppRow {
                    record: record.clone(),
                    turn_secret: None,
                }),
                app: Arc::clone(&app),
                declared_in: Some(Arc::clone(&declared.file)),
            };
            if next.apps.insert(record.app_id.clone(), entry).is_some() {
                return Err(taken("app", &record.app_id));
            }
            for declared_key_ in &declared_app_.keys {
                let record: &KeyRecord = &declared_key_.record;
                let known = self.keys.get(&record.key_id);
                let known = known.map(|entry| entry.key.index);
                let index = known.unwrap_or_else(|| next.key_index(&record.key_id));
                let entry = KeyEntry {
                    row: Arc::new(KeyRow {
                        record: record.clone(),
                        secrets: None,
                    }),
                    key: Arc::new(declared_key(declared_key_, index, &app)?),
                    declared_api_sha256: declared_key_.api_secret.as_deref().map(|s| sha256(s)),
                };
                if next.keys.insert(record.key_id.clone(), entry).is_some() {
                    return Err(taken("key", &record.key_id));
                }
            }
        }
        Ok(next)
    }

    /// The edits that make what was found in the store what there should be: every app and key
    /// of this registry that is not declared, and no other.
    #[must_use]
    pub(super) fn corrections(&self, found: &Rows) -> Vec<Edit> {
        let apps: BTreeMap<&str, &AppRow> = found
            .apps
            .iter()
            .map(|row| (row.record.app_id.as_str(), row))
            .collect();
        let keys: BTreeMap<&str, &KeyRow> = found
            .keys
            .iter()
            .map(|row| (row.record.key_id.as_str(), row))
            .collect();
        let is_stored =
            |app_id: &str| matches!(self.apps.get(app_id), Some(app) if app.declared_in.is_none());
        let mut edits = Vec::new();
        let lost = apps.keys().filter(|app_id| !is_stored(app_id));
        edits.extend(lost.map(|app_id| Edit::DeleteApp((*app_id).to_owned())));
        let lost = keys
            .keys()
            .filter(|key_id| !self.keys.contains_key(**key_id));
        edits.extend(lost.map(|key_id| Edit::DeleteKey((*key_id).to_owned())));
        for (app_id, entry) in &self.apps {
            if is_stored(app_id) && apps.get(app_id.as_str()) != Some(&&*entry.row) {
                edits.push(Edit::PutApp((*entry.row).clone()));
            }
        }
        for (key_id, entry) in &self.keys {
            let stored = is_stored(&entry.row.record.app_id);
            if stored && keys.get(key_id.as_str()) != Some(&&*entry.row) {
                edits.push(Edit::PutKey((*entry.row).clone()));
            }
        }
        edits
    }

    /// The snapshot for the shards.
    #[must_use]
    pub(super) fn rights(&self) -> Rights {
        let mut rights = Rights::new(self.version);
        for undeclared in self.undeclared.values() {
            rights.insert_undeclared(Arc::clone(&undeclared.app));
        }
        for entry in self.apps.values() {
            rights.insert_app(Arc::clone(&entry.app));
        }
        for entry in self.keys.values() {
            rights.insert_key(Arc::clone(&entry.key));
            if let Some(hash) = entry.declared_api_sha256 {
                rights.insert_api_secret(hash, Arc::clone(&entry.key), None);
            }
            let Some(secrets) = &entry.row.secrets else {
                continue;
            };
            if let Some((previous, until_ms)) = &secrets.previous {
                let key = Arc::clone(&entry.key);
                rights.insert_api_secret(previous.api_sha256, key, Some(*until_ms));
            }
            rights.insert_api_secret(secrets.current.api_sha256, Arc::clone(&entry.key), None);
        }
        rights
    }

    /// Notes which apps with history end with other declared apps, for as long as the process runs
    /// or until there is one of the same id.
    fn note_undeclared(&mut self, declared: &Declared) {
        let stays = |app_id: &str| {
            let mut apps = declared.apps.iter();
            apps.any(|it| it.record.app_id == app_id)
        };
        for (app_id, entry) in &self.apps {
            let AppEntry { app, .. } = entry;
            if entry.declared_in.is_none() || app.history.is_empty() || stays(app_id) {
                continue;
            }
            let keys = self.keys_of(app_id).into_iter();
            let undeclared = Undeclared {
                app: Arc::clone(app),
                keys: keys.map(|it| Arc::clone(&it.key)).collect(),
            };
            self.undeclared.insert(app_id.clone(), undeclared);
        }
    }

    /// The number of a key: its own as long as there is a key of that id, or a new one.
    fn key_index(&mut self, key_id: &str) -> KeyIndex {
        let known = self.keys.get(key_id).map(|entry| entry.key.index);
        known.unwrap_or_else(|| {
            self.next_key += 1;
            KeyIndex(self.next_key - 1)
        })
    }

    fn new_slot(&mut self) -> Slot {
        let slot = Slot::new(AppIndex(self.next_index), self.version);
        self.next_index += 1;
        slot
    }

    fn put_app(&mut self, row: &AppRow) -> Result<(), ControlError> {
        let app_id = &row.record.app_id;
        let slot = self.apps.get(app_id).map(|entry| Slot::of(&entry.app));
        let slot = slot.unwrap_or_else(|| self.new_slot());
        // Who is given an id through the admin API is somebody else than who had it in the file.
        self.undeclared.remove(app_id);
        let app = Arc::new(self.compiler.app(row, slot, self.version));
        let entry = AppEntry {
            row: Arc::new(row.clone()),
            app,
            declared_in: None,
        };
        self.apps.insert(app_id.clone(), entry);
        // A key carries its app.
        let rows = self
            .keys_of(app_id)
            .into_iter()
            .map(|entry| Arc::clone(&entry.row));
        for row in rows.collect::<Vec<_>>() {
            let entry = self.compiled(Arc::clone(&row))?;
            self.keys.insert(row.record.key_id.clone(), entry);
        }
        Ok(())
    }

    fn compiled(&mut self, row: Arc<KeyRow>) -> Result<KeyEntry, ControlError> {
        let owner = self.apps.get(&row.record.app_id).cloned();
        let owner = owner.ok_or_else(|| {
            ControlError::Invalid(format!("key {} has no app", row.record.key_id))
        })?;
        let index = self.key_index(&row.record.key_id);
        let key = Arc::new(self.compiler.key(&row, index, &owner.app)?);
        Ok(KeyEntry {
            row,
            key,
            declared_api_sha256: None,
        })
    }
}

impl Undeclared {
    /// Whether that app has a credential that this one had: its tenant could read what this one
    /// keeps anyway.
    fn has_key_of(&self, declared: &DeclaredApp) -> bool {
        let is_same = |ours: &Key, theirs: &DeclaredKey| {
            *ours.id == *theirs.record.key_id
                && match (&ours.kind, &theirs.signing_secret) {
                    (KeyKind::Publishable { .. }, None) => true,
                    (KeyKind::Secret(SigningMaterial::Ready { current, .. }), Some(secret)) => {
                        current.matches(secret)
                    }
                    _ => false,
                }
        };
        let mut theirs = declared.keys.iter();
        theirs.any(|theirs| self.keys.iter().any(|ours| is_same(ours, theirs)))
    }
}
