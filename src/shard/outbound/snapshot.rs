//! The frames that tell one connection who is in a channel: ranges of what all who join share.

use crate::proto::wire::snapshot::{Payload, Rendering};
use crate::proto::ws::frame::{are_whole_frames, count_frames};
use crate::shard::frame::Frame;
use crate::shard::outbound::encode;
use crate::shard::outbound::outbox::{BufferPool, Class, Outbox, Piece};

/// See the top of this file.
#[derive(Clone, Debug)]
pub struct Snapshot {
    content: Content,
    bytes: u32,
}

#[derive(Clone, Debug)]
enum Content {
    /// What is rendered, without the entry at the place of the connection's own peer.
    Rendered {
        rendering: Rendering,
        own: Option<u32>,
    },
    /// The frames themselves, and how many they are: of another process.
    Frames { frames: Frame, count: u32 },
}

impl Snapshot {
    /// What is rendered, without the peer at a place.
    #[must_use]
    pub fn new((rendering, own): (Rendering, Option<u32>)) -> Self {
        let payloads = rendering.payloads(own);
        let frames = payloads.map(|payload| encode::text_frame_len(payload.len()));
        let bytes = frames.sum::<usize>() as u32;
        Self {
            content: Content::Rendered { rendering, own },
            bytes,
        }
    }

    /// The frames, as another process sends them.
    pub(in crate::shard) fn hand_over(&self) -> Vec<u8> {
        let (mut outbox, mut pool) = (Outbox::default(), BufferPool::default());
        self.push(&mut outbox, &mut pool);
        outbox.hand_over().bytes.into()
    }

    /// The frames that another process has handed over; `None` if they are none.
    pub(in crate::shard) fn take_over(frames: &[u8]) -> Option<Self> {
        let is_one = !frames.is_empty() && are_whole_frames(frames);
        let bytes = u32::try_from(frames.len()).ok().filter(|_| is_one)?;
        let content = Content::Frames {
            count: count_frames(frames) as u32,
            frames: frames.into(),
        };
        Some(Self { content, bytes })
    }

    /// How many bytes its frames have, shared ones included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// Appends the frames to an outbox. Returns how many there are.
    pub(in crate::shard) fn push(&self, outbox: &mut Outbox, pool: &mut BufferPool) -> usize {
        let (rendering, own) = match &self.content {
            Content::Rendered { rendering, own } => (rendering, *own),
            Content::Frames { frames, count } => {
                outbox.push_shared(Class::Reply, frames, 0..frames.len(), pool);
                return *count as usize;
            }
        };
        let mut count = 0;
        for payload in rendering.payloads(own) {
            count += 1;
            push_frame(&payload, rendering, outbox, pool);
        }
        count
    }
}

fn push_frame(
    payload: &Payload<'_>,
    rendering: &Rendering,
    outbox: &mut Outbox,
    pool: &mut BufferPool,
) {
    let mut begin = Vec::with_capacity(payload.head.len() + encode::HEADER_BYTES_MAX);
    encode::text_header(&mut begin, payload.len());
    begin.extend_from_slice(payload.head);
    let entries = rendering.entries();
    let [before, behind] = payload.ranges.clone();
    let pieces = [
        Piece::Owned(&begin),
        Piece::Shared(entries, before),
        Piece::Shared(entries, behind),
        Piece::Owned(payload.tail),
    ];
    outbox.push_pieces(Class::Reply, &pieces, pool);
}
