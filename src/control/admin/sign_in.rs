//! Where sessions of browsers begin and end.

use std::sync::Arc;

use axum::extract::{Extension, RawQuery, Request, State};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::answer::{Failure, object_of, optional_object_of};
use super::gate::{API, Caller, Gate, SESSION, is_over_tls};
use super::places::ClientAddress;
use super::session::{ATTEMPTS_MAX, Begun, Role, Sessions};
use crate::control::engine::Engine;
use crate::control::merge::Object;
use crate::events::author::Author;
use crate::events::kind::AuthorKind;

/// What ends all sessions, and not only one's own.
const ALL: &str = "all=true";

/// The routes of sessions, below the API's path.
pub(super) fn routes(gate: &Arc<Gate>) -> Router<Arc<Engine>> {
    let session = post(begin).get(show).delete(end);
    let routes = Router::new()
        .route(SESSION, session)
        .route("/session/code", post(make_code));
    routes.with_state(Arc::clone(gate))
}

/// `POST …/session` with a token or a code.
async fn begin(
    State(gate): State<Arc<Gate>>,
    client: Option<Extension<ClientAddress>>,
    request: Request,
) -> Result<Response, Failure> {
    let is_secure = is_over_tls(request.headers());
    let client = client.map(|Extension(client)| client);
    let now = gate.engine.now();
    if client.is_some_and(|it| !gate.sessions.may_try(it.0, now)) {
        gate.record_refused(client);
        let text = format!("{ATTEMPTS_MAX} sign-ins within a minute; wait and try again");
        return Err(Failure::busy(text));
    }
    let body = object_of(request).await?;
    let Some(role) = role_of(&gate, body)? else {
        gate.record_refused(client);
        let text = "the token or code is not good; a code is good once, for a minute";
        return Err(Failure::not_signed_in(text));
    };
    let begun = gate.sessions.begin(role, now)?;
    let author = Author {
        kind: AuthorKind::Session,
        session: Some(begun.number),
        address: client.map(|it| it.0),
    };
    gate.record_signed_in(&author, name(role));
    let cookie = cookie(&gate.cookie, &begun, is_secure);
    let body = json!({ "half": &*begun.half, "expiresAt": begun.expires_at, "role": role });
    let mut response = (StatusCode::CREATED, Json(body)).into_response();
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(response)
}

/// What the credential in a body allows; `None`: it is not good.
fn role_of(gate: &Gate, mut body: Object) -> Result<Option<Role>, Failure> {
    let mut text = |name: &str| match body.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(Zeroizing::new(text))),
        Some(_) => Err(invalid(format!("{name}: it must be text"))),
    };
    let (token, code) = (text("token")?, text("code")?);
    if let Some(name) = body.keys().next() {
        return Err(invalid(format!("{name}: there is no such field")));
    }
    match (token, code) {
        (Some(token), None) => Ok(gate.access.role_of(token.as_bytes())),
        (None, Some(code)) => {
            let is_good = gate.sessions.take_code(code.as_bytes(), gate.engine.now());
            Ok(is_good.then_some(Role::Admin))
        }
        _ => Err(invalid("either token or code must be given")),
    }
}

/// The session's first half, which no script can read.
fn cookie(name: &str, begun: &Begun, is_secure: bool) -> HeaderValue {
    let secure = if is_secure { "; Secure" } else { "" };
    let cookie = &*begun.cookie;
    let text = format!("{name}={cookie}; HttpOnly; SameSite=Strict; Path={API}{secure}");
    // Base64 and our own words: nothing that a header cannot carry.
    let mut value = HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// `GET …/session`: who is asking, and how many sessions there are.
async fn show(State(gate): State<Arc<Gate>>, Extension(caller): Extension<Caller>) -> Response {
    Json(json!({
        "role": caller.role,
        "expiresAt": caller.session.map(|it| it.expires_at),
        "sessions": gate.sessions.count(gate.engine.now()),
    }))
    .into_response()
}

/// `DELETE …/session` ends the caller's, and with `?all=true` every one.
async fn end(
    State(gate): State<Arc<Gate>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let ended = match query.as_deref() {
        None => match gate.halves(&headers) {
            Some((cookie, half)) => usize::from(gate.sessions.end(cookie, half)),
            None => 0,
        },
        Some(ALL) => gate.sessions.end_all(),
        Some(_) => return Err(invalid(format!("the query may be {ALL} only"))),
    };
    let mut response = Json(json!({ "ended": ended })).into_response();
    let gone = format!(
        "{}=; HttpOnly; SameSite=Strict; Path={API}; Max-Age=0",
        gate.cookie
    );
    if let Ok(gone) = HeaderValue::try_from(gone) {
        response.headers_mut().insert(SET_COOKIE, gone);
    }
    Ok(response)
}

/// `POST …/session/code`: for a link that signs in.
async fn make_code(State(gate): State<Arc<Gate>>, request: Request) -> Result<Response, Failure> {
    // There is nothing to say in a body yet.
    optional_object_of(request).await?;
    let now = gate.engine.now();
    let code = gate.sessions.code(now)?;
    let body = json!({ "code": &*code, "expiresAt": Sessions::code_expires_at(now) });
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Admin => "admin",
        Role::Reader => "reader",
    }
}

fn invalid(text: impl Into<String>) -> Failure {
    Failure::invalid(StatusCode::BAD_REQUEST, text)
}
