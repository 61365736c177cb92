//! A message while it arrives in fragments, of whatever kind its first frame said it is.
//!
//! It stands between the decoder, which knows frames and bounds, and the text, which is judged
//! fragment by fragment. Binary messages need no judgement.

use super::close::Fault;
use super::fragments::Fragments;

/// The fragments of one message so far.
#[derive(Debug)]
pub(super) enum Collected {
    Text(Fragments),
    Binary(Vec<u8>),
}

impl Collected {
    /// A text message without a byte.
    pub(super) fn text() -> Self {
        Self::Text(Fragments::default())
    }

    /// A binary message without a byte.
    pub(super) fn binary() -> Self {
        Self::Binary(Vec::new())
    }

    /// Bytes pushed so far.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Text(fragments) => fragments.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// What was pushed so far.
    pub(super) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(fragments) => fragments.bytes(),
            Self::Binary(bytes) => bytes.clone(),
        }
    }

    /// Adds a fragment; see [`Fragments::push`].
    ///
    /// # Errors
    /// [`Fault::InvalidUtf8`] where no further fragment could make a text UTF-8.
    pub(super) fn push(&mut self, fragment: &[u8], message_bytes_max: usize) -> Result<(), Fault> {
        match self {
            Self::Text(fragments) => fragments.push(fragment, message_bytes_max),
            Self::Binary(bytes) => {
                bytes.extend_from_slice(fragment);
                Ok(())
            }
        }
    }
}
