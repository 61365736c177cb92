//! What operators ask a shard, and what it answers.
//!
//! A question is asked with a number, and its answer has the same one. Each question is answered
//! once: with what has been found out, or with [`Answer::Unanswered`] when others were silent.

use std::sync::Arc;

use crate::domain::app_id::AppTag;
use crate::domain::history_page::{HistoryAsked, HistoryTold};
use crate::domain::look::{Look, Seen};
use crate::domain::rights::App;
use crate::domain::trace::Trace;
use crate::events::author::Author;
use crate::ids::ConnectionId;

/// What is asked.
#[derive(Clone, Debug)]
pub enum Query {
    /// To disconnect somebody.
    Kick(KickQuery),
    /// Of any shard: about what a channel keeps.
    History(HistoryQuery),
    /// Of each shard: what it sees. It changes nothing.
    Look(Look),
    /// Of each shard: to record somebody's messages for a while.
    Trace(Arc<Trace>),
}

/// Whom to disconnect, and for whom.
#[derive(Clone, Debug)]
pub struct KickQuery {
    /// The app.
    pub app: Arc<App>,
    /// The peer's id.
    pub peer: Box<str>,
    /// With `None`, any shard can be asked to close all connections of the peer: nothing of the
    /// peer is left when that is answered. Else the shard of this one, which is in no roster then;
    /// it has to be the peer's, unless that has no name here.
    pub connection: Option<ConnectionId>,
    /// Who wants it.
    pub by: Author,
}

/// What a channel keeps, and what is wanted of it.
#[derive(Clone, Debug)]
pub struct HistoryQuery {
    /// The app.
    pub app: AppTag,
    /// The channel's name, a valid one.
    pub channel: Box<str>,
    /// What is wanted.
    pub asked: HistoryAsked,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// How many connections were closed.
    Kicked(u64),
    /// About what a channel keeps.
    History(HistoryTold),
    /// What the shard has seen.
    Seen(Box<Seen>),
    /// It traces from now on, or no longer.
    Traces,
    /// A shard that was to be asked did not answer in time, or is gone.
    Unanswered,
}
