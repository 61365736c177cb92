//! What has been said by whom, and who was where when: what the checks compare with.

use crate::tenants::APPS;

/// A message to a channel.
pub(crate) struct Publication {
    /// `None`: a backend.
    pub client: Option<usize>,
    /// Whose messages to a channel keep their order.
    pub publisher: usize,
    pub app: usize,
    pub channel: usize,
    pub step: u64,
    /// The publisher's own unbroken membership of the channel, if it had one.
    pub epoch: Option<usize>,
    pub has_id: bool,
    /// `Some(true)`: acked. Without a `requestId` nobody says.
    pub accepted: Option<bool>,
}

/// A message to a peer.
pub(crate) struct Direct {
    pub client: usize,
    pub app: usize,
    pub to: String,
    pub step: u64,
    /// The sender's unbroken memberships: channel and epoch.
    pub epochs: Vec<(usize, usize)>,
    pub accepted: Option<bool>,
    /// It was refused for another reason than that nobody was there.
    pub is_refused: bool,
    pub receivers: Vec<usize>,
}

/// What takes a place in a channel's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Publication(u64),
    /// A presence frame, as text: all who get it get the same.
    Presence(String),
}

/// A connection's unbroken membership of a channel: from the ack of its `subscribe` to its
/// next `unsubscribe`.
pub(crate) struct Epoch {
    pub client: usize,
    pub app: usize,
    pub channel: usize,
    pub since_step: u64,
    pub over: bool,
    pub presence: bool,
    /// What came since the last quiet point, in order.
    pub items: Vec<Item>,
}

/// Something that was wrong unless that epoch's connection had ended at the time.
pub(crate) struct Suspicion {
    pub epoch: usize,
    pub text: String,
}

/// See the top of this file. Publications and directs are numbered together.
#[derive(Default)]
pub(crate) struct Ledger {
    pub publications: std::collections::BTreeMap<u64, Publication>,
    pub directs: std::collections::BTreeMap<u64, Direct>,
    pub epochs: Vec<Epoch>,
    pub suspicions: Vec<Suspicion>,
    pub next_number: u64,
    /// Messages that reached the quota check of each app, as answers tell.
    pub known: [u64; APPS],
    /// Those of them that passed it.
    pub accepted: [u64; APPS],
    /// Those of which nobody was told.
    pub unknown: [u64; APPS],
}

impl Ledger {
    pub(crate) fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }
}
