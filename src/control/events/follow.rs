//! The events of a feed as the API shows them.

use serde::Serialize;

use super::book::{Events, unix_ms};
use super::json::time;
use crate::events::feed::{FeedEvent, FeedPage};

/// An event as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FeedEventJson {
    /// Names the event while the process lives.
    id: String,
    time: String,
    /// What has happened.
    pub kind: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    channel: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    peer_id: String,
    number: u64,
}

impl Events {
    /// The events of a page as the API shows them.
    pub(crate) fn feed_json(&self, page: &FeedPage) -> Vec<FeedEventJson> {
        let now = (self.clock)();
        let json = |event: &FeedEvent| FeedEventJson {
            id: format!("{}.{}.{}", self.feed.epoch, event.ring, event.place),
            time: time(unix_ms(event.time_ns, now)),
            kind: event.kind.as_str(),
            channel: event.channel.clone(),
            peer_id: event.peer.clone(),
            number: event.number,
        };
        page.events.iter().map(json).collect()
    }
}
