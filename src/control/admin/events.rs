//! `GET /api/internal/v1/events` and `/why`: what just happened to whom, and why.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::accept::takes_stream;
use super::answer::Failure;
use super::gate::Caller;
use super::live;
use super::places::Place;
use super::session::Sessions;
use crate::control::engine::Engine;
use crate::control::events::{Events, Position, Query};
use crate::proto::http::target::percent_decode;

/// By what a stream goes on where it was broken off.
const LAST_EVENT_ID: &str = "last-event-id";
/// What a story is asked by.
const OF_STORIES: [&str; 3] = ["app", "peer", "since"];

/// Lists events, or streams them to whoever accepts `text/event-stream`.
pub(super) async fn list(
    State(engine): State<Arc<Engine>>,
    RawQuery(text): RawQuery,
    (Extension(sessions), Extension(caller)): (Extension<Arc<Sessions>>, Extension<Caller>),
    place: Option<Extension<Arc<Place>>>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let events = recorded(&engine)?;
    let mut query = parse(text.as_deref(), &events, |_| true)?;
    if takes_stream(&headers) {
        let last = headers.get(LAST_EVENT_ID).and_then(|it| it.to_str().ok());
        let last = last.and_then(Position::parse);
        let streams = Arc::clone(&events.streams);
        let permit = streams.try_acquire_owned().map_err(|_| {
            Failure::busy("as many streams are open as there may be; close one and try again")
        })?;
        if let Some(Extension(place)) = place {
            place.begin_stream();
        }
        let goes_on: live::GoesOn = match caller.session {
            Some(session) => Box::new(move || sessions.has(session.number, engine.now())),
            None => Box::new(|| true),
        };
        return Ok(live::follow(events, query, last, (permit, goes_on)));
    }
    query.page();
    let found = read(events, move |events| events.find(&query)).await?;
    Ok(Json(found).into_response())
}

/// Tells why a peer is not there.
pub(super) async fn why(
    State(engine): State<Arc<Engine>>,
    RawQuery(text): RawQuery,
) -> Result<Response, Failure> {
    let events = recorded(&engine)?;
    let given = parameters(text.as_deref())?;
    let value = |name: &str| {
        let mut given = given.iter();
        given.find(|(it, _)| it == name).map(|(_, value)| &**value)
    };
    let Some(peer) = value("peer") else {
        return Err(invalid("peer: it must be named"));
    };
    let connected = match value("app") {
        Some(app) => {
            let registry = engine.registry();
            let tag = registry.app(app)?.app.id.tag();
            Some(engine.shards().connected(tag, peer).await)
        }
        None => None,
    };
    let mut query = parse(text.as_deref(), &events, |name| OF_STORIES.contains(&name))?;
    if value("since").is_none() {
        query.go_back_to_the_start();
    }
    let stories = read(events, move |events| events.stories(&query, connected)).await?;
    Ok(Json(stories).into_response())
}

/// The last `closed` of a peer, however long ago; null when there is none, or none are kept.
pub(super) async fn last_closed(engine: &Engine, app: &str, peer: &str) -> Result<Value, Failure> {
    let events = Arc::clone(engine.shards().events());
    if !events.is_on() {
        return Ok(Value::Null);
    }
    let query = Query::last_closed(app, peer, &events);
    let found = read(events, move |events| events.find(&query)).await?;
    let closed = found.events.last().map(serde_json::to_value);
    // An event is JSON by its type.
    Ok(closed.transpose().unwrap_or_default().unwrap_or_default())
}

/// Reads beside the control thread, as many at a time as may.
async fn read<T: Send + 'static>(
    events: Arc<Events>,
    read: impl FnOnce(&Events) -> T + Send + 'static,
) -> Result<T, Failure> {
    let permit = Arc::clone(&events.scans).try_acquire_owned();
    let Ok(permit) = permit else {
        return Err(Failure::busy("other readings are under way; try again"));
    };
    let task = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        read(&events)
    });
    let failed = |_| Failure::unavailable("the reading has failed; see the log");
    task.await.map_err(failed)
}

fn recorded(engine: &Engine) -> Result<Arc<Events>, Failure> {
    let events = engine.shards().events();
    match events.is_on() {
        true => Ok(Arc::clone(events)),
        false => Err(Failure::invalid(
            StatusCode::NOT_FOUND,
            "no events are kept: events.memory_per_shard is 0",
        )),
    }
}

fn parse(
    text: Option<&str>,
    events: &Events,
    is_known: impl Fn(&str) -> bool,
) -> Result<Query, Failure> {
    let given = parameters(text)?;
    if let Some((name, _)) = given.iter().find(|(name, _)| !is_known(name)) {
        return Err(invalid(format!("{name}: there is no such parameter")));
    }
    let given = given.iter().map(|(name, value)| (&**name, &**value));
    Query::parse(given, events).map_err(invalid)
}

/// The parameters of a query, in their order, each of which may be there once: of two nobody can
/// say which one is meant.
///
/// # Errors
/// 400 for a bad escape, and for a parameter that is there twice.
pub(super) fn parameters(text: Option<&str>) -> Result<Vec<(String, String)>, Failure> {
    let pairs = text.unwrap_or_default().split('&');
    let decode = |text: &str| {
        let decoded = percent_decode(text).map(|it| it.to_string());
        decoded.map_err(|_| invalid("the query has a bad percent escape"))
    };
    let mut given: Vec<(String, String)> = Vec::new();
    for pair in pairs.filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decode(name)?, decode(value)?);
        if given.iter().any(|(before, _)| *before == name) {
            return Err(invalid(format!("{name}: it may be there once")));
        }
        given.push((name, value));
    }
    Ok(given)
}

fn invalid(text: impl Into<String>) -> Failure {
    Failure::invalid(StatusCode::BAD_REQUEST, text)
}
