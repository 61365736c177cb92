//! What has been said by whom, and who was where when: what the checks compare with.

/// A message to a channel.
pub struct Publication {
    pub client: usize,
    pub app: usize,
    pub channel: usize,
    pub step: u64,
    /// The publisher's own unbroken membership of the channel, if it had one.
    pub epoch: Option<usize>,
    /// `Some(true)`: acked. Without a `requestId` nobody says.
    pub accepted: Option<bool>,
}

/// A message to a peer.
pub struct Direct {
    pub client: usize,
    pub app: usize,
    pub to: String,
    pub step: u64,
    /// The sender's unbroken memberships: channel and epoch.
    pub epochs: Vec<(usize, usize)>,
    pub accepted: Option<bool>,
    pub receivers: Vec<usize>,
}

/// What takes a place in a channel's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    Publication(u64),
    /// A presence frame, as text: all who get it get the same.
    Presence(String),
}

/// A connection's unbroken membership of a channel: from the ack of its `subscribe` to its
/// next `unsubscribe`.
pub struct Epoch {
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
pub struct Suspicion {
    pub epoch: usize,
    pub text: String,
}

/// See the top of this file. Publications and directs are numbered together.
#[derive(Default)]
pub struct Ledger {
    pub publications: std::collections::BTreeMap<u64, Publication>,
    pub directs: std::collections::BTreeMap<u64, Direct>,
    pub epochs: Vec<Epoch>,
    pub suspicions: Vec<Suspicion>,
    pub next_number: u64,
}

impl Ledger {
    pub fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }
}
