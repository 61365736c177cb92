//! `POST /api/internal/v1/trace`: what one peer or channel publishes and sends is recorded for some
//! minutes, without what it says.
//!
//! There is one trace at a time. Another one takes its place, and only whoever is traced can be
//! traced no longer; the event of it says who that is, and whose place was taken.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::json;

use super::answer::{Failure, object_of};
use crate::control::engine::Engine;
use crate::control::error::ControlError;
use crate::control::merge::read;
use crate::domain::trace::{Trace, Traced};
use crate::events::author::Author;
use crate::events::kind::{Cause, Kind};
use crate::events::record::Record;
use crate::proto::wire::name::{validate_channel_name, validate_peer_id};

/// How long somebody may be traced, in minutes.
const MINUTES_MAX: u64 = 10;
/// How long that is if nothing is said.
const MINUTES: u64 = 5;
const MINUTE_MS: u64 = 60_000;
/// How long the shards may take to begin.
const BEGIN_TIME_MAX: Duration = Duration::from_secs(5);

/// The body.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    app: String,
    peer: Option<String>,
    channel: Option<String>,
    minutes: Option<u64>,
}

/// What is traced now, as far as it was begun here.
#[derive(Debug, Default)]
pub(super) struct Current(Mutex<Option<Traces>>);

#[derive(Clone, Debug)]
struct Traces {
    app: String,
    traced: Traced,
    until_ms: u64,
}

impl Traces {
    /// As an event tells it: `peer alice of app_shop`.
    fn text(&self, engine: &Engine) -> String {
        let app = &self.app;
        match &self.traced {
            Traced::Peer(id) => format!("peer {} of {app}", engine.shards().events().peer(id)),
            Traced::Channel(name) => format!("channel {name} of {app}"),
        }
    }

    fn is_of(&self, other: &Self) -> bool {
        self.app == other.app && self.traced == other.traced
    }
}

/// Traces somebody from now on, in place of whoever was traced before.
pub(super) async fn begin(
    State(engine): State<Arc<Engine>>,
    Extension(current): Extension<Arc<Current>>,
    Extension(author): Extension<Author>,
    request: Request,
) -> Result<Response, Failure> {
    let asked: Asked = read(object_of(request).await?)?;
    let minutes = asked.minutes.unwrap_or(MINUTES);
    if minutes > MINUTES_MAX {
        let rule = format!("must be a number from 0 to {MINUTES_MAX}");
        return Err(ControlError::field("minutes", &rule).into());
    }
    let app = Arc::clone(&engine.registry().app(&asked.app)?.app);
    let asked = Traces {
        traced: traced(&asked)?,
        app: asked.app,
        until_ms: engine.now().mono_ms + minutes * MINUTE_MS,
    };
    let before = current.under_way(&engine);
    if minutes == 0
        && let Some(other) = before.as_ref().filter(|it| !it.is_of(&asked))
    {
        let text = format!("{} is traced: name that to end it", other.text(&engine));
        return Err(ControlError::Conflict(text).into());
    }
    let trace = Trace {
        app: app.index,
        tag: app.id.tag(),
        traced: asked.traced.clone(),
        for_ms: minutes * MINUTE_MS,
    };
    let begun = engine.shards().trace(trace);
    let begun = tokio::time::timeout(BEGIN_TIME_MAX, begun).await;
    if !begun.unwrap_or(false) {
        return Err(Failure::unavailable("a shard did not answer in time"));
    }
    let detail = detail(&engine, &asked, minutes, before.as_ref());
    current.set((minutes > 0).then_some(asked));
    let numbers = [author.session_number()];
    let record = Record {
        app: Some(app.index),
        numbers: &numbers,
        second: &detail,
        ..Record::new(Kind::Admin, Cause::Trace)
    };
    engine.shards().events().record(&record.by(&author));
    let until_unix = engine.now_unix_ms() / 1_000 + minutes * 60;
    Ok(Json(json!({ "minutes": minutes, "untilUnix": until_unix })).into_response())
}

impl Current {
    /// What is traced, unless its time is over.
    fn under_way(&self, engine: &Engine) -> Option<Traces> {
        let now_ms = engine.now().mono_ms;
        self.locked().clone().filter(|it| now_ms < it.until_ms)
    }

    fn set(&self, traces: Option<Traces>) {
        *self.locked() = traces;
    }

    fn locked(&self) -> MutexGuard<'_, Option<Traces>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who is traced, for how long, and in whose place.
fn detail(engine: &Engine, asked: &Traces, minutes: u64, before: Option<&Traces>) -> String {
    let who = asked.text(engine);
    let other = before.filter(|it| !it.is_of(asked));
    match (minutes, other) {
        (0, _) => format!("{who}, no longer"),
        (_, None) => format!("{who}, for {minutes} min"),
        (_, Some(other)) => {
            let other = other.text(engine);
            format!("{who}, for {minutes} min, in place of {other}")
        }
    }
}

fn traced(asked: &Asked) -> Result<Traced, ControlError> {
    match (&asked.peer, &asked.channel) {
        (Some(peer), None) => {
            let fault =
                |_| ControlError::field("peer", "must be 1 to 128 printable ASCII characters");
            validate_peer_id(peer).map_err(fault)?;
            Ok(Traced::Peer(peer.as_str().into()))
        }
        (None, Some(channel)) => {
            let fault = |_| ControlError::field("channel", "must be the name of a channel");
            validate_channel_name(channel).map_err(fault)?;
            Ok(Traced::Channel(channel.as_str().into()))
        }
        _ => {
            let text = "either it or channel must be given, and one of them only";
            Err(ControlError::field("peer", text))
        }
    }
}
