//! The frames that tell one connection who is in a channel: ranges of what all who join share.

use crate::proto::wire::snapshot::{Payload, Rendering};
use crate::shard::outbound::encode;
use crate::shard::outbound::outbox::{BufferPool, Class, Outbox, Piece};

/// See the top of this file.
#[derive(Clone, Debug)]
pub struct Snapshot {
    rendering: Rendering,
    /// The place of the connection's own peer.
    own: Option<u32>,
    bytes: u32,
}

impl Snapshot {
    /// What is rendered, without the peer at a place.
    #[must_use]
    pub fn new((rendering, own): (Rendering, Option<u32>)) -> Self {
        let payloads = rendering.payloads(own);
        let frames = payloads.map(|payload| encode::text_frame_len(payload.len()));
        let bytes = frames.sum::<usize>() as u32;
        Self {
            rendering,
            own,
            bytes,
        }
    }

    /// How many bytes its frames have, shared ones included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// Appends the frames to an outbox. Returns how many there are.
    pub(in crate::shard) fn push(&self, outbox: &mut Outbox, pool: &mut BufferPool) -> usize {
        let mut count = 0;
        for payload in self.rendering.payloads(self.own) {
            count += 1;
            self.push_frame(&payload, outbox, pool);
        }
        count
    }

    fn push_frame(&self, payload: &Payload<'_>, outbox: &mut Outbox, pool: &mut BufferPool) {
        let mut begin = Vec::with_capacity(payload.head.len() + encode::HEADER_BYTES_MAX);
        encode::text_header(&mut begin, payload.len());
        begin.extend_from_slice(payload.head);
        let entries = self.rendering.entries();
        let [before, behind] = payload.ranges.clone();
        let pieces = [
            Piece::Owned(&begin),
            Piece::Shared(entries, before),
            Piece::Shared(entries, behind),
            Piece::Owned(payload.tail),
        ];
        outbox.push_pieces(Class::Reply, &pieces, pool);
    }
}
