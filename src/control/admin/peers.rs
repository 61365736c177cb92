//! Peers as operators act on them.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::json;

use super::answer::Failure;
use super::events::parameters;

use crate::control::engine::Engine;
use crate::control::shards::Kick;
use crate::events::author::Author;
use crate::ids::{ConnectionId, ShardId};
use crate::proto::wire::name::validate_peer_id;

/// How long a kick may take.
const KICK_TIME_MAX: Duration = Duration::from_secs(10);

/// `DELETE …/apps/{appId}/peer?id=…`: closes all connections of a peer, as `DELETE /v1/peers` does.
pub(super) async fn kick(
    State(engine): State<Arc<Engine>>,
    app_id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    Extension(by): Extension<Author>,
) -> Result<Response, Failure> {
    let app = Arc::clone(&engine.registry().app(&id(app_id)?)?.app);
    let [peer] = named(["id"], query.as_deref())?;
    let peer = peer_id("id", required("id", peer)?)?;
    let connection = None;
    let kick = Kick {
        app,
        peer,
        connection,
        by,
    };
    answer(&engine, kick).await
}

/// `DELETE …/apps/{appId}/connection?id=…`: closes one connection of an app; with `peer`, only if
/// it is that peer's.
pub(super) async fn kick_connection(
    State(engine): State<Arc<Engine>>,
    app_id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    Extension(by): Extension<Author>,
) -> Result<Response, Failure> {
    let app = Arc::clone(&engine.registry().app(&id(app_id)?)?.app);
    let [connection, peer] = named(["id", "peer"], query.as_deref())?;
    let connection = required("id", connection)?;
    let rule = "connection: must be three numbers with dots between them, as connections are shown";
    let connection = connection_id(&connection).ok_or_else(|| invalid(rule))?;
    let shards = engine.shards().node().shards;
    if connection.0.index() >= usize::from(shards) {
        let text = format!(
            "there is no shard {}: the server has {shards}",
            connection.0
        );
        return Err(Failure::not_found(format!("connection: {text}")));
    }
    let connection = Some(connection);
    let peer = match peer {
        Some(peer) => peer_id("peer", peer)?,
        None => String::new(),
    };
    let kick = Kick {
        app,
        peer,
        connection,
        by,
    };
    answer(&engine, kick).await
}

async fn answer(engine: &Engine, kick: Kick) -> Result<Response, Failure> {
    let kicked = engine.shards().kick(kick);
    match tokio::time::timeout(KICK_TIME_MAX, kicked).await {
        Ok(Some(closed)) => Ok(Json(json!({"closed": closed})).into_response()),
        Ok(None) | Err(_) => Err(Failure::unavailable("a shard did not answer in time")),
    }
}

/// The values of these parameters; there may be no others.
pub(super) fn named<const N: usize>(
    names: [&str; N],
    query: Option<&str>,
) -> Result<[Option<String>; N], Failure> {
    let mut values = [const { None }; N];
    for (name, value) in parameters(query)? {
        let Some(at) = names.iter().position(|it| *it == name) else {
            return Err(invalid(format!("{name}: there is no such parameter")));
        };
        values[at] = Some(value);
    }
    Ok(values)
}

pub(super) fn required(name: &str, value: Option<String>) -> Result<String, Failure> {
    value.ok_or_else(|| invalid(format!("{name}: it must be given")))
}

fn peer_id(name: &str, value: String) -> Result<String, Failure> {
    match validate_peer_id(&value) {
        Ok(()) => Ok(value),
        Err(_) => Err(invalid(format!(
            "{name}: must be 1 to 128 printable ASCII characters"
        ))),
    }
}

/// The shard and the connection that `2.1041.7` names.
fn connection_id(text: &str) -> Option<(ShardId, ConnectionId)> {
    let (shard, rest) = text.split_once('.')?;
    let (slot, generation) = rest.split_once('.')?;
    let connection = ConnectionId {
        slot: number(slot)?,
        generation: number(generation)?,
    };
    Some((ShardId(number(shard)?), connection))
}

/// A number as the server writes it: without signs and leading zeros.
fn number<T: std::str::FromStr + ToString>(text: &str) -> Option<T> {
    let number: T = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

pub(super) fn id(path: Result<Path<String>, PathRejection>) -> Result<String, Failure> {
    path.map(|Path(id)| id)
        .map_err(|_| invalid("the path has a bad percent escape"))
}

pub(super) fn invalid(text: impl Into<String>) -> Failure {
    Failure::invalid(StatusCode::BAD_REQUEST, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_named_as_it_is_shown() {
        let connection = ConnectionId {
            slot: 1_041,
            generation: 7,
        };
        assert_eq!(connection_id("2.1041.7"), Some((ShardId(2), connection)));
        for text in [
            "",
            "2",
            "2.1041",
            "2.1041.7.1",
            "02.1.1",
            "+2.1.1",
            "2.-1.1",
            "65536.1.1",
        ] {
            assert_eq!(connection_id(text), None, "{text:?}");
        }
    }
}
