//! Publications seen before: many subscribers get the same bytes, and comparing those is cheaper
//! than taking them apart again. It is also stricter, since it looks at every byte.

use crate::client::message::{Message, recognise};
use crate::stamp::Stamp;

/// Publications remembered: more than are usually in flight to the subscribers of a channel.
const REMEMBERED: usize = 32;
/// How the text of a publication begins, before the name of its channel.
const HEAD: &[u8] = b"{\"type\":\"message\",\"channel\":\"";
/// Bytes at the end of a text that tell it from most others: the sequence is in them.
const TAIL_BYTES: usize = 16;

/// The last publications, in the order in which they first came.
pub(crate) struct Recall {
    /// Their ends, apart from the rest so that a search stays in few cache lines.
    tails: [[u8; TAIL_BYTES]; REMEMBERED],
    known: Vec<Known>,
    /// Where the next new one goes.
    newest: usize,
    /// The one after the last that was recalled: a subscriber gets them in the same order.
    next: usize,
}

struct Known {
    text: Vec<u8>,
    channel_bytes: usize,
    stamp: Stamp,
    seq: Option<u64>,
}

impl Recall {
    /// Nothing seen yet.
    pub(crate) fn new() -> Recall {
        Recall {
            tails: [[0; TAIL_BYTES]; REMEMBERED],
            known: Vec::with_capacity(REMEMBERED),
            newest: 0,
            next: 0,
        }
    }

    /// As [`recognise`].
    pub(crate) fn recognise<'t>(&mut self, text: &'t [u8]) -> Option<Message<'t>> {
        let Some(tail) = text.last_chunk().filter(|_| text.starts_with(HEAD)) else {
            return recognise(text);
        };
        let is_next = self
            .known
            .get(self.next)
            .is_some_and(|known| known.text == text);
        let found = if is_next {
            Some(self.next)
        } else {
            self.find(tail, text)
        };
        if let Some(at) = found {
            self.next = (at + 1) % REMEMBERED;
            let known = &self.known[at];
            return Some(Message::Publication {
                channel: &text[HEAD.len()..HEAD.len() + known.channel_bytes],
                stamp: known.stamp,
                seq: known.seq,
            });
        }
        let message = recognise(text)?;
        if let Message::Publication {
            channel,
            stamp,
            seq,
        } = &message
        {
            let place = (channel.len(), *stamp, *seq);
            self.remember(tail, text, place);
        }
        Some(message)
    }

    fn find(&self, tail: &[u8; TAIL_BYTES], text: &[u8]) -> Option<usize> {
        let tails = self.tails[..self.known.len()].iter();
        let mut alike = tails.enumerate().filter(|(_, known)| *known == tail);
        alike
            .find(|(at, _)| self.known[*at].text == text)
            .map(|(at, _)| at)
    }

    fn remember(
        &mut self,
        tail: &[u8; TAIL_BYTES],
        text: &[u8],
        (channel_bytes, stamp, seq): (usize, Stamp, Option<u64>),
    ) {
        self.tails[self.newest] = *tail;
        match self.known.get_mut(self.newest) {
            Some(known) => {
                known.text.clear();
                known.text.extend_from_slice(text);
                (known.channel_bytes, known.stamp) = (channel_bytes, stamp);
                known.seq = seq;
            }
            None => self.known.push(Known {
                text: text.to_vec(),
                channel_bytes,
                stamp,
                seq,
            }),
        }
        self.newest = (self.newest + 1) % REMEMBERED;
        self.next = self.newest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(channel: &str, stream: u32, sequence: u32) -> Vec<u8> {
        let mut payload = Vec::new();
        let stamp = Stamp {
            stream,
            sequence,
            intended_ns: u64::from(sequence) * 7,
        };
        stamp.write(&mut payload, 128);
        let head = format!(r#"{{"type":"message","channel":"{channel}","from":"p","data":"#);
        [head.as_bytes(), &payload, b"}"].concat()
    }

    /// Subscribers that get batches of every size, of two channels with equal sequences.
    #[test]
    fn what_is_recalled_is_what_would_be_recognised() {
        let mut recall = Recall::new();
        let mut first = 0;
        for batch in (1..=40).chain([1, 33, 2]) {
            for _subscriber in 0..3 {
                for sequence in first..first + batch {
                    for (channel, stream) in [("c/1", 1), ("c/22", 2)] {
                        let text = text(channel, stream, sequence);
                        let message = recognise(&text);
                        assert!(message.is_some());
                        assert_eq!(recall.recognise(&text), message);
                    }
                }
            }
            first += batch;
        }
        assert_eq!(recall.known.len(), REMEMBERED);
    }

    #[test]
    fn one_changed_byte_is_not_recalled() {
        let mut recall = Recall::new();
        let right = text("c/1", 1, 9);
        assert!(recall.recognise(&right).is_some());
        for at in 0..right.len() {
            let mut changed = right.clone();
            changed[at] ^= 1;
            assert_eq!(recall.recognise(&changed), recognise(&changed), "byte {at}");
            assert_eq!(recall.recognise(&right), recognise(&right));
        }
    }

    #[test]
    fn other_messages_pass() {
        let mut recall = Recall::new();
        assert_eq!(recall.recognise(br#"{"type":"pong"}"#), Some(Message::Pong));
        assert_eq!(recall.recognise(b""), None);
        assert_eq!(recall.recognise(HEAD), None);
    }
}
