//! A history as the disk has it: what is stored of it, and what is recorded.

use super::History;
use crate::proto::records::Publication;
use crate::proto::wire::position::Position;
use crate::shard::outbound::encode;

impl History {
    /// What was published at a position may not be stored, although it was to be.
    pub(in crate::shard) fn set_unstored(&mut self, position: Position) {
        if position.epoch != self.epoch {
            return;
        }
        let (from, to) = self.unstored;
        let from = if from == 0 { position.seq } else { from };
        self.unstored = (from.min(position.seq), to.max(position.seq));
    }

    /// All that is kept is stored from that number on, or will be before anything that comes.
    pub(in crate::shard) fn set_stored_from(&mut self, seq: u64) {
        let (from, to) = self.unstored;
        self.unstored = match from < seq {
            true => (from, to.min(seq - 1)),
            false => (0, 0),
        };
    }

    /// Whether what was published at a position may be in memory only.
    pub(in crate::shard) fn is_unstored(&self, position: Position) -> bool {
        let (from, to) = self.unstored;
        to > 0 && (from..=to).contains(&position.seq)
    }

    /// The publication of a number as it is recorded, if it is kept; `frame` is where its frame is
    /// put.
    pub(in crate::shard) fn recorded<'a>(
        &'a self,
        seq: u64,
        (app, channel): (&'a str, &'a str),
        frame: &'a mut Vec<u8>,
    ) -> Option<Publication<'a>> {
        let place = usize::try_from(seq.checked_sub(self.first())?).ok()?;
        let it = self.kept.get(place)?;
        let sender = self.senders.get(it.sender)?;
        frame.clear();
        let message = encode::unnumbered(self.frame(place), seq);
        encode::message_with(frame, message, None, None);
        Some(Publication {
            app,
            channel,
            epoch: self.epoch.as_str(),
            seq,
            first: self.first_stored(),
            time_ms: it.unix_ms,
            ttl_sec: u32::try_from(self.ttl_ms() / 1_000).unwrap_or(u32::MAX),
            from: sender.id.as_str(),
            id: self.ids.id_at(self.position_of(seq)).unwrap_or_default(),
            metadata: sender.metadata.as_deref().unwrap_or_default(),
            frame,
        })
    }

    fn position_of(&self, seq: u64) -> Position {
        let epoch = self.epoch;
        Position { epoch, seq }
    }
}
