//! Reads the keys of one table, each with its type, its range and its default: values on one
//! side, typed values or a [`ConfigError`] with the place on the other.
//!
//! Where the document collects its faults, a faulty value counts as left out, and the rest is
//! read on.
//!
//! A key is declared by asking for it, exactly once, where it is resolved.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::document::Document;
use super::error::{ConfigError, Fault, Place};
use super::given::{Given, Origin};
use super::overrides::Override;

/// A table of the document, and what overrides its keys.
pub(super) struct Section<'d> {
    document: &'d Document<'d>,
    /// Dotted; empty for the document itself.
    name: String,
    /// `None` when it is not in the file.
    table: Option<&'d DeTable<'d>>,
    /// Where it begins in the file.
    offset: usize,
    overridable: bool,
    asked: BTreeSet<&'static str>,
}

impl<'d> Section<'d> {
    /// The document itself as a section, whose keys are the sections.
    pub(super) fn root(document: &'d Document<'d>) -> Self {
        Self::new(document, String::new(), Some(document.table()), 0)
    }

    /// A table of that dotted name, at that offset.
    fn new(
        document: &'d Document<'d>,
        name: String,
        table: Option<&'d DeTable<'d>>,
        offset: usize,
    ) -> Self {
        Self {
            document,
            name,
            table,
            offset,
            overridable: false,
            asked: BTreeSet::new(),
        }
    }

    /// Whether the file has it, or an override for one of its keys.
    pub(super) fn is_present(&self) -> bool {
        self.table.is_some() || self.asked.iter().any(|key| self.override_of(key).is_some())
    }

