//! The configuration as typed: the file's tree of values with their spans, what overrides it,
//! and the accounts of which keys exist.
//!
//! It knows no key by itself. Sections are asked for their keys one after another; what was
//! never asked for is unknown, and is refused at the end.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use toml::de::DeTable;

use super::error::{ConfigError, Fault, Place};
use super::model::UnreadVariable;
use super::overrides::{Override, Overrides, key_of, variable_of};

/// Similarity from which an unknown key counts as a misspelling of a known one, 0 to 1.
const SIMILARITY_MIN: f64 = 0.75;
/// The same for whole names, section included, which agree in much anyway.
const ALIKE_MIN: f64 = 0.9;

/// What was typed: the file, and what goes before it.
pub(super) struct Document<'d> {
    path: &'d Path,
    text: &'d str,
    root: DeTable<'d>,
    overrides: &'d Overrides,
    /// Every key that was asked for, dotted, and whether it may be overridden.
    known: RefCell<BTreeMap<String, bool>>,
    /// Keys in the file that were not, with their offset.
    unknown: RefCell<Vec<(usize, String)>>,
    /// Variables that hold secrets, as the file says.
    read: RefCell<BTreeSet<String>>,
}

impl<'d> Document<'d> {
    pub(super) fn parse(
        path: &'d Path,
        text: &'d str,
        overrides: &'d Overrides,
    ) -> Result<Self, ConfigError> {
        let root = DeTable::parse(text).map_err(|error| {
            let offset = error.span().map_or(text.len(), |span| span.start);
            let place = Place::Line {
                path: path.to_owned(),
                line: line_of(text, offset),
            };
            let words = error
                .message()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ");
            ConfigError::new(place, Fault::Syntax(words))
        })?;
        Ok(Self {
            path,
            text,
            root: root.into_inner(),
            overrides,
            known: RefCell::default(),
            unknown: RefCell::default(),
            read: RefCell::default(),
        })
    }

    /// The table of the sections.
    pub(super) fn table(&self) -> &DeTable<'_> {
        &self.root
    }

    /// Refuses what nobody asked for. Call when every section has been finished. Returns the
    /// variables of ours that nothing reads and that may be meant for others.
    pub(super) fn finish(&self) -> Result<Vec<UnreadVariable>, ConfigError> {
        if let Some((offset, key)) = self.unknown.borrow().iter().min() {
            let fault = Fault::UnknownKey {
                nearest: self.nearest(key, |_| true),
            };
            return Err(ConfigError::new(self.key_place(*offset, key), fault));
        }
        for (key, entry) in self.overrides.iter() {
            if !self.is_overridable(key) && !self.is_read(&entry.name) {
                let nearest = self.nearest(key, |key| self.is_overridable(key));
                return Err(unknown_variable(&entry.name, nearest));
            }
        }
        let mut unread = Vec::new();
        for name in self.overrides.others() {
            if self.is_read(name) {
                continue;
            }
            let key = key_of(name);
            if let Some(meant) = self.respelled(&key, |key| self.is_overridable(key)) {
                return Err(unknown_variable(name, Some(meant)));
            }
            unread.push(UnreadVariable {
                name: name.clone(),
                nearest: self.alike(&key).map(|key| variable_of(&key)),
            });
        }
        Ok(unread)
    }

    fn is_overridable(&self, key: &str) -> bool {
        self.known.borrow().get(key) == Some(&true)
    }

    fn is_read(&self, variable: &str) -> bool {
        self.read.borrow().contains(variable)
    }

    /// The known key that an unknown one was probably meant to be: one with the same letters, one
    /// of its section that is spelled much like it, or else the same key of another section.
    fn nearest(&self, unknown: &str, counts: impl Fn(&str) -> bool) -> Option<String> {
        let known = self.known.borrow();
        let known = || known.keys().filter(|key| counts(key));
        let (section, key) = split_key(unknown);
        let misspelled = known()
            .filter(|candidate| split_key(candidate).0 == section)
            .map(|candidate| (strsim::jaro(split_key(candidate).1, key), candidate))
            .filter(|(similarity, _)| *similarity > SIMILARITY_MIN)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, candidate)| candidate.clone());
        let elsewhere = || known().find(|candidate| split_key(candidate).1 == key);
        self.respelled(unknown, &counts)
            .or(misspelled)
            .or_else(|| elsewhere().cloned())
    }

    /// The known key that differs from an unknown one only by what separates its words.
    fn respelled(&self, unknown: &str, counts: impl Fn(&str) -> bool) -> Option<String> {
        let known = self.known.borrow();
        let letters = letters_of(unknown);
        let same = |candidate: &&String| letters_of(candidate) == letters && counts(candidate);
        known.keys().find(same).cloned()
    }

    /// The known key whose variable looks most like one that is none.
    fn alike(&self, unknown: &str) -> Option<String> {
        let known = self.known.borrow();
        let letters = letters_of(unknown);
        known
            .keys()
            .filter(|candidate| self.is_overridable(candidate))
            .map(|candidate| (strsim::jaro(&letters_of(candidate), &letters), candidate))
            .filter(|(similarity, _)| *similarity > ALIKE_MIN)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, candidate)| candidate.clone())
    }

    /// A secret is read from this variable.
    pub(super) fn note_read(&self, variable: &str) {
        self.read.borrow_mut().insert(variable.to_owned());
    }

    /// Somebody asked for this key: it exists.
    pub(super) fn note_known(&self, key: String, overridable: bool) {
        self.known.borrow_mut().insert(key, overridable);
    }

    /// The file has this key at that offset, and nobody asked for it.
    pub(super) fn note_unknown(&self, offset: usize, key: String) {
        self.unknown.borrow_mut().push((offset, key));
    }

    pub(super) fn override_of(&self, key: &str) -> Option<&Override> {
        self.overrides.get(key)
    }

    /// The directory that relative paths start from.
    pub(super) fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    pub(super) fn key_place(&self, offset: usize, key: &str) -> Place {
        Place::Key {
            path: self.path.to_owned(),
            line: line_of(self.text, offset),
            key: key.to_owned(),
        }
    }
}

fn unknown_variable(name: &str, nearest: Option<String>) -> ConfigError {
    let fault = Fault::UnknownKey {
        nearest: nearest.map(|key| variable_of(&key)),
    };
    ConfigError::new(Place::Override(name.to_owned()), fault)
}

/// A key without what separates its words.
fn letters_of(key: &str) -> String {
    key.replace(['.', '_', '-'], "").to_ascii_lowercase()
}

/// The section and the name of a dotted key; the first section has the empty name.
fn split_key(key: &str) -> (&str, &str) {
    key.rsplit_once('.').unwrap_or(("", key))
}

/// The line of a byte offset, counted from 1.
fn line_of(text: &str, offset: usize) -> usize {
    1 + memchr::memchr_iter(b'\n', &text.as_bytes()[..offset.min(text.len())]).count()
}
