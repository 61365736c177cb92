//! The name of a numbering.

use smallvec::SmallVec;

/// Bytes that an epoch has at most; longer ones would be moved to the heap.
const BYTES: usize = 16;

/// The name of one numbering of a channel: 8 to 16 URL-safe characters, drawn at random.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Epoch(SmallVec<[u8; BYTES]>);

impl Epoch {
    /// The epoch with that name.
    #[must_use]
    pub fn new(name: &[u8]) -> Self {
        Self(SmallVec::from_slice(name))
    }

    /// Returns its name; empty if it is no text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Whether it has that name.
    #[must_use]
    pub(super) fn is(&self, name: &[u8]) -> bool {
        *self.0 == *name
    }
}
