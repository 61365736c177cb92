//! The outbox against a naive model of it: a list of whole frames, each a plain `Vec`.

use proptest::prelude::*;

use super::*;
use crate::proto::ws::frame::{Opcode, append_frame};

/// What may happen to an outbox.
#[derive(Clone, Debug)]
enum Step {
    Push(bool, usize),
    /// A frame of pieces: its header, then so many bytes, by turns its own and shared.
    Pieces(bool, Vec<usize>),
    /// So many frames of one length, all in one shared block.
    Shared(bool, usize, usize),
    Control(usize),
    Discard,
    /// Write up to so many bytes: all slices, or the first only.
    Write(usize, bool),
    /// Tell it that what waits is offered to the socket.
    Offer,
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![8 => 0..300_usize, 2 => 3_000..9_000_usize, 1 => 60_000..140_000_usize];
    prop_oneof![
        4 => (any::<bool>(), len.clone()).prop_map(|(class, len)| Step::Push(class, len)),
        2 => (any::<bool>(), prop::collection::vec(len.clone(), 1..6))
            .prop_map(|(class, lens)| Step::Pieces(class, lens)),
        2 => (any::<bool>(), 1..4_usize, len.clone())
            .prop_map(|(class, count, len)| Step::Shared(class, count, len)),
        1 => (0..60_usize).prop_map(Step::Control),
        1 => Just(Step::Discard),
        6 => (prop_oneof![1..40_usize, len], any::<bool>())
            .prop_map(|(count, all)| Step::Write(count, all)),
        2 => Just(Step::Offer),
    ]
}

/// A frame that differs from all others, and from itself at each place.
fn frame(number: usize, opcode: Opcode, len: usize) -> Vec<u8> {
    let payload = (0..len).map(|at| (at * 7 + number * 13) as u8);
    let mut frame = Vec::new();
    append_frame(&mut frame, opcode, &payload.collect::<Vec<_>>());
    frame
}

#[derive(Default)]
struct Model {
    /// Frames that have not left, with their class.
    queue: Vec<(bool, Vec<u8>)>,
    /// How much of the first has left.
    begun: usize,
    control: Vec<u8>,
    /// Whether anything of the queue has been offered.
    offered: bool,
}

impl Model {
    fn bytes(&self, class: bool) -> usize {
        let frames = self.queue.iter().filter(|it| it.0 == class);
        let lens = frames.map(|it| it.1.len());
        let begun = self.queue.first().is_some_and(|it| it.0 == class);
        lens.sum::<usize>() - if begun { self.begun } else { 0 }
    }

    /// What may be written now.
    fn pending(&self) -> Vec<u8> {
        if !self.control.is_empty() {
            return match self.begun {
                0 => self.control.clone(),
                begun => self.queue[0].1[begun..].to_vec(),
            };
        }
        let frames = self.queue.iter();
        let bytes: Vec<u8> = frames.flat_map(|(_, frame)| frame.clone()).collect();
        bytes[self.begun..].to_vec()
    }

    fn written(&mut self, mut count: usize) {
        if !self.control.is_empty() && self.begun == 0 {
            self.control.drain(..count);
            return;
        }
        while count > 0 {
            let left = self.queue[0].1.len() - self.begun;
            let step = left.min(count);
            count -= step;
            self.begun += step;
            if step == left {
                self.queue.remove(0);
                self.begun = 0;
            }
        }
    }

    fn push(&mut self, reply: bool, frame: Vec<u8>) {
        self.offered &= !self.queue.is_empty();
        self.queue.push((reply, frame));
    }

    fn discard(&mut self) {
        let keep = usize::from(self.begun > 0);
        self.queue.truncate(keep);
    }
}

fn slices(outbox: &Outbox) -> Vec<Vec<u8>> {
    let slices = outbox.pending_slices();
    slices.iter().map(|slice| slice.to_vec()).collect()
}

fn class(reply: bool) -> Class {
    if reply { Class::Reply } else { Class::Delivery }
}

/// Both, and what they have written.
#[derive(Default)]
struct Pair {
    outbox: Outbox,
    pool: BufferPool,
    model: Model,
}

impl Pair {
    fn apply(&mut self, number: usize, step: &Step) {
        let Self {
            outbox,
            pool,
            model,
        } = self;
        match step {
            Step::Push(reply, len) => {
                let frame = frame(number, Opcode::Text, *len);
                outbox.push(class(*reply), &frame, pool);
                model.push(*reply, frame);
            }
            Step::Pieces(reply, lens) => {
                let frame = frame(number, Opcode::Text, lens.iter().sum());
                let block: Frame = frame[..].into();
                let mut at = frame.len() - lens.iter().sum::<usize>();
                let mut pieces = vec![Piece::Owned(&frame[..at])];
                for (place, len) in lens.iter().enumerate() {
                    pieces.push(match place % 2 {
                        0 => Piece::Shared(&block, at..at + len),
                        _ => Piece::Owned(&frame[at..at + len]),
                    });
                    at += len;
                }
                outbox.push_pieces(class(*reply), &pieces, pool);
                model.push(*reply, frame);
            }
            Step::Shared(reply, count, len) => {
                let frames = (0..*count).map(|at| frame(number + at, Opcode::Binary, *len));
                let frames: Vec<_> = frames.collect();
                let mut block = vec![7; 11];
                block.extend(frames.concat());
                let end = block.len();
                block.extend([7; 5]);
                outbox.push_shared(class(*reply), &block.into(), 11..end, pool);
                for frame in frames {
                    model.push(*reply, frame);
                }
            }
            Step::Control(len) => {
                let frame = frame(number, Opcode::Ping, *len);
                outbox.push_control(&frame);
                model.control.extend(frame);
            }
            Step::Discard => {
                outbox.discard_unstarted(pool);
                model.discard();
            }
            Step::Write(count, all) => {
                let some: Vec<u8> = match all {
                    true => slices(outbox).concat(),
                    false => outbox.pending().to_vec(),
                };
                let expected = model.pending();
                assert_eq!(some.is_empty(), expected.is_empty());
                let whole = outbox.pending_in_one().is_some_and(|it| !it.is_empty());
                assert!(!whole || outbox.pending_in_one() == Some(&expected[..]));
                assert!(expected.starts_with(&some), "other bytes, or another order");
                let count = some.len().min(*count);
                outbox.advance(count, pool);
                model.written(count);
            }
            Step::Offer => {
                outbox.note_offer();
                model.offered = true;
            }
        }
    }

    fn compare(&self) {
        self.outbox.check();
        assert_eq!(self.outbox.delivery_bytes(), self.model.bytes(false));
        assert_eq!(self.outbox.reply_bytes(), self.model.bytes(true));
        assert_eq!(self.outbox.control_bytes(), self.model.control.len());
        let untried = self.model.queue.is_empty() || !self.model.offered;
        assert_eq!(self.outbox.is_untried(), untried);
        let nothing = self.model.queue.is_empty() && self.model.control.is_empty();
        assert_eq!(self.outbox.is_empty(), nothing);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn it_writes_what_a_list_of_frames_would(steps in prop::collection::vec(step(), 1..60)) {
        let mut pair = Pair::default();
        for (number, step) in steps.iter().enumerate() {
            pair.apply(number, step);
            pair.compare();
        }
        while !pair.outbox.is_empty() {
            pair.apply(0, &Step::Write(usize::MAX, true));
            pair.compare();
        }
        assert_eq!(pair.outbox.owned_bytes(), 0);
    }
}
