//! `GET /api/internal/v1/apps/:appId/feed`: who came and went, for the backend of an app.
//!
//! The contract is that of a watch: list, follow, and be told when to list again. A reader asks
//! again and again (a long poll), or reads a stream of server-sent events. Shards never wait for
//! one, and one that takes nothing for a while is cut off.

mod question;
mod readers;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::time::{Instant, sleep};

use self::question::Question;
pub(super) use self::readers::Readers;
use self::watch::{Looked, Watch};
use super::accept::takes_stream;
use super::answer::Failure;
use super::backend::Backend;
use super::buffered::{self, Parts};
use super::events::parameters;
use super::places::Place;
use crate::control::engine::Engine;
use crate::control::events::FeedEventJson;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Between two signs of life of a stream, which tell where it is.
const CURSOR_EVERY: Duration = Duration::from_secs(15);
/// For how long a stream may be full, and an answer may be on its way.
const STALLED_MAX: Duration = Duration::from_secs(30);
/// Events that a stream is given at a time.
const STREAM_PAGE: usize = 200;
/// By what a stream goes on where it was broken off.
const LAST_EVENT_ID: &str = "last-event-id";

type Id = Result<Path<String>, PathRejection>;

/// Answers a poll when there is something, or begins a stream.
pub(super) async fn follow(
    State(engine): State<Arc<Engine>>,
    app_id: Id,
    RawQuery(query): RawQuery,
    Extension(readers): Extension<Arc<Readers>>,
    backend: Option<Extension<Backend>>,
    place: Option<Extension<Arc<Place>>>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let Ok(Path(app_id)) = app_id else {
        return Err(invalid("the path has a bad percent escape"));
    };
    let mut question = Question::parse(parameters(query.as_deref())?).map_err(invalid)?;
    let place = place.map(|Extension(place)| place);
    let backend = backend.map(|Extension(backend)| backend);
    let is_stream = takes_stream(&headers);
    if is_stream && let Some(last) = headers.get(LAST_EVENT_ID) {
        let last = last.to_str().unwrap_or_default().to_owned();
        question.after = Some(last).filter(|it| !it.is_empty()).or(question.after);
    }
    let mut watch = Watch::begin(engine, app_id, backend)?;
    let reader = readers.admit(watch.app().index)?;
    let is_new = question.after.is_none();
    match question.after.as_deref() {
        None => {}
        Some(cursor) => {
            if let Some(expired) = watch.go_on_from(cursor).map_err(invalid)? {
                return Ok(gone(&expired));
            }
        }
    }
    if is_stream {
        if let Some(place) = &place {
            place.begin_stream();
        }
        let (parts, response) = buffered::stream(reader);
        tokio::spawn(run(watch, parts, place));
        return Ok(response);
    }
    if is_new {
        return Ok(page(&[], &watch.cursor()));
    }
    if reader.is_too_fast() {
        sleep(LOOK_EVERY).await;
    }
    let until = Instant::now() + question.wait;
    let mut has_waited = false;
    loop {
        match watch.look(question.limit).await? {
            Looked::Events(events, _) if events.is_empty() && Instant::now() < until => {}
            Looked::Events(events, _) => {
                let answer = page(&events, &watch.cursor());
                return Ok(match has_waited {
                    true => last_answer(answer, (reader, place)).await,
                    false => answer,
                });
            }
            Looked::Expired => return Ok(gone(&watch.cursor())),
        }
        if !std::mem::replace(&mut has_waited, true)
            && let Some(place) = &place
        {
            place.begin_stream();
        }
        sleep(LOOK_EVERY).await;
    }
}

