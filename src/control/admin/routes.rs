//! The routes of the admin API.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, Path, RawQuery, Request, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Json, Router};
use flate2::Compression;
use serde::Serialize;
use serde_json::json;
use tokio::sync::Mutex;

use super::answer::{BODY_BYTES_MAX, Failure, object_of, optional_object_of};
use super::events::parameters;
use super::gate::{self, API, Caller, Gate};
use super::gzip::{self, GZIP};
use super::{apps, backup, channel_history, events, feed, looks, operation};
use super::{peers, sign_in, tokens, trace};
use crate::control::change::Change;
use crate::control::engine::{Engine, writing_for};
use crate::control::outcome::Outcome;
use crate::control::sampler::{KEPT_SEC, SHARDS_TIME_MAX, Sampler};
use crate::control::store::SYNCS;
use crate::control::writer::WriterState;
use crate::domain::record::KeyRecord;
use crate::domain::usage_report::UsageReport;
use crate::events::author::Author;
use crate::metrics::text::{self, MetricsPage};

/// A write of the store that has taken so long is told about.
const STORE_TIME_TOLD: Duration = Duration::from_secs(1);
/// How hard is tried to send few bytes: they are sent once.
const FAST: Compression = Compression::fast();
/// Prometheus' text exposition format, version 0.0.4.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

type AppState = State<Arc<Engine>>;
type Id = Result<Path<String>, PathRejection>;
type By = Extension<Author>;

