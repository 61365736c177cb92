//! An outbox as it is handed to another process.

use super::{BufferPool, Class, Finish, Outbox, REPLY_RUN};
use crate::proto::ws::frame::are_whole_frames;
use crate::shard::handover::record::OutboxRecord;

/// Bytes of an outbox, far above what one can hold.
const BYTES_MAX: usize = 1 << 30;

impl Outbox {
    /// What waits, as another process goes on with it. Bytes that are shared are copied.
    pub(in crate::shard) fn hand_over(&self) -> OutboxRecord {
        let Self {
            segments,
            // Whoever refers to it counts from the first byte that is left.
            position: _,
            frame_left,
            raw_left,
            runs,
            // Both are sums of the runs.
            delivery_bytes: _,
            reply_bytes: _,
            control,
            finish,
            untried,
        } = self;
        let mut bytes = Vec::with_capacity(segments.total());
        segments.iter().for_each(|it| bytes.extend_from_slice(it));
        let begins_with_replies = runs.first().is_some_and(|run| run & REPLY_RUN != 0);
        let mut lengths = Vec::with_capacity(runs.len() + 1);
        lengths.extend(begins_with_replies.then_some(0));
        lengths.extend(runs.iter().map(|run| run & !REPLY_RUN));
        let bytes_are_gone = bytes.is_empty();
        let control = control.as_ref();
        let control = control.map_or(&[][..], |it| &it.bytes[it.written..]);
        OutboxRecord {
            bytes: bytes.into(),
            frame_left: *frame_left,
            raw_left: *raw_left,
            runs: lengths,
            control: control.to_vec().into(),
            finish: *finish as u8,
            is_untried: *untried && !bytes_are_gone,
        }
    }

    /// Goes on with what another process has handed over; `None` if that is no outbox.
    pub(in crate::shard) fn take_over(
        record: &OutboxRecord,
        pool: &mut BufferPool,
    ) -> Option<Self> {
        let mut outbox = Self::default();
        let mut rest = Some(&record.bytes[..]).filter(|it| it.len() < BYTES_MAX)?;
        let mut class = Class::Delivery;
        for (at, length) in record.runs.iter().enumerate() {
            let (bytes, behind) = rest.split_at_checked(*length as usize)?;
            if bytes.is_empty() && at > 0 {
                return None;
            }
            outbox.push(class, bytes, pool);
            rest = behind;
            class = match class {
                Class::Delivery => Class::Reply,
                Class::Reply => Class::Delivery,
            };
        }
        let begun = record.frame_left.max(record.raw_left) as usize;
        let is_one = record.frame_left == 0 || record.raw_left == 0;
        if !rest.is_empty() || !is_one || !are_whole_frames(record.bytes.get(begun..)?) {
            return None;
        }
        outbox.frame_left = record.frame_left;
        outbox.raw_left = record.raw_left;
        if !record.control.is_empty() {
            outbox.push_control(&record.control);
        }
        outbox.finish(match record.finish {
            0 => Finish::Open,
            1 => Finish::ShutdownWrite,
            2 => Finish::Close,
            _ => return None,
        });
        outbox.untried = record.is_untried && outbox.queued() > 0;
        Some(outbox)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::ws::frame::{Opcode, append_frame};
    use crate::shard::frame::Frame;

    /// Takes up to `count` bytes, as a socket does.
    fn write(outbox: &mut Outbox, count: usize, pool: &mut BufferPool) -> Vec<u8> {
        let slices = outbox.pending_slices();
        let bytes = slices.iter().flat_map(|slice| slice.iter().copied());
        let bytes: Vec<u8> = bytes.take(count).collect();
        drop(slices);
        if !bytes.is_empty() {
            outbox.advance(bytes.len(), pool);
        }
        bytes
    }

    fn write_all(outbox: &mut Outbox, pool: &mut BufferPool) -> Vec<u8> {
        let mut all = Vec::new();
        while !outbox.is_empty() {
            all.extend(write(outbox, usize::MAX, pool));
        }
        all
    }

    fn frame(length: usize) -> Vec<u8> {
        let mut frame = Vec::new();
        append_frame(
            &mut frame,
            Opcode::Text,
            &vec![b'a' + (length % 26) as u8; length],
        );
        frame
    }

    proptest! {
        /// Whatever was queued and however much of it was written, another outbox goes on with the
        /// same bytes, and counts them alike.
        #[test]
        fn another_outbox_goes_on_with_the_same_stream(
            raw in 0_usize..3,
            pushed in prop::collection::vec((0_usize..6, 0_usize..300), 0..12),
            written in prop::collection::vec(0_usize..400, 0..6),
        ) {
            let pool = &mut BufferPool::default();
            let mut outbox = Outbox::default();
            if raw > 0 {
                outbox.push_http(&vec![b'H'; raw * 40], pool);
            }
            for (kind, length) in pushed {
                match kind {
                    0 => outbox.push_control(&frame(length % 100)),
                    1 => {
                        let shared = Frame::from(frame(4_096 + length));
                        outbox.push_shared(Class::Reply, &shared, 0..shared.len(), pool);
                    }
                    2 | 3 => outbox.push(Class::Reply, &frame(length), pool),
                    _ => outbox.push(Class::Delivery, &frame(length), pool),
                }
            }
            for count in written {
                if !outbox.is_empty() {
                    write(&mut outbox, count, pool);
                }
            }
            let record = outbox.hand_over();
            let bytes = minicbor::to_vec(&record).unwrap();
            prop_assert_eq!(&minicbor::decode::<OutboxRecord>(&bytes).unwrap(), &record);
            let mut other = Outbox::take_over(&record, pool).unwrap();
            other.check();
            prop_assert_eq!(other.delivery_bytes(), outbox.delivery_bytes());
            prop_assert_eq!(other.reply_bytes(), outbox.reply_bytes());
            prop_assert_eq!(other.control_bytes(), outbox.control_bytes());
            prop_assert_eq!(other.hand_over(), record);
            prop_assert_eq!(write_all(&mut other, pool), write_all(&mut outbox, pool));
        }
    }
}
