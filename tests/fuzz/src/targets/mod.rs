//! One file for each target, and what several of them share.

pub(crate) mod chunked_body;
mod cluster;
pub(crate) mod configuration;
pub(crate) mod containment;
pub(crate) mod fragments;
pub(crate) mod frames;
pub(crate) mod handover;
pub(crate) mod history;
pub(crate) mod http_head;
pub(crate) mod json_command;
mod naive_pattern;
pub(crate) mod pattern;
pub(crate) mod proxy_header;
pub(crate) mod rest_body;
pub(crate) mod roster;
pub(crate) mod shard;
pub(crate) mod store_file;
pub(crate) mod store_rows;
pub(crate) mod token;

/// Takes bytes apart, from the front. Behind the last one there are zeroes.
pub(crate) struct Bytes<'b>(pub &'b [u8]);

impl<'b> Bytes<'b> {
    /// Whether none are left.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// A number below that one.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    /// As many bytes as there are, up to that count.
    pub(crate) fn take(&mut self, count: usize) -> &'b [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
