//! The id of an app, and what stands for it where a name leaves a shard.
//!
//! An [`AppIndex`](crate::ids::AppIndex) is a number of one process: another process numbers the
//! same apps otherwise. Channels and peers are placed, found and told of by the tag of their app,
//! which follows from its id alone, so that all processes mean the same by a name.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use aws_lc_rs::digest::{SHA256, digest};

/// An app, whatever process speaks of it: the first half of the SHA-256 of its id. No two ids
/// with the same one are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AppTag {
    high: u64,
    low: u64,
}

impl AppTag {
    /// The tag of the app with that id.
    #[expect(clippy::expect_used, reason = "SHA-256 has 32 bytes")]
    #[must_use]
    pub fn of(id: &str) -> Self {
        let digest = digest(&SHA256, id.as_bytes());
        let first = digest.as_ref().first_chunk().expect("16 of 32 bytes");
        let number = u128::from_be_bytes(*first);
        Self {
            high: (number >> 64) as u64,
            low: number as u64,
        }
    }

    /// The same as two words, for records of words.
    #[inline]
    #[must_use]
    pub const fn words(self) -> [u64; 2] {
        [self.high, self.low]
    }
}

impl Hash for AppTag {
    /// Half of it spreads as well as all of it, and is one word to hash.
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.high);
    }
}

/// The id that operators gave to an app, with its tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppId {
    text: Box<str>,
    tag: AppTag,
}

impl AppId {
    /// What stands for the app where a name leaves a shard.
    #[inline]
    #[must_use]
    pub fn tag(&self) -> AppTag {
        self.tag
    }
}

impl From<&str> for AppId {
    fn from(id: &str) -> Self {
        Self {
            text: id.into(),
            tag: AppTag::of(id),
        }
    }
}

impl From<String> for AppId {
    fn from(id: String) -> Self {
        Self::from(&*id)
    }
}

impl Deref for AppId {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_follows_from_the_id_alone() {
        // printf abc | sha256sum: the example of FIPS 180-2, section B.1
        let tag = AppTag {
            high: 0xba78_16bf_8f01_cfea,
            low: 0x4141_40de_5dae_2223,
        };
        assert_eq!(AppTag::of("abc"), tag);
        assert_eq!(AppId::from("abc").tag(), tag);
        assert_ne!(AppTag::of("abd"), tag);
    }
}
