//! Why a peer is not there: its last ends and refusals, each with what came before it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::book::Events;
use super::json::EventJson;
use super::query::{Oldest, Query};
use crate::events::kind::Kind;

/// Ends that are told.
const STORIES_MAX: usize = 5;
/// How long before an end its story begins, in nanoseconds.
const BEFORE_NS: u64 = 60_000_000_000;
/// Events that are told before an end.
const BEFORE_MAX: usize = 50;
/// Events of a peer that are looked at: the newest.
const EVENTS_MAX: usize = 5_000;

/// The answer to "why was this peer disconnected?".
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Stories {
    /// The newest first.
    pub stories: Vec<Story>,
    /// Connections of the peer now; `None` where no app was named.
    pub connected: Option<u64>,
    oldest: Oldest,
}

/// One end, and what came before it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Story {
    /// A `closed` or a `refused`.
    pub end: EventJson,
    /// The oldest first.
    pub before: Vec<EventJson>,
}

impl Events {
    /// Tells the last ends and refusals of the peer that the query names.
    #[must_use]
    pub(crate) fn stories(&self, query: &Query, connected: Option<u64>) -> Stories {
        let (names, now) = (self.names(), (self.clock)());
        let mut newest = BTreeMap::new();
        self.scan(query, &names, now, |event| {
            newest.insert(event.key(), event);
            if newest.len() > EVENTS_MAX {
                newest.pop_first();
            }
        });
        let events: Vec<_> = newest.into_values().collect();
        let is_end = |kind| matches!(kind, Kind::Closed | Kind::Refused);
        let ends = (0..events.len()).rev();
        let ends = ends
            .filter(|at| is_end(events[*at].read.kind))
            .take(STORIES_MAX);
        let story = |at: usize| {
            let from_ns = events[at].read.time_ns.saturating_sub(BEFORE_NS);
            let before = events[..at].iter().rev();
            let before = before.take_while(|it| it.read.time_ns >= from_ns);
            let mut before: Vec<_> = before
                .take(BEFORE_MAX)
                .map(|it| self.json(it, &names, now))
                .collect();
            before.reverse();
            Story {
                end: self.json(&events[at], &names, now),
                before,
            }
        };
        Stories {
            stories: ends.map(story).collect(),
            connected,
            oldest: self.oldest(now),
        }
    }
}
