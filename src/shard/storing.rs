//! Records of what is published in channels that are kept on disk, and what whoever waits for a
//! publication is told.

use crate::domain::history::HistoryStore;
use crate::domain::peer::SharedChannel;
use crate::ids::{Seat, Ticket};
use crate::planted::{Bug, planted};
use crate::proto::records::{self, Numbering, Publication};
use crate::shard::context::Context;
use crate::shard::history::history::{History, New};
use crate::shard::mesh_message::{MeshMessage, Placed, Published, Sequenced};

impl Context {
    /// Records a publication that has its number, if it is kept on disk. Returns whether its ack
    /// waits for that.
    pub(in crate::shard) fn record_publication(
        &mut self,
        channel: &SharedChannel,
        new: New<'_>,
        history: &History,
    ) -> bool {
        let Some(app) = history.on_disk() else {
            return false;
        };
        if self.stores.is_open {
            let position = history.position();
            let publication = Publication {
                app,
                channel: channel.name.as_str(),
                epoch: position.epoch.as_str(),
                seq: position.seq,
                first: history.first_stored(),
                time_ms: self.now.unix_ms,
                ttl_sec: u32::try_from(history.ttl_ms() / 1_000).unwrap_or(u32::MAX),
                from: new.from.id.as_str(),
                id: new.id.unwrap_or_default(),
                metadata: new.from.metadata.as_deref().unwrap_or_default(),
                frame: new.frame,
            };
            records::push_publication(&mut self.effects.history, &publication);
        }
        self.stores.acks_wait && !planted(Bug::AckBeforeStored)
    }

    /// Records where a history is, so that who comes again with a publication waits for those
    /// before it. Returns whether the ack waits for that.
    pub(in crate::shard) fn record_numbering(
        &mut self,
        channel: &SharedChannel,
        history: &History,
    ) -> bool {
        let Some(app) = history.on_disk().filter(|_| self.stores.acks_wait) else {
            return false;
        };
        if self.stores.is_open {
            let position = history.position();
            let numbering = Numbering {
                app,
                channel: channel.name.as_str(),
                epoch: position.epoch.as_str(),
                last: position.seq,
                earlier: Vec::new(),
            };
            records::push_numbering(&mut self.effects.history, &numbering);
        }
        true
    }

    /// Records that a channel keeps nothing of what was recorded of it. Returns whether whoever
    /// wanted that waits for it.
    pub(in crate::shard) fn record_forgotten(
        &mut self,
        channel: &SharedChannel,
        app: &str,
    ) -> bool {
        if self.stores.is_open {
            let records = &mut self.effects.history;
            records::push_forgotten(records, app, channel.name.as_str());
        }
        self.stores.acks_wait
    }

    /// The same of a channel of which nothing is known here, where somebody waits for it: the disk
    /// may not have been told yet when it was forgotten.
    pub(in crate::shard) fn record_forgotten_again(&mut self, channel: &SharedChannel) -> bool {
        if !self.stores.acks_wait {
            return false;
        }
        let app = self.rights.app_with_history(channel.app).cloned();
        let app = app.filter(|app| {
            let rule = app.history.for_channel(channel.name.as_str());
            rule.is_some_and(|rule| rule.store == HistoryStore::Disk)
        });
        app.is_some_and(|app| self.record_forgotten(channel, &app.id))
    }

    /// Tells who waits for a publication that it has its place.
    pub(in crate::shard) fn tell_sequenced(
        &mut self,
        home: Seat,
        waiter: Ticket,
        sequenced: Sequenced,
        wants_position: bool,
    ) {
        let delivered = sequenced.delivered;
        let answer = match wants_position || sequenced.is_duplicate {
            true => MeshMessage::Placed(Box::new(Placed { waiter, sequenced })),
            false => MeshMessage::Published(Published { waiter, delivered }),
        };
        self.send(home, answer);
    }
}
