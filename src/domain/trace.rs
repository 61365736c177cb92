//! Whose messages are recorded for an operator, for a while.

use crate::domain::app_id::AppTag;
use crate::ids::AppIndex;

/// What is traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Traced {
    /// What a peer publishes, sends and is sent.
    Peer(Box<str>),
    /// What is published into a channel.
    Channel(Box<str>),
}

/// One peer or channel of an app, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The app, as events name it.
    pub app: AppIndex,
    /// The app, as names are told apart by.
    pub tag: AppTag,
    /// What is traced.
    pub traced: Traced,
    /// For how long, in milliseconds; 0 ends what is traced.
    pub for_ms: u64,
}
