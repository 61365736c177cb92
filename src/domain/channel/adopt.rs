//! A channel as one process hands it to another: who is there is known, and nobody is told.

use super::Channel;
use crate::domain::peer::SharedPeer;
use crate::domain::roster::{Before, Interest};
use crate::ids::ConnectionRef;

/// What is known of a channel beside who is in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// When something was announced last, on the monotonic clock.
    pub announced_ms: u64,
    /// Publications since the channel is there.
    pub published: u64,
    /// The window in which they are counted, see
    /// [`ChannelRate::window`](crate::domain::channel_rate::ChannelRate::window).
    pub window: (u32, u32, u32),
    /// Events that the app's backend has been told.
    pub fed: u64,
}

impl Channel {
    /// What is known of the channel while nothing is on its way: there is no batch, and nobody is
    /// joining.
    #[must_use]
    pub fn past(&self) -> Past {
        let Self {
            // Both follow from the connections.
            roster: _,
            homes: _,
            changes,
            joiners,
            first_joiner: _,
            barriers,
            // Nobody has to give one back.
            next_token: _,
            announced_ms,
            rendering: _,
            rate,
            fed,
        } = self;
        debug_assert!(changes.as_ref().is_none_or(|it| it.is_empty()));
        debug_assert!(joiners.is_empty() && barriers.is_empty());
        Past {
            announced_ms: *announced_ms,
            published: rate.published(),
            window: rate.window(),
            fed: *fed,
        }
    }

    /// Goes on from there.
    pub fn set_past(&mut self, past: Past) {
        self.announced_ms = past.announced_ms;
        self.rate.set_published(past.published, past.window);
        self.fed = past.fed;
    }

    /// A connection is there, and always was: nobody is told. Returns whether it was not known.
    pub fn adopt(
        &mut self,
        peer: &SharedPeer,
        connection: ConnectionRef,
        interest: Interest,
    ) -> bool {
        if let Before::There | Before::Joining(_) = self.roster.join(peer, connection, 0) {
            return false;
        }
        if let Some(tab) = self.roster.get_mut(peer.id.as_str(), connection) {
            tab.interest = Some(interest);
        }
        self.rendering = None;
        self.count(connection.home, None, Some(interest));
        self.debug_check();
        true
    }
}
