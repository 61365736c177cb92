//! The routes of the admin API.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Serialize;
use serde_json::json;
use tokio::sync::Mutex;

use super::access::Access;
use super::answer::{BODY_BYTES_MAX, Failure, object_of, optional_object_of};
use super::places::{KNOWN_MAX, Place};
use crate::control::change::Change;
use crate::control::engine::{Engine, writing_for};
use crate::control::outcome::Outcome;
use crate::control::writer::WriterState;
use crate::domain::record::{AppRecord, KeyRecord};
use crate::domain::usage_report::UsageReport;
use crate::metrics::text::{Kind, MetricsPage};

/// How long the shards may take to tell about themselves.
const SHARDS_TIME_MAX: Duration = Duration::from_secs(5);
/// A write of the store that has taken so long is told about.
const STORE_TIME_TOLD: Duration = Duration::from_secs(1);
/// Prometheus' text exposition format, version 0.0.4.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

type AppState = State<Arc<Engine>>;
type Id = Result<Path<String>, PathRejection>;

/// All routes, behind the token where they need it.
pub fn router(engine: Arc<Engine>, access: Access) -> Router {
    let internal = Router::new()
        .route("/apps", get(list_apps).post(create_app))
        .route(
            "/apps/{app_id}",
            get(show_app).patch(patch_app).delete(delete_app),
        )
        .route("/apps/{app_id}/keys", get(list_keys).post(create_key))
        .route("/apps/{app_id}/usage", get(usage))
        .route(
            "/signalling/keys/{key_id}",
            get(show_key).patch(patch_key).delete(revoke_key),
        )
        .route("/signalling/keys/{key_id}/rotate", post(rotate_key))
        .route("/stats", get(stats));
    Router::new()
        .nest("/api/internal/v1", internal)
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
        .layer(middleware::from_fn_with_state(Arc::new(access), authorize))
        .with_state(engine)
}

/// Decides before anything about the path is told, except that the probes are there.
async fn authorize(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    let open = match request.uri().path() {
        "/healthz" | "/readyz" => true,
        "/metrics" => !access.protect_metrics,
        _ => false,
    };
    let authorization = request
        .headers()
        .get(AUTHORIZATION)
        .map(|value| value.as_bytes());
    let allowed = access.allows(authorization);
    if allowed
        && !request
            .extensions()
            .get()
            .is_none_or(|place: &Arc<Place>| place.set_known())
    {
        let text = format!("{KNOWN_MAX} other requests are under way");
        return Failure::unavailable(text).into_response();
    }
    if open || allowed {
        return next.run(request).await;
    }
    let mut response = Failure::unauthorized().into_response();
    response.headers_mut().insert(
        "www-authenticate",
        axum::http::HeaderValue::from_static("Bearer"),
    );
    response
}

async fn list_apps(State(engine): AppState) -> Response {
    #[derive(Serialize)]
    struct Apps<'a> {
        apps: Vec<&'a AppRecord>,
    }
    let registry = engine.registry();
    Json(Apps {
        apps: registry.apps().map(|entry| &entry.row.record).collect(),
    })
    .into_response()
}

async fn create_app(State(engine): AppState, request: Request) -> Result<Response, Failure> {
    let asked = Change::CreateApp(object_of(request).await?);
    change(engine, asked, StatusCode::CREATED).await
}

async fn show_app(State(engine): AppState, app_id: Id) -> Result<Response, Failure> {
    let registry = engine.registry();
    let entry = registry.app(&id(app_id)?)?;
    Ok(Json(&entry.row.record).into_response())
}

async fn patch_app(
    State(engine): AppState,
    app_id: Id,
    request: Request,
) -> Result<Response, Failure> {
    let (app_id, patch) = (id(app_id)?, object_of(request).await?);
    change(engine, Change::PatchApp { app_id, patch }, StatusCode::OK).await
}

async fn delete_app(State(engine): AppState, app_id: Id) -> Result<Response, Failure> {
    change(engine, Change::DeleteApp(id(app_id)?), StatusCode::OK).await
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
    request: Request,
) -> Result<Response, Failure> {
    let (app_id, body) = (id(app_id)?, object_of(request).await?);
    change(
        engine,
        Change::CreateKey { app_id, body },
        StatusCode::CREATED,
    )
    .await
}

async fn show_key(State(engine): AppState, key_id: Id) -> Result<Response, Failure> {
    let registry = engine.registry();
    let entry = registry.key(&id(key_id)?)?;
    Ok(Json(&entry.row.record).into_response())
}

async fn patch_key(
    State(engine): AppState,
    key_id: Id,
    request: Request,
) -> Result<Response, Failure> {
    let (key_id, patch) = (id(key_id)?, object_of(request).await?);
    change(engine, Change::PatchKey { key_id, patch }, StatusCode::OK).await
}

async fn revoke_key(State(engine): AppState, key_id: Id) -> Result<Response, Failure> {
    change(engine, Change::RevokeKey(id(key_id)?), StatusCode::OK).await
}

async fn rotate_key(
    State(engine): AppState,
    key_id: Id,
    request: Request,
) -> Result<Response, Failure> {
    let (key_id, body) = (id(key_id)?, optional_object_of(request).await?);
    change(engine, Change::RotateKey { key_id, body }, StatusCode::OK).await
}

async fn usage(State(engine): AppState, app_id: Id) -> Result<Response, Failure> {
    let registry = engine.registry();
    let entry = registry.app(&id(app_id)?)?;
    Ok(Json(UsageReport::of(&entry.app)).into_response())
}

async fn stats(State(engine): AppState) -> Result<Response, Failure> {
    match tokio::time::timeout(SHARDS_TIME_MAX, engine.shards().stats()).await {
        Ok(stats) => Ok(Json(stats).into_response()),
        Err(_) => Err(Failure::unavailable("a shard did not answer in time")),
    }
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
    async fn page(&self, engine: &Engine) -> Result<Bytes, Failure> {
        let asked = Instant::now();
        let mut last = self.0.lock().await;
        if let Some((_, page)) = last.as_ref().filter(|(begun, _)| *begun >= asked) {
            return Ok(page.clone());
        }
        let begun = Instant::now();
        let told = tokio::time::timeout(SHARDS_TIME_MAX, engine.shards().metrics()).await;
        let Ok(mut page) = told else {
            return Err(Failure::unavailable("a shard did not answer in time"));
        };
        append_store(&mut page, engine.store());
        let page = Bytes::from(page.into_string());
        *last = Some((begun, page.clone()));
        Ok(page)
    }
}

fn append_store(page: &mut MetricsPage, store: &WriterState) {
    page.single(
        Kind::Counter,
        "store_writes_total",
        "Transactions of the store.",
        store.commits(),
    );
    page.single(
        Kind::Counter,
        "store_write_failures_total",
        "Transactions of the store that failed.",
        store.failures(),
    );
    page.single(
        Kind::Counter,
        "store_write_seconds_total",
        "Time that all transactions of the store took.",
        store.spent().as_secs_f64(),
    );
    page.single(
        Kind::Gauge,
        "store_writing_seconds",
        "How long the transaction under way has been at work; 0: there is none.",
        store.writing_for().unwrap_or_default().as_secs_f64(),
    );
    page.single(
        Kind::Gauge,
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
    engine: Arc<Engine>,
    asked: Change,
    status: StatusCode,
) -> Result<Response, Failure> {
    let task = tokio::spawn(async move { engine.change(asked).await });
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
