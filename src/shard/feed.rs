//! What the shard tells the backends of apps that follow who came and went: of the channels and
//! peers that it owns, in the order in which it says so.

use crate::domain::app_id::AppTag;
use crate::domain::channel::Channel;
use crate::domain::peer::{ChannelKey, SharedPeer};
use crate::events::feed::{FeedEntry, FeedKind};
use crate::shard::context::Context;

/// The number of [`FeedKind::PeerOnline`] among the events of a peer; the other one is next.
const ONLINE: u64 = 1;

impl Context {
    /// Whether the backend of an app follows who is in its channels.
    #[inline]
    pub(in crate::shard) fn feeds_presence(&self, app: AppTag) -> bool {
        self.rights.feed(app).presence
    }

    /// A peer has come into a channel whose app's backend follows.
    pub(in crate::shard) fn feed_joined(
        &mut self,
        channel: &ChannelKey,
        owned: &mut Channel,
        peer: &SharedPeer,
    ) {
        if owned.roster().peer_count() == 1 {
            self.feed_channel(channel, owned, None, FeedKind::ChannelOccupied);
        }
        self.feed_channel(channel, owned, Some(peer), FeedKind::MemberJoined);
    }

    /// A peer has left a channel.
    pub(in crate::shard) fn feed_left(
        &mut self,
        channel: &ChannelKey,
        owned: &mut Channel,
        peer: &SharedPeer,
    ) {
        if !self.feeds_presence(channel.app) {
            return;
        }
        self.feed_channel(channel, owned, Some(peer), FeedKind::MemberLeft);
        if owned.roster().is_empty() {
            self.feed_channel(channel, owned, None, FeedKind::ChannelVacated);
            owned.fed = 0;
        }
    }

    fn feed_channel(
        &mut self,
        channel: &ChannelKey,
        owned: &mut Channel,
        peer: Option<&SharedPeer>,
        kind: FeedKind,
    ) {
        owned.fed += 1;
        let entry = FeedEntry {
            kind,
            app: channel.app.words(),
            number: owned.fed,
            peer: peer.map_or("", |peer| peer.id.as_str()),
            channel: channel.name.as_str(),
        };
        self.feed.write(&entry, self.event_ns());
    }

    /// A peer of this shard's has its first connection, or has lost its last.
    pub(in crate::shard) fn feed_peer(&mut self, app: AppTag, peer: &SharedPeer, kind: FeedKind) {
        if !self.rights.feed(app).peers {
            return;
        }
        let entry = FeedEntry {
            kind,
            app: app.words(),
            number: match kind {
                FeedKind::PeerOffline => ONLINE + 1,
                _ => ONLINE,
            },
            peer: peer.id.as_str(),
            channel: "",
        };
        self.feed.write(&entry, self.event_ns());
    }
}