/// An answer that was waited for, on a connection that has no place of its own any more: it is the
/// last one, and it is taken soon or never.
async fn last_answer(
    answer: Response,
    (reader, place): (readers::Reader, Option<Arc<Place>>),
) -> Response {
    let (mut head, body) = answer.into_parts();
    // Made of a value in memory.
    let bytes = axum::body::to_bytes(body, usize::MAX)
        .await
        .unwrap_or_default();
    head.headers
        .insert(CONNECTION, HeaderValue::from_static("close"));
    head.headers.insert(CONTENT_LENGTH, bytes.len().into());
    if let Some(place) = &place {
        let place = Arc::downgrade(place);
        tokio::spawn(async move {
            sleep(STALLED_MAX).await;
            if let Some(place) = place.upgrade() {
                place.end();
            }
        });
    }
    Response::from_parts(head, buffered::whole(bytes, reader))
}

/// Streams until the reader is gone, takes nothing any more, or may not read any more.
async fn run(mut watch: Watch, parts: Parts, place: Option<Arc<Place>>) {
    parts.send(event(
        "cursor",
        &json!({ "cursor": watch.cursor() }),
        &watch.cursor(),
    ));
    let (mut told, mut taken) = (Instant::now(), Instant::now());
    while !parts.is_closed() {
        if parts.is_full() {
            if taken.elapsed() >= STALLED_MAX {
                break;
            }
            sleep(LOOK_EVERY).await;
            continue;
        }
        taken = Instant::now();
        let has_more = match watch.look(STREAM_PAGE).await {
            Ok(Looked::Events(events, has_more)) => {
                if !events.is_empty() {
                    told = taken;
                    parts.send(batch(&events, &watch.cursor()));
                } else if told.elapsed() >= CURSOR_EVERY {
                    told = taken;
                    let cursor = watch.cursor();
                    parts.send(event("cursor", &json!({ "cursor": cursor }), &cursor));
                }
                has_more
            }
            Ok(Looked::Expired) => {
                let cursor = watch.cursor();
                parts.send(event(
                    "cursor_expired",
                    &json!({ "cursor": cursor }),
                    &cursor,
                ));
                false
            }
            Err(failure) => {
                // Without an id: whoever comes back goes on from the last one.
                let (code, message) = failure.told();
                let why = json!({ "error": code, "message": message });
                parts.send(format!("event: end\ndata: {why}\n\n"));
                return;
            }
        };
        if !has_more {
            sleep(LOOK_EVERY).await;
        }
    }
    if let Some(place) = place {
        place.end();
    }
}

/// One server-sent event with the cursor behind it.
fn event(name: &str, data: &serde_json::Value, cursor: &str) -> String {
    format!("event: {name}\ndata: {data}\nid: {cursor}\n\n")
}

/// Events, the last of which has the cursor behind them.
fn batch(events: &[FeedEventJson], cursor: &str) -> String {
    let mut text = String::new();
    for (at, event) in events.iter().enumerate() {
        // An event is JSON by its type, on one line.
        let json = serde_json::to_string(event).unwrap_or_default();
        text += &format!("event: {}\ndata: {json}\n", event.kind);
        if at + 1 == events.len() {
            text += &format!("id: {cursor}\n");
        }
        text.push('\n');
    }
    text
}

fn page(events: &[FeedEventJson], cursor: &str) -> Response {
    let body = json!({ "events": events, "cursor": cursor });
    (
        [(CONTENT_TYPE, "application/json")],
        Bytes::from(body.to_string()),
    )
        .into_response()
}

/// Something may have been missed: here is where to go on from, after a list.
fn gone(cursor: &str) -> Response {
    let message = "events behind this cursor are gone, or it is of another process, another app or \
                   another time of the feed; list again what you care about, then follow from the \
                   new cursor";
    let body = json!({ "error": "cursor_expired", "message": message, "cursor": cursor });
    let headers = [(CONTENT_TYPE, "application/json")];
    (StatusCode::GONE, headers, Bytes::from(body.to_string())).into_response()
}

fn invalid(text: impl Into<String>) -> Failure {
    Failure::invalid(StatusCode::BAD_REQUEST, text)
}
