//! The configuration that holds, and a reload that answers.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Serialize;

use super::answer::{Failure, optional_object_of};
use crate::control::engine::Engine;
use crate::control::events::WarningJson;
use crate::domain::configuration::Setting;
use crate::domain::upgrade::UpgradeFailed;
use crate::events::author::Author;

/// How long a reload may take: declared apps wait for the disk and for every shard.
const RELOAD_TIME_MAX: Duration = Duration::from_secs(20);

/// `GET …/config`.
pub(super) async fn settings(State(engine): State<Arc<Engine>>) -> Response {
    #[derive(Serialize)]
    struct Settings {
        settings: Vec<Setting>,
    }
    let settings = engine.shards().settings();
    Json(Settings { settings }).into_response()
}

/// `GET …/node`.
pub(super) async fn node(State(engine): State<Arc<Engine>>) -> Response {
    Json(engine.shards().node()).into_response()
}

/// `GET …/warnings`.
pub(super) async fn warnings(State(engine): State<Arc<Engine>>) -> Response {
    #[derive(Serialize)]
    struct Warnings {
        warnings: Vec<WarningJson>,
    }
    let warnings = engine.shards().events().warnings();
    Json(Warnings { warnings }).into_response()
}

/// `POST …/upgrade`.
pub(super) async fn upgrade(
    State(engine): State<Arc<Engine>>,
    request: Request,
) -> Result<Response, Failure> {
    // What is started is never said by whoever has the token.
    optional_object_of(request).await?;
    match engine.shards().upgrade().await {
        Some(Ok(done)) => Ok(Json(done).into_response()),
        Some(Err(UpgradeFailed { stage, cause })) => {
            let text = format!("upgrade failed: {stage}: {cause}");
            Err(Failure::invalid(StatusCode::CONFLICT, text))
        }
        None => Err(Failure::unavailable("the server is stopping; see its log")),
    }
}

/// `POST …/reload`.
pub(super) async fn reload(
    State(engine): State<Arc<Engine>>,
    Extension(author): Extension<Author>,
    request: Request,
) -> Result<Response, Failure> {
    // There is nothing to say in a body yet.
    optional_object_of(request).await?;
    match tokio::time::timeout(RELOAD_TIME_MAX, engine.shards().reload(author)).await {
        Ok(Some(report)) => Ok(Json(report).into_response()),
        Ok(None) | Err(_) => Err(Failure::unavailable(
            "the configuration was not read again in time, or the server is stopping; see its log",
        )),
    }
}