/// All routes, behind the token where they need it.
pub(super) fn router(gate: Arc<Gate>, sampler: Arc<Sampler>) -> Router {
    let engine = Arc::clone(&gate.engine);
    let internal = Router::new()
        .route("/apps", get(apps::list).post(create_app))
        .route(
            "/apps/{app_id}",
            get(show_app).patch(patch_app).delete(delete_app),
        )
        .route("/apps/{app_id}/keys", get(list_keys).post(create_key))
        .route("/apps/{app_id}/usage", get(usage))
        .route("/apps/{app_id}/peer", delete(peers::kick))
        .route("/apps/{app_id}/connection", delete(peers::kick_connection))
        .route(
            "/apps/{app_id}/channel/history",
            get(channel_history::read).delete(channel_history::forget),
        )
        .route("/apps/{app_id}/feed", get(feed::follow))
        .route(
            "/signalling/keys/{key_id}",
            get(show_key).patch(patch_key).delete(revoke_key),
        )
        .route("/signalling/keys/{key_id}/rotate", post(rotate_key))
        .route("/signalling/keys/{key_id}/tokens", post(tokens::mint_token))
        .route("/tokens/inspect", post(tokens::inspect_token))
        .route("/config", get(operation::settings))
        .route("/reload", post(operation::reload))
        .route("/upgrade", post(operation::upgrade))
        .route("/trace", post(trace::begin))
        .merge(sign_in::routes(&gate))
        .merge(looks::routes())
        .route("/events", get(events::list))
        .route("/why", get(events::why))
        .route("/backup", get(backup::stream))
        .route("/warnings", get(operation::warnings))
        .route("/node", get(operation::node))
        .route("/stats", get(stats))
        .route("/stats/history", get(history));
    Router::new()
        .nest(API, internal)
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .fallback(async || Failure::no_path())
        .method_not_allowed_fallback(async |method: Method| {
            let text = format!("{method} is not possible here");
            Failure::invalid(StatusCode::METHOD_NOT_ALLOWED, text)
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(Extension(Arc::new(Scrapes::default())))
        .layer(Extension(backup::Turn::default()))
        .layer(Extension(Arc::new(trace::Current::default())))
        .layer(Extension(sampler))
        .layer(Extension(Arc::clone(&gate.sessions)))
        .layer(Extension(Arc::new(feed::Readers::default())))
        .layer(middleware::from_fn_with_state(gate, gate::authorize))
        .with_state(engine)
}

async fn create_app(
    State(engine): AppState,
    author: By,
    request: Request,
) -> Result<Response, Failure> {
    let asked = Change::CreateApp(object_of(request).await?);
    change((engine, author), asked, StatusCode::CREATED).await
}

async fn show_app(State(engine): AppState, app_id: Id) -> Result<Response, Failure> {
    let registry = engine.registry();
    let entry = registry.app(&id(app_id)?)?;
    Ok(Json(&entry.row.record).into_response())
}

async fn patch_app(
    State(engine): AppState,
    app_id: Id,
    author: By,
    request: Request,
) -> Result<Response, Failure> {
    let (app_id, patch) = (id(app_id)?, object_of(request).await?);
    let asked = Change::PatchApp { app_id, patch };
    change((engine, author), asked, StatusCode::OK).await
}

async fn delete_app(State(engine): AppState, app_id: Id, author: By) -> Result<Response, Failure> {
    let asked = Change::DeleteApp(id(app_id)?);
    change((engine, author), asked, StatusCode::OK).await
}

async fn list_keys(State(engine): AppState, app_id: Id) -> Result<Response, Failure> {
    #[derive(Serialize)]
    struct Keys<'a> {
        keys: Vec<&'a KeyRecord>,
    }
    let (registry, app_id) = (engine.registry(), id(app_id)?);
    registry.app(&app_id)?;
    let keys = registry
        .keys_of(&app_id)
        .into_iter()
        .map(|entry| &entry.row.record)
        .collect();
    Ok(Json(Keys { keys }).into_response())
}

async fn create_key(
    State(engine): AppState,
    app_id: Id,
    author: By,
    request: Request,
) -> Result<Response, Failure> {
    let (app_id, body) = (id(app_id)?, object_of(request).await?);
    let asked = Change::CreateKey { app_id, body };
    change((engine, author), asked, StatusCode::CREATED).await
}

async fn show_key(State(engine): AppState, key_id: Id) -> Result<Response, Failure> {
    let registry = engine.registry();
    let entry = registry.key(&id(key_id)?)?;
    Ok(Json(&entry.row.record).into_response())
}

async fn patch_key(
    State(engine): AppState,
    key_id: Id,
    author: By,
    request: Request,
) -> Result<Response, Failure> {
    let (key_id, patch) = (id(key_id)?, object_of(request).await?);
    let asked = Change::PatchKey { key_id, patch };
    change((engine, author), asked, StatusCode::OK).await
}

async fn revoke_key(State(engine): AppState, key_id: Id, author: By) -> Result<Response, Failure> {
    let asked = Change::RevokeKey(id(key_id)?);
    change((engine, author), asked, StatusCode::OK).await
}

async fn rotate_key(
    State(engine): AppState,
    key_id: Id,
    author: By,
    request: Request,
) -> Result<Response, Failure> {
    let (key_id, body) = (id(key_id)?, optional_object_of(request).await?);
    let asked = Change::RotateKey { key_id, body };
    change((engine, author), asked, StatusCode::OK).await
}

async fn usage(State(engine): AppState, app_id: Id) -> Result<Response, Failure> {
    let registry = engine.registry();
    let entry = registry.app(&id(app_id)?)?;
    Ok(Json(UsageReport::of(&entry.app)).into_response())
}

async fn stats(
    State(engine): AppState,
    Extension(sampler): Extension<Arc<Sampler>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Failure> {
    let report = sampler.report(&engine, caller.session.is_some()).await?;
    Ok(Json(&*report).into_response())
}

async fn history(
    State(engine): AppState,
    Extension(sampler): Extension<Arc<Sampler>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let mut seconds = KEPT_SEC;
    for (name, value) in parameters(query.as_deref())? {
        let number = value.parse().ok();
        let number = number.filter(|it| name == "seconds" && (1..=KEPT_SEC).contains(it));
        let rule = || format!("{name}: only seconds may be given, from 1 to {KEPT_SEC}");
        seconds = number.ok_or_else(|| Failure::invalid(StatusCode::BAD_REQUEST, rule()))?;
    }
    let samples = sampler.history(seconds, engine.now_unix_ms());
    let body = json!({ "samples": samples }).to_string();
    let kind = (CONTENT_TYPE, "application/json");
    // A quarter of an hour is some hundred KiB, and most of it says the same again.
    let small = gzip::is_taken(&headers).then(|| gzip::compressed(body.as_bytes(), FAST));
    Ok(match small.flatten() {
        Some(small) => ([kind, (CONTENT_ENCODING, GZIP)], small).into_response(),
        None => ([kind], body).into_response(),
    })
}

async fn metrics(
    State(engine): AppState,
    Extension(scrapes): Extension<Arc<Scrapes>>,
) -> Result<Response, Failure> {
    let page = scrapes.page(&engine).await?;
    Ok(([(CONTENT_TYPE, METRICS_TYPE)], page).into_response())
}

/// Scrapes need no token and cost every shard a copy of its metrics. So one is under way at a
/// time, and those that came before it began share it.
#[derive(Default)]
struct Scrapes(Mutex<Option<(Instant, Bytes)>>);

impl Scrapes {
    /// Whoever waits for the scrape before waits no longer than that does.
    async fn page(&self, engine: &Engine) -> Result<Bytes, Failure> {
        let page = tokio::time::timeout(SHARDS_TIME_MAX, self.ask(engine)).await;
        page.map_err(|_| Failure::unavailable("a shard did not answer in time"))
    }

    async fn ask(&self, engine: &Engine) -> Bytes {
        let asked = Instant::now();
        let mut last = self.0.lock().await;
        if let Some((_, page)) = last.as_ref().filter(|(begun, _)| *begun >= asked) {
            return page.clone();
        }
        let begun = Instant::now();
        let mut page = engine.shards().metrics().await;
        append_store(&mut page, engine.store());
        let page = Bytes::from(page.into_string());
        *last = Some((begun, page.clone()));
        page
    }
}

fn append_store(page: &mut MetricsPage, store: &WriterState) {
    page.single(
        text::Kind::Counter,
        "store_writes_total",
        "Transactions of the store.",
        store.commits(),
    );
    page.single(
        text::Kind::Counter,
        "store_write_failures_total",
        "Transactions of the store that failed.",
        store.failures(),
    );
    page.single(
        text::Kind::Counter,
        "store_write_seconds_total",
        "Time that all transactions of the store took.",
        store.spent().as_secs_f64(),
    );
    let (syncs, spent, last) = SYNCS.read();
    page.single(
        text::Kind::Counter,
        "store_syncs_total",
        "Times that the store waited for its disk.",
        syncs,
    );
    page.single(
        text::Kind::Counter,
        "store_sync_seconds_total",
        "Time that all of them took.",
        spent.as_secs_f64(),
    );
    page.single(
        text::Kind::Gauge,
        "store_sync_last_seconds",
        "Time that the last one took.",
        last.as_secs_f64(),
    );
    page.single(
        text::Kind::Gauge,
        "store_writing_seconds",
        "How long the transaction under way has been at work; 0: there is none.",
        store.writing_for().unwrap_or_default().as_secs_f64(),
    );
    page.single(
        text::Kind::Gauge,
        "store_failed",
        "1 while the store cannot be written.",
        u8::from(store.has_failed()),
    );
}

async fn healthz() -> Response {
    Json(json!({"status": "ok"})).into_response()
}

async fn readyz(State(engine): AppState) -> Result<Response, Failure> {
    match engine.unready() {
        None => {
            let mut body = json!({"status": "ready"});
            // Messages go on meanwhile: for a while it is worth a word and no more.
            let writing = engine.store().writing_for();
            if let Some(writing) = writing.filter(|it| *it >= STORE_TIME_TOLD) {
                body["store"] = writing_for(writing).into();
            }
            Ok(Json(body).into_response())
        }
        Some(why) => Err(Failure::unavailable(format!("not ready: {why}"))),
    }
}

/// In a task of its own, because this one ends when the client hangs up, and a change must not.
async fn change(
    (engine, Extension(author)): (Arc<Engine>, By),
    asked: Change,
    status: StatusCode,
) -> Result<Response, Failure> {
    let task = tokio::spawn(async move { engine.change(asked, author).await });
    let outcome: Outcome = task
        .await
        .map_err(|_| Failure::unavailable("the change has failed; see the log"))??;
    Ok((status, Json(outcome)).into_response())
}

fn id(path: Id) -> Result<String, Failure> {
    let text = "the path has a bad percent escape";
    path.map(|Path(id)| id)
        .map_err(|_| Failure::invalid(StatusCode::BAD_REQUEST, text))
}
