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
use super::given::Given;
use super::model::UnreadVariable;
use super::overrides::{Override, Overrides, key_of, variable_of};
use crate::domain::configuration::Setting;
use crate::nearest::{letters_of, nearest};

/// Similarity from which a whole name, section included, counts as a misspelling of another, 0 to
/// 1: such names agree in much anyway.
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
    /// Each key that may be overridden, with its value.
    settings: RefCell<Vec<Setting>>,
    /// Variables that hold secrets, as the file says.
    read: RefCell<BTreeSet<String>>,
    /// Faults so far, where they are collected; `None`: the first one is the end.
    faults: Option<RefCell<Vec<ConfigError>>>,
    /// Keys with a faulty value, dotted, with the offset of their section.
    faulty: RefCell<BTreeSet<(String, usize)>>,
}

impl<'d> Document<'d> {
    pub(super) fn parse(
        path: &'d Path,
        text: &'d str,
        overrides: &'d Overrides,
    ) -> Result<Self, ConfigError> {
        let root = DeTable::parse(text).map_err(|error| not_toml(path, text, &error))?;
        Ok(Self::of(path, text, root.into_inner(), overrides))
    }

    /// Reads on behind each fault. What is no TOML is returned beside the document; where it is
    /// more than keys that are there twice, nobody knows what the rest means.
    pub(super) fn collecting(
        path: &'d Path,
        text: &'d str,
        overrides: &'d Overrides,
    ) -> (Option<Self>, Vec<ConfigError>) {
        let (root, errors) = DeTable::parse_recoverable(text);
        let is_known = errors.iter().all(|error| error.message() == DUPLICATE);
        let faults = errors.iter().map(|error| not_toml(path, text, error));
        let document = is_known.then(|| Self {
            faults: Some(RefCell::default()),
            ..Self::of(path, text, root.into_inner(), overrides)
        });
        (document, faults.collect())
    }

    fn of(path: &'d Path, text: &'d str, root: DeTable<'d>, overrides: &'d Overrides) -> Self {
        Self {
            path,
            text,
            root,
            overrides,
            known: RefCell::default(),
            unknown: RefCell::default(),
            settings: RefCell::default(),
            read: RefCell::default(),
            faults: None,
            faulty: RefCell::default(),
        }
    }

    /// A fault: the end, unless they are collected.
    pub(super) fn refuse(&self, error: ConfigError) -> Result<(), ConfigError> {
        match &self.faults {
            None => Err(error),
            Some(faults) => {
                faults.borrow_mut().push(error);
                Ok(())
            }
        }
    }

    /// Takes what was collected.
    pub(super) fn take_faults(&self) -> Vec<ConfigError> {
        self.faults.as_ref().map(RefCell::take).unwrap_or_default()
    }

    /// The value of a key is faulty, in the section at that offset.
    pub(super) fn note_faulty(&self, key: String, section: usize) {
        self.faulty.borrow_mut().insert((key, section));
    }

    /// Whether it is, in that section or in any.
    pub(super) fn is_faulty(&self, key: &str, section: Option<usize>) -> bool {
        let faulty = self.faulty.borrow();
        let mut faulty = faulty.iter();
        faulty.any(|(name, at)| name == key && section.is_none_or(|section| section == *at))
    }

    /// Refuses a key or a variable that nobody asked for, unless it was refused already.
    fn refuse_unknown(&self, error: ConfigError) -> Result<(), ConfigError> {
        let faults = self.faults.as_ref().map(RefCell::borrow);
        let is_told = faults.is_some_and(|it| it.iter().any(|it| it.place == error.place));
        if is_told { Ok(()) } else { self.refuse(error) }
    }

