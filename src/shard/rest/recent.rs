//! Bodies that several requests may share, as long as one of them keeps it.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use crate::shard::frame::Frame;

/// The latest large bodies, as long as somebody has not read them.
#[derive(Debug, Default)]
pub(in crate::shard) struct Recent(VecDeque<Weak<[u8]>>);

impl Recent {
    /// The body, or an equal one that somebody else is still to read.
    pub(in crate::shard) fn share(&mut self, body: Vec<u8>) -> Frame {
        if body.len() < SHARED_BYTES_MIN {
            return body.into();
        }
        self.0.retain(|recent| recent.strong_count() > 0);
        let mut recent = self.0.iter().filter_map(Weak::upgrade);
        if let Some(equal) = recent.find(|recent| recent[..] == body[..]) {
            return equal;
        }
        let body = Frame::from(body);
        if self.0.len() >= RECENT_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Arc::downgrade(&body));
        body
    }
}

/// Bodies that are looked at for an equal one.
const RECENT_MAX: usize = 8;

/// Bodies of fewer bytes are not worth being looked for.
const SHARED_BYTES_MIN: usize = 16 * 1_024;
