//! Who is connected to what: channels, their members, connections and peers, as operators see
//! them. Each list is asked of all shards, and the best rows of all are shown.
//!
//! What is asked again within two seconds shares an answer: looking costs the shards something.

mod json;
mod merge;
mod question;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use self::merge::Merged;
use self::question::Given;
use super::answer::Failure;
use super::events::{last_closed, parameters};
use crate::control::engine::Engine;
use crate::domain::look::{Look, SeenRows};
use crate::domain::rights::App;

/// How long an answer is shared.
const SHARED_FOR: Duration = Duration::from_secs(2);
/// Answers that are shared at a time; the oldest gives way.
const SHARED_MAX: usize = 64;
/// How long the shards may take; what has come by then is shown.
const TIME_MAX: Duration = Duration::from_secs(11);

type Id = Result<Path<String>, PathRejection>;
type Shares = Extension<Arc<Shared>>;

/// The routes of what is seen, below the API's path.
pub(super) fn routes() -> Router<Arc<Engine>> {
    Router::new()
        .route("/apps/{app_id}/channels", get(channels))
        .route("/apps/{app_id}/channel", get(channel))
        .route("/apps/{app_id}/channel/members", get(members))
        .route("/apps/{app_id}/connections", get(connections))
        .route("/apps/{app_id}/peers", get(peers))
        .route("/apps/{app_id}/peer", get(peer))
        .layer(Extension(Arc::new(Shared::default())))
}

/// One question, as it came.
struct Asked {
    engine: Arc<Engine>,
    app: Arc<App>,
    given: Given,
    /// The same for equal questions.
    key: String,
}

impl Asked {
    fn new(
        what: &str,
        engine: Arc<Engine>,
        app_id: Id,
        query: Option<&str>,
    ) -> Result<Self, Failure> {
        let Ok(Path(app_id)) = app_id else {
            return Err(invalid("the path has a bad percent escape"));
        };
        let app = Arc::clone(&engine.registry().app(&app_id)?.app);
        Ok(Self {
            app,
            given: Given::new(parameters(query)?),
            key: format!("{what} {app_id} {}", query.unwrap_or_default()),
            engine,
        })
    }

    /// Asks all shards.
    async fn see(&self, look: Look) -> Result<Merged, Failure> {
        let until = Instant::now() + TIME_MAX;
        let mut merged = Merged::default();
        for (shard, seen) in self.engine.shards().look(look) {
            match timeout_at(until, seen).await {
                Ok(Some(seen)) if seen.rows == SeenRows::Busy => {
                    return Err(Failure::busy("other lists are being made; try again"));
                }
                Ok(Some(seen)) => merged.add(shard, seen),
                Ok(None) | Err(_) => merged.is_complete = false,
            }
        }
        Ok(merged)
    }
}

async fn channels(
    State(engine): State<Arc<Engine>>,
    Extension(shared): Shares,
    app_id: Id,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut asked = Asked::new("channels", engine, app_id, query.as_deref())?;
    let (look, rows) = question::channels(&asked.app, &mut asked.given).map_err(invalid)?;
    let is_paged = matches!(&look, Look::Channels(_, order) if question::is_by_name(*order));
    let make = async { Ok(json::channels(asked.see(look).await?, &rows, is_paged)) };
    shared.answer(asked.key.clone(), make).await
}

async fn channel(
    State(engine): State<Arc<Engine>>,
    Extension(shared): Shares,
    app_id: Id,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut asked = Asked::new("channel", engine, app_id, query.as_deref())?;
    let name = question::channel(&mut asked.given).map_err(invalid)?;
    let make = async {
        let look = Look::Channel(asked.app.id.tag(), (*name).into());
        let merged = asked.see(look).await?;
        json::channel(&merged, &name).ok_or_else(|| nobody_in(&name))
    };
    shared.answer(asked.key.clone(), make).await
}

