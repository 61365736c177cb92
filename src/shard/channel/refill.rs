//! What a disk lacks of a channel, recorded again out of what is kept in memory: it was full, or
//! too slow, when that was published.

use crate::domain::app_id::AppTag;
use crate::proto::records::{self, Numbering};
use crate::proto::wire::position::Position;
use crate::shard::channel::channels::Channels;
use crate::shard::context::Context;
use crate::shard::history::history::History;

/// What the disk lacks of a channel.
#[derive(Clone, Copy)]
pub struct Lacking<'a> {
    /// The app's id.
    pub app: &'a str,
    /// The channel's name.
    pub channel: &'a str,
    /// That the channel was forgotten: what is there of it is over.
    pub is_forgotten: bool,
    /// The first number of an epoch that is not there, and whether it is not said either that what
    /// comes before is over; `None`: all of it is there.
    pub from: &'a dyn Fn(&str) -> Option<(u64, bool)>,
}

impl Channels {
    /// Records of a channel what the disk lacks, into records that have so many bytes afterwards,
    /// or one publication more. Returns the position to go on with, if that was not all.
    pub(in crate::shard) fn record_again(
        &mut self,
        lacking: &Lacking<'_>,
        into: &mut Vec<u8>,
        bytes_max: usize,
        context: &Context,
    ) -> Option<Position> {
        let Lacking { app, channel, .. } = *lacking;
        if lacking.is_forgotten {
            records::push_forgotten(into, app, channel);
        }
        let tag = AppTag::of(app);
        let hash = context.placement.channel_hash(tag, channel);
        let slot = self.find(hash, &tag, channel)?;
        let listed = self.get_mut(slot)?.history.as_deref_mut()?;
        let history = &mut listed.history;
        history.on_disk()?;
        let position = history.position();
        let (from, is_numbered) = match lacking.is_forgotten {
            true => (history.first(), false),
            false => (lacking.from)(position.epoch.as_str())?,
        };
        let first = from.max(history.first());
        if (is_numbered || first > from) && first <= position.seq + 1 {
            push_numbering(into, lacking, history, first - 1);
        }
        let mut frame = Vec::new();
        for seq in first..=position.seq {
            if into.len() >= bytes_max {
                let epoch = position.epoch;
                return Some(Position { epoch, seq });
            }
            let publication = history.recorded(seq, (app, channel), &mut frame)?;
            records::push_publication(into, &publication);
        }
        history.set_stored_from(from);
        None
    }
}

/// What comes before the next number is not kept any more, and not on disk either.
fn push_numbering(into: &mut Vec<u8>, lacking: &Lacking<'_>, history: &History, last: u64) {
    let epoch = history.position().epoch;
    let numbering = Numbering {
        app: lacking.app,
        channel: lacking.channel,
        epoch: epoch.as_str(),
        last,
        earlier: Vec::new(),
    };
    records::push_numbering(into, &numbering);
}
