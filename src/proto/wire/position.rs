//! A place among the publications of a channel with history, as clients name it.

use std::fmt;

/// Characters of an epoch.
const EPOCH_BYTES: usize = 8;
/// Random bytes that make an epoch.
pub const EPOCH_ENTROPY_BYTES: usize = 6;

/// Names one numbering of a channel's publications: another one has another name.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch([u8; EPOCH_BYTES]);

impl Epoch {
    /// Makes an epoch of random bytes.
    #[must_use]
    pub fn of(entropy: [u8; EPOCH_ENTROPY_BYTES]) -> Self {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let bits = entropy
            .iter()
            .fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        let mut name = [0; EPOCH_BYTES];
        for (at, character) in name.iter_mut().enumerate() {
            *character = ALPHABET[(bits >> (6 * at) & 63) as usize];
        }
        Self(name)
    }

    /// Returns the epoch of that name; `None` if no epoch of this server is called so.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let name: [u8; EPOCH_BYTES] = name.as_bytes().try_into().ok()?;
        let is_known = |it: &u8| it.is_ascii_alphanumeric() || matches!(*it, b'-' | b'_');
        name.iter().all(is_known).then_some(Self(name))
    }

    /// Returns its name, which is safe in a URL and in JSON.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Both ways to make one allow ASCII only.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The place of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Which numbering.
    pub epoch: Epoch,
    /// The number of the publication, from 1 on; 0 stands before the first.
    pub seq: u64,
}

/// What a subscriber wants to know, or to get, of what was published before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// The present position.
    Now,
    /// Everything behind a position; the epoch is `None` where the client names one that is none
    /// of this server's.
    After(Option<Epoch>, u64),
    /// The newest publications, that many.
    Last(u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_read_as_it_is_written() {
        for entropy in [[0; 6], [255; 6], [1, 2, 3, 4, 5, 6]] {
            let epoch = Epoch::of(entropy);
            assert_eq!(epoch.as_str().len(), 8);
            assert_eq!(Epoch::parse(epoch.as_str()), Some(epoch));
        }
        assert_ne!(Epoch::of([0, 0, 0, 0, 0, 1]), Epoch::of([1, 0, 0, 0, 0, 0]));
        for other in ["", "short", "ninechars", "with spa", "with\"quo", "größe-1"] {
            assert_eq!(Epoch::parse(other), None, "{other}");
        }
    }
}
