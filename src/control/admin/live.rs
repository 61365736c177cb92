//! The live tail of events, as server-sent events (the HTML standard, section 9.2).
//!
//! Nobody waits for a reader: what it has not taken is buffered up to a bound. What does not fit
//! stays in the rings, and is counted and told once it is overwritten there. A stream that was
//! asked for with a session ends with it.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::buffered::{self, Parts};
use crate::control::events::{Events, Found, Position, Query};

/// Between two batches.
const BATCH_EVERY: Duration = Duration::from_millis(100);
/// Between two signs of life.
const COMMENT_EVERY: Duration = Duration::from_secs(15);
/// Events that are read at a time.
const PAGE: usize = 200;

/// Whether whoever follows still may.
pub(super) type GoesOn = Box<dyn Fn() -> bool + Send + Sync>;

/// Streams the events that a query is about: those that are there, then those that come, for as
/// long as it `goes_on`.
pub(super) fn follow(
    events: Arc<Events>,
    mut query: Query,
    last: Option<Position>,
    (permit, goes_on): (OwnedSemaphorePermit, GoesOn),
) -> Response {
    if let Some(position) = &last {
        query.go_on_from(position, &events);
    }
    let (parts, response) = buffered::stream(permit);
    tokio::spawn(Tail { parts, goes_on }.run(events, query));
    response
}

struct Tail {
    parts: Parts,
    goes_on: GoesOn,
}

impl Tail {
    async fn run(self, events: Arc<Events>, mut query: Query) {
        let mut commented = Instant::now();
        while !self.parts.is_closed() && (self.goes_on)() {
            // A reader that takes nothing is not read for.
            if self.parts.is_full() {
                tokio::time::sleep(BATCH_EVERY).await;
                continue;
            }
            let (from, asked) = (Arc::clone(&events), query.clone());
            let found = tokio::task::spawn_blocking(move || from.find(&asked)).await;
            let Ok(found) = found else {
                return;
            };
            if self.batch(&found, &events) {
                commented = Instant::now();
            } else if commented.elapsed() >= COMMENT_EVERY {
                commented = Instant::now();
                self.parts.send(":\n\n".to_owned());
            }
            if let Some(position) = Position::parse(&found.cursor) {
                query.go_on_from(&position, &events);
            }
            query.follow_on(PAGE);
            if found.events.len() < PAGE {
                tokio::time::sleep(BATCH_EVERY).await;
            }
        }
    }

    /// Sends what was found. Returns whether that was anything.
    fn batch(&self, found: &Found, events: &Events) -> bool {
        events.lose(found.lost);
        if found.events.is_empty() && found.lost == 0 {
            return false;
        }
        let mut text = String::new();
        if found.lost > 0 {
            text += &format!("event: lost\ndata: {{\"lost\":{}}}\n\n", found.lost);
        }
        for (at, event) in found.events.iter().enumerate() {
            // An event is JSON by its type, on one line.
            let json = serde_json::to_string(event).unwrap_or_default();
            text += &format!("event: {}\ndata: {json}\n", event.kind);
            if at + 1 == found.events.len() {
                text += &format!("id: {}\n", found.cursor);
            }
            text.push('\n');
        }
        self.parts.send(text);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::events::tests::Scene;
    use crate::events::kind::{Cause, Kind};
    use crate::events::record::Record;

    #[tokio::test]
    async fn what_a_reader_is_too_slow_for_is_told_and_counted() {
        let mut scene = Scene::new(1 << 20);
        let (parts, response) = buffered::stream(());
        let tail = Tail {
            parts,
            goes_on: Box::new(|| true),
        };
        scene.record(0, &Record::new(Kind::Admin, Cause::Reload));
        let mut found = scene.events.find(&Query::default());
        // It was overwritten before it could be read.
        found.lost = 3;
        assert!(tail.batch(&found, &scene.events));
        assert_eq!(scene.events.lost(), 3);
        drop(tail);
        let body = axum::body::to_bytes(response.into_body(), 1 << 20);
        let text = body.await.unwrap();
        let text = str::from_utf8(&text).unwrap();
        assert!(
            text.starts_with("event: lost\ndata: {\"lost\":3}\n\nevent: admin\n"),
            "{text}"
        );
    }
}