async fn members(
    State(engine): State<Arc<Engine>>,
    Extension(shared): Shares,
    app_id: Id,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut asked = Asked::new("members", engine, app_id, query.as_deref())?;
    let name = question::named_channel(&mut asked.given).map_err(invalid)?;
    let rows = question::rows_of_peers(&asked.app, &mut asked.given).map_err(invalid)?;
    let make = async {
        let look = Look::Channel(asked.app.id.tag(), (*name).into());
        let is_there = asked.see(look).await?.channel.is_some();
        if !is_there {
            return Err(nobody_in(&name));
        }
        let look = Look::Members(rows.clone(), (*name).into());
        Ok(json::members(asked.see(look).await?, &rows))
    };
    shared.answer(asked.key.clone(), make).await
}

async fn connections(
    State(engine): State<Arc<Engine>>,
    Extension(shared): Shares,
    app_id: Id,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut asked = Asked::new("connections", engine, app_id, query.as_deref())?;
    let (look, limit) = question::connections(&asked.app, &mut asked.given).map_err(invalid)?;
    let make = async {
        let is_grouped = matches!(look, Look::Networks(..));
        let merged = asked.see(look).await?;
        Ok(match is_grouped {
            true => json::networks(merged, limit),
            false => json::connections(merged, limit),
        })
    };
    shared.answer(asked.key.clone(), make).await
}

async fn peers(
    State(engine): State<Arc<Engine>>,
    Extension(shared): Shares,
    app_id: Id,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut asked = Asked::new("peers", engine, app_id, query.as_deref())?;
    let rows = question::rows_of_peers(&asked.app, &mut asked.given).map_err(invalid)?;
    let make = async {
        Ok(json::peers(
            asked.see(Look::Peers(rows.clone())).await?,
            &rows,
        ))
    };
    shared.answer(asked.key.clone(), make).await
}

async fn peer(
    State(engine): State<Arc<Engine>>,
    Extension(shared): Shares,
    app_id: Id,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut asked = Asked::new("peer", engine, app_id, query.as_deref())?;
    let id = question::peer(&mut asked.given).map_err(invalid)?;
    let make = async {
        let look = Look::Peer(asked.app.id.tag(), (*id).into());
        let merged = asked.see(look).await?;
        let closed = last_closed(&asked.engine, &asked.app.id, &id).await?;
        Ok(json::peer(merged, &id, closed))
    };
    shared.answer(asked.key.clone(), make).await
}

/// Answers that are being made, and those of the last two seconds.
#[derive(Default)]
struct Shared(Mutex<HashMap<String, Share>>);

struct Share {
    asked: Instant,
    answer: Arc<OnceCell<Bytes>>,
}

impl Shared {
    /// The answer to a question: made now, unless an equal one is there.
    async fn answer(
        &self,
        key: String,
        make: impl Future<Output = Result<Value, Failure>>,
    ) -> Result<Response, Failure> {
        let cell = self.cell(key);
        // If whoever began leaves, the next one makes it. A failure is nobody else's.
        let body = cell
            .get_or_try_init(|| async { make.await.map(|value| Bytes::from(value.to_string())) })
            .await?;
        Ok(([(CONTENT_TYPE, "application/json")], body.clone()).into_response())
    }

    fn cell(&self, key: String) -> Arc<OnceCell<Bytes>> {
        let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cells.retain(|_, share| share.asked.elapsed() < SHARED_FOR);
        if cells.len() >= SHARED_MAX
            && let Some((oldest, _)) = cells.iter().min_by_key(|(_, share)| share.asked)
        {
            let oldest = oldest.clone();
            cells.remove(&oldest);
        }
        let new = || Share {
            asked: Instant::now(),
            answer: Arc::default(),
        };
        Arc::clone(&cells.entry(key).or_insert_with(new).answer)
    }
}

fn nobody_in(channel: &str) -> Failure {
    Failure::not_found(format!("nobody is in the channel {}", json!(channel)))
}

fn invalid(text: impl Into<String>) -> Failure {
    Failure::invalid(StatusCode::BAD_REQUEST, text)
}