    /// The table of the sections.
    pub(super) fn table(&self) -> &DeTable<'_> {
        &self.root
    }

    /// Refuses what nobody asked for. Call when every section has been finished. Returns the
    /// variables of ours that nothing reads and that may be meant for others.
    pub(super) fn finish(&self) -> Result<Vec<UnreadVariable>, ConfigError> {
        let mut unknown = self.unknown.take();
        unknown.sort();
        for (offset, key) in &unknown {
            let fault = Fault::UnknownKey {
                nearest: self.nearest(key, |_| true),
            };
            self.refuse_unknown(ConfigError::new(self.key_place(*offset, key), fault))?;
        }
        for (key, entry) in self.overrides.iter() {
            if !self.is_overridable(key) && !self.is_read(&entry.name) {
                let nearest = self.nearest(key, |key| self.is_overridable(key));
                self.refuse_unknown(unknown_variable(&entry.name, nearest))?;
            }
        }
        let mut unread = Vec::new();
        for name in self.overrides.others() {
            if self.is_read(name) {
                continue;
            }
            let key = key_of(name);
            if let Some(meant) = self.respelled(&key, |key| self.is_overridable(key)) {
                self.refuse_unknown(unknown_variable(name, Some(meant)))?;
                continue;
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
        let beside = known().map(|candidate| split_key(candidate));
        let beside = beside.filter(|(of, _)| *of == section).map(|(_, key)| key);
        let misspelled = nearest(key, beside).map(|found| match section {
            "" => found.to_owned(),
            section => format!("{section}.{found}"),
        });
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

    /// Somebody asked for this key, and got what was given, or the default.
    pub(super) fn note_setting(&self, key: String, given: Option<Given<'_>>, default: &str) {
        let (value, origin) = match given {
            Some(Given::Toml(value)) => {
                let span = value.span();
                let line = line_of(self.text, span.start);
                let typed = self.text.get(span).unwrap_or_default();
                let words: Vec<_> = typed.split_whitespace().collect();
                let place = format!("{}:{line}", self.path.display());
                (words.join(" "), place)
            }
            Some(Given::Text { name, text }) => (text.to_owned(), name.to_owned()),
            None => (default.to_owned(), "default".to_owned()),
        };
        self.settings.borrow_mut().push(Setting {
            key,
            value,
            default: default.to_owned(),
            origin,
        });
    }

    /// All keys that were asked for, sorted.
    pub(super) fn settings(&self) -> Vec<Setting> {
        let mut settings = self.settings.take();
        settings.sort_by(|a, b| a.key.cmp(&b.key));
        settings
    }

    pub(super) fn override_of(&self, key: &str) -> Option<&Override> {
        self.overrides.get(key)
    }

    /// The directory that relative paths start from.
    pub(super) fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// Where a key stands, or would stand.
    pub(super) fn key_place(&self, offset: usize, key: &str) -> Place {
        if self.path.as_os_str().is_empty() {
            // There is no file.
            return Place::Override(key.to_owned());
        }
        Place::Key {
            path: self.path.to_owned(),
            line: line_of(self.text, offset),
            offset,
            key: key.to_owned(),
        }
    }
}

/// What the parser says of a key that is there twice.
const DUPLICATE: &str = "duplicate key";

/// What the parser says, with the key that is there twice.
fn not_toml(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let span = error.span().unwrap_or(text.len()..text.len());
    let offset = span.start;
    let place = Place::Line {
        path: path.to_owned(),
        line: line_of(text, offset),
        offset,
    };
    let words: Vec<_> = error.message().split_whitespace().collect();
    let fault = match text.get(span) {
        Some(key) if error.message() == DUPLICATE => Fault::Conflict(format!(
            "not TOML: {} is there twice; remove one",
            key.split_whitespace().collect::<Vec<_>>().join(" ")
        )),
        _ => Fault::Syntax(words.join(" ")),
    };
    ConfigError::new(place, fault)
}

fn unknown_variable(name: &str, nearest: Option<String>) -> ConfigError {
    let fault = Fault::UnknownKey {
        nearest: nearest.map(|key| variable_of(&key)),
    };
    ConfigError::new(Place::Override(name.to_owned()), fault)
}

/// The section and the name of a dotted key; the first section has the empty name.
fn split_key(key: &str) -> (&str, &str) {
    key.rsplit_once('.').unwrap_or(("", key))
}

/// The line of a byte offset, counted from 1.
fn line_of(text: &str, offset: usize) -> usize {
    1 + memchr::memchr_iter(b'\n', &text.as_bytes()[..offset.min(text.len())]).count()
}
