//! One value as it was typed: a TOML value, or the text of a variable or argument.
//!
//! Text has no type of its own: it is read as whatever the key wants, and a list is its parts
//! between commas.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Characters of a found value that an error shows.
const SHOWN_CHARS_MAX: usize = 60;

/// A value and where it was typed.
#[derive(Clone, Copy)]
pub(super) enum Given<'d> {
    /// A value in the file.
    Toml(&'d Spanned<DeValue<'d>>),
    /// The text of a variable or argument.
    Text {
        /// Name of the variable or argument.
        name: &'d str,
        /// Its text.
        text: &'d str,
    },
}

/// Where a value was typed.
pub(super) enum Origin<'d> {
    /// At this byte of the file.
    Offset(usize),
    /// In the variable or argument of this name.
    Override(&'d str),
}

impl<'d> Given<'d> {
    pub(super) fn origin(self) -> Origin<'d> {
        match self {
            Self::Toml(value) => Origin::Offset(value.span().start),
            Self::Text { name, .. } => Origin::Override(name),
        }
    }

    /// A number that is not negative.
    pub(super) fn integer(self) -> Option<u64> {
        match self {
            Self::Toml(value) => {
                let number = value.get_ref().as_integer()?;
                u64::from_str_radix(number.as_str(), number.radix()).ok()
            }
            Self::Text { text, .. } => text.parse().ok(),
        }
    }

    pub(super) fn boolean(self) -> Option<bool> {
        match self {
            Self::Toml(value) => value.get_ref().as_bool(),
            Self::Text { text, .. } => text.parse().ok(),
        }
    }

    pub(super) fn text(self) -> Option<&'d str> {
        match self {
            Self::Toml(value) => value.get_ref().as_str(),
            Self::Text { text, .. } => Some(text),
        }
    }

    pub(super) fn items(self) -> Option<Vec<Self>> {
        match self {
            Self::Toml(value) => Some(value.get_ref().as_array()?.iter().map(Self::Toml).collect()),
            Self::Text { text: "", .. } => Some(Vec::new()),
            Self::Text { name, text } => Some(
                text.split(',')
                    .map(|part| Self::Text {
                        name,
                        text: part.trim(),
                    })
                    .collect(),
            ),
        }
    }

    /// A table and its offset in the file. There are none outside the file.
    pub(super) fn table(self) -> Option<(usize, &'d DeTable<'d>)> {
        match self {
            Self::Toml(value) => Some((value.span().start, value.get_ref().as_table()?)),
            Self::Text { .. } => None,
        }
    }

    /// As an error shows it: on one line, and not too long.
    pub(super) fn shown(self) -> String {
        match self {
            Self::Text { text, .. } => quoted(text),
            Self::Toml(value) => match value.get_ref() {
                DeValue::String(text) => format!("string {}", quoted(text)),
                DeValue::Integer(number) => format!("integer {}", clipped(number.as_str())),
                DeValue::Float(number) => format!("float {}", clipped(number.as_str())),
                DeValue::Boolean(value) => format!("boolean {value}"),
                DeValue::Datetime(_) => "a date or time".to_owned(),
                DeValue::Array(_) => "a list".to_owned(),
                DeValue::Table(_) => "a table".to_owned(),
            },
        }
    }
}

fn quoted(text: &str) -> String {
    let (start, rest) = split(text);
    format!("{start:?}{rest}")
}

/// A number as it was typed: the grammar of TOML knows no end of its digits.
fn clipped(text: &str) -> String {
    let (start, rest) = split(text);
    format!("{start}{rest}")
}

/// What of a text is shown, and what is said of the rest.
fn split(text: &str) -> (&str, &'static str) {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        None => (text, ""),
        Some((end, _)) => (&text[..end], "…"),
    }
}