    /// A number in a range.
    pub(super) fn integer<T>(
        &mut self,
        key: &'static str,
        default: T,
        range: RangeInclusive<T>,
    ) -> Result<T, ConfigError>
    where
        T: TryFrom<u64> + PartialOrd + Display,
    {
        let expected = format!("an integer from {} to {}", range.start(), range.end());
        let shown = default.to_string();
        let read = |given: Given<'d>| {
            let number = T::try_from(given.integer()?).ok()?;
            range.contains(&number).then_some(number)
        };
        Ok(self
            .value(key, &expected, Some(&shown), read)?
            .unwrap_or(default))
    }

    /// `true` or `false`.
    pub(super) fn boolean(
        &mut self,
        key: &'static str,
        default: bool,
    ) -> Result<bool, ConfigError> {
        let shown = default.to_string();
        Ok(self
            .value(key, "true or false", Some(&shown), Given::boolean)?
            .unwrap_or(default))
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy + PartialEq>(
        &mut self,
        key: &'static str,
        default: T,
        words: &[(&str, T)],
    ) -> Result<T, ConfigError> {
        let quoted: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        let shown = words.iter().find(|(_, meaning)| *meaning == default);
        let shown = shown.map(|(word, _)| format!("{word:?}"));
        let read = |given: Given<'d>| {
            let text = given.text()?;
            words
                .iter()
                .find(|(word, _)| *word == text)
                .map(|(_, meaning)| *meaning)
        };
        let expected = quoted.join(" or ");
        Ok(self
            .value(key, &expected, shown.as_deref(), read)?
            .unwrap_or(default))
    }

    /// A file or directory: relative to the configuration file, never empty.
    pub(super) fn path(
        &mut self,
        key: &'static str,
        default: &Path,
    ) -> Result<PathBuf, ConfigError> {
        let shown = format!("{default:?}");
        let path = self.value(key, "a path", Some(&shown), |given| match given.text()? {
            "" => None,
            text => Some(Path::new(text)),
        })?;
        Ok(self.resolved(path.unwrap_or(default)))
    }

    /// A path as seen from the working directory.
    pub(super) fn resolved(&self, path: &Path) -> PathBuf {
        self.document.directory().join(path)
    }

    /// A list whose items are all of one kind; `expected` tells of one item.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        default: Option<&str>,
        read: impl Fn(Given<'d>) -> Option<T>,
    ) -> Result<Option<Vec<T>>, ConfigError> {
        let of_these = format!("a list, each item {expected}");
        let Some(items) = self.value(key, &of_these, default, Given::items)? else {
            return Ok(None);
        };
        let count = items.len();
        let mut list = Vec::with_capacity(count);
        for item in items {
            match read(item) {
                Some(value) => list.push(value),
                None => self.faulty(key, self.unexpected(key, item, expected, default))?,
            }
        }
        Ok((list.len() == count).then_some(list))
    }

    /// Any other kind of value; `None` when it is not given. `default` is for the error.
    pub(super) fn value<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        default: Option<&str>,
        read: impl FnOnce(Given<'d>) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let given = self.ask(key);
        if self.overridable {
            let default = default.unwrap_or_default();
            self.document
                .note_setting(self.key_name(key), given, default);
        }
        let Some(given) = given else {
            return Ok(None);
        };
        match read(given) {
            Some(value) => Ok(Some(value)),
            None => {
                self.faulty(key, self.unexpected(key, given, expected, default))?;
                Ok(None)
            }
        }
    }

    /// A value that has no default. What stands in for a faulty one is used where faults are
    /// collected.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(Given<'d>) -> Option<T>,
        stand_in: impl FnOnce() -> T,
    ) -> Result<T, ConfigError> {
        if let Some(value) = self.value(key, expected, None, read)? {
            return Ok(value);
        }
        if !self.has_fault(key) {
            let place = self.document.key_place(self.offset, &self.key_name(key));
            let expected = expected.to_owned();
            self.faulty(key, ConfigError::new(place, Fault::Missing { expected }))?;
        }
        Ok(stand_in())
    }

    /// A secret is read from this variable of the environment.
    pub(super) fn note_read(&self, variable: &str) {
        self.document.note_read(variable);
    }

    /// The section of that name inside this one. Only sections of the document itself can be
    /// overridden.
    pub(super) fn section(&mut self, key: &'static str) -> Result<Section<'d>, ConfigError> {
        let found = self.value(key, "a table", None, Given::table)?;
        let (offset, table) = found.map_or((self.offset, None), |(at, table)| (at, Some(table)));
        Ok(self.child(key, table, offset, self.name.is_empty()))
    }

    /// The sections of that name, `[[name]]` in the file.
    pub(super) fn sections(&mut self, key: &'static str) -> Result<Vec<Section<'d>>, ConfigError> {
        let expected = format!("tables, each begun by [[{}]]", self.key_name(key));
        let tables = self.value(key, &expected, None, |given| {
            given
                .items()?
                .into_iter()
                .map(|item| item.table())
                .collect::<Option<Vec<_>>>()
        })?;
        let tables = tables.unwrap_or_default().into_iter();
        Ok(tables
            .map(|(offset, table)| self.child(key, Some(table), offset, false))
            .collect())
    }

    fn child(
        &self,
        key: &'static str,
        table: Option<&'d DeTable<'d>>,
        offset: usize,
        overridable: bool,
    ) -> Section<'d> {
        let name = self.key_name(key);
        Section {
            overridable,
            ..Section::new(self.document, name, table, offset)
        }
    }

    /// Every key has been asked for: the others in the file are unknown.
    pub(super) fn finish(self) {
        for (key, _) in self.table.into_iter().flatten() {
            if !self.asked.contains(&**key.get_ref()) {
                let name = self.key_name(&shown_key(key.get_ref()));
                self.document.note_unknown(key.span().start, name);
            }
        }
    }

    /// Refuses a contradiction between these keys, placed at the first that is given. Where one of
    /// them has a fault, nothing is known about what it contradicts.
    ///
    /// # Errors
    /// The contradiction, unless faults are collected.
    pub(super) fn refuse(
        &self,
        keys: &[&str],
        cause_and_remedy: String,
    ) -> Result<(), ConfigError> {
        if keys.iter().any(|key| self.has_fault(key)) {
            return Ok(());
        }
        self.document.refuse(self.conflict(keys, cause_and_remedy))
    }

    /// Whether a value of that key was found to be faulty in this section.
    pub(super) fn has_fault(&self, key: &str) -> bool {
        self.document
            .is_faulty(&self.key_name(key), Some(self.offset))
    }

    /// The same of a dotted key of any section.
    pub(super) fn is_faulty(&self, name: &str) -> bool {
        self.document.is_faulty(name, None)
    }

    fn faulty(&self, key: &str, error: ConfigError) -> Result<(), ConfigError> {
        self.document.refuse(error)?;
        self.document.note_faulty(self.key_name(key), self.offset);
        Ok(())
    }

    fn conflict(&self, keys: &[&str], cause_and_remedy: String) -> ConfigError {
        let place = keys.iter().find_map(|key| self.place_of(key));
        let place = place.unwrap_or_else(|| {
            let key = keys.first().map(|key| self.key_name(key));
            let key = key.unwrap_or_else(|| self.name.clone());
            self.document.key_place(self.offset, &key)
        });
        ConfigError::new(place, Fault::Conflict(cause_and_remedy))
    }

    /// Whether the file or an override has a value for the key.
    pub(super) fn is_given(&self, key: &str) -> bool {
        self.place_of(key).is_some()
    }

    fn place_of(&self, key: &str) -> Option<Place> {
        if let Some(entry) = self.override_of(key) {
            return Some(Place::Override(entry.name.clone()));
        }
        let (found, _) = self.table?.get_key_value(key)?;
        Some(
            self.document
                .key_place(found.span().start, &self.key_name(key)),
        )
    }

    fn ask(&mut self, key: &'static str) -> Option<Given<'d>> {
        self.asked.insert(key);
        self.document
            .note_known(self.key_name(key), self.overridable);
        if let Some(entry) = self.override_of(key) {
            return Some(Given::Text {
                name: &entry.name,
                text: &entry.text,
            });
        }
        self.table?.get(key).map(Given::Toml)
    }

    fn override_of(&self, key: &str) -> Option<&'d Override> {
        if !self.overridable {
            return None;
        }
        self.document.override_of(&self.key_name(key))
    }

    fn unexpected(
        &self,
        key: &str,
        given: Given<'_>,
        expected: &str,
        default: Option<&str>,
    ) -> ConfigError {
        let place = match given.origin() {
            Origin::Offset(offset) => self.document.key_place(offset, &self.key_name(key)),
            Origin::Override(name) => Place::Override(name.to_owned()),
        };
        let fault = Fault::Unexpected {
            expected: expected.to_owned(),
            found: given.shown(),
            default: default.map(|default| match place {
                Place::Override(_) => as_text(default),
                _ => default.to_owned(),
            }),
        };
        ConfigError::new(place, fault)
    }

    fn key_name(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }
}

/// A default that is shown as the file would have it, as a variable or an argument has it.
fn as_text(default: &str) -> String {
    default.replace(['[', ']', '"'], "")
}

/// A key of the file as an error shows it: on one line whatever it contains.
fn shown_key(key: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if !key.is_empty() && key.bytes().all(bare) {
        key.to_owned()
    } else {
        format!("{key:?}")
    }
}
