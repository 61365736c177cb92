//! Who has done something to the server: a backend, an operator, or the server itself.

use std::net::IpAddr;

use super::kind::AuthorKind;

/// A number of a record that is not known.
pub const UNKNOWN: u64 = u64::MAX;

/// See the top of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Author {
    /// What it is known by.
    pub kind: AuthorKind,
    /// The number of the console's session, where it is one.
    pub session: Option<u64>,
    /// Where from.
    pub address: Option<IpAddr>,
}

impl Author {
    /// The server, its configuration, or a signal: nobody who comes from an address.
    #[must_use]
    pub const fn local(kind: AuthorKind) -> Self {
        Self {
            kind,
            session: None,
            address: None,
        }
    }

    /// Returns the number of the session as records have it.
    #[must_use]
    pub fn session_number(&self) -> u64 {
        self.session.unwrap_or(UNKNOWN)
    }
}
