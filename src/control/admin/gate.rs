//! Who comes in: the bearer of a token, or a browser with both halves of a session, that asks for
//! a name of this listener and, with a session, from a page of this listener.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use axum::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::access::Access;
use super::answer::Failure;
use super::backend::{Backend, secret_key};
use super::host::HostNames;
use super::places::{ClientAddress, Place, REQUESTS_MAX};
use super::session::{Found, Role, Sessions};
use crate::control::engine::Engine;
use crate::events::author::Author;
use crate::events::kind::{AuthorKind, Cause, Kind};
use crate::events::record::Record;

/// Below it, everything needs a credential.
pub(super) const API: &str = "/api/internal/v1";
/// Where sessions begin and end, below [`API`].
pub(super) const SESSION: &str = "/session";
/// Where a token is looked at, below [`API`]: nothing is changed.
pub(super) const INSPECT: &str = "/tokens/inspect";
/// Where the whole store is, below [`API`].
const BACKUP: &str = "/backup";
/// Where the feed of an app is, below [`API`], around the app's id.
const FEED: (&str, &str) = ("/apps/", "/feed");
/// Where the publications that a channel keeps are, at the end of the path.
const CHANNEL_HISTORY: &str = "/channel/history";
/// The half of a session that pages send.
const HALF: &str = "x-ringmesh-session";
/// What a browser says of where a request comes from (Fetch Metadata).
const FETCH_SITE: &str = "sec-fetch-site";

/// What decides who comes in, and where it is told who did not.
pub(super) struct Gate {
    pub access: Access,
    pub sessions: Arc<Sessions>,
    pub hosts: HostNames,
    /// Whether the listener is on a loopback address.
    pub on_loopback: bool,
    /// The cookie's name. It has the port in it, as cookies have none.
    pub cookie: String,
    pub engine: Arc<Engine>,
}

/// Who has come in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub role: Role,
    /// The session, unless a token was shown.
    pub session: Option<Found>,
}

/// What a request is about, as far as the gate is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    /// Open to anybody.
    Open,
    /// Where a session begins: it asks for a credential of its own.
    SignIn,
    /// Behind a credential.
    Guarded,
}

impl Gate {
    fn door(&self, request: &Request) -> Door {
        let path = request.uri().path();
        match path {
            "/healthz" | "/readyz" => Door::Open,
            "/metrics" if !self.access.protect_metrics => Door::Open,
            _ if request.method() == Method::POST && is(path, SESSION) => Door::SignIn,
            _ => Door::Guarded,
        }
    }

    fn bearer(&self, headers: &HeaderMap) -> Option<Role> {
        let authorization = bearer_of(headers).map(HeaderValue::as_bytes);
        self.access.allows(authorization)
    }

    /// The halves of the session that a request shows.
    pub(super) fn halves<'h>(&self, headers: &'h HeaderMap) -> Option<(&'h [u8], &'h [u8])> {
        let half = headers.get(HALF)?.as_bytes();
        let cookies = headers.get_all(COOKIE).iter();
        let cookies = cookies.filter_map(|cookies| cookies.to_str().ok());
        let mut cookies = cookies.flat_map(|cookies| cookies.split(';'));
        let cookie = cookies.find_map(|cookie| {
            let (name, value) = cookie.trim().split_once('=')?;
            (name == self.cookie).then_some(value.as_bytes())
        })?;
        Some((cookie, half))
    }

    /// The backend of an app that follows its feed and shows one of the app's credentials.
    fn backend(&self, request: &Request) -> Option<Backend> {
        let authorization = bearer_of(request.headers())?;
        let app_id = feed_of(request)?;
        secret_key(&self.engine, app_id, authorization)?;
        Some(Backend {
            authorization: authorization.clone(),
        })
    }

    fn session(&self, headers: &HeaderMap) -> Option<Found> {
        let (cookie, half) = self.halves(headers)?;
        self.sessions.find(cookie, half, self.engine.now())
    }

    /// Records that somebody did not get in.
    pub(super) fn record_refused(&self, client: Option<ClientAddress>) {
        let record = Record {
            address: client.map(|it| it.0),
            ..Record::new(Kind::Admin, Cause::SignInRefused)
        };
        self.engine.shards().events().record_of_address(&record);
    }

    /// Records that a browser has signed in.
    pub(super) fn record_signed_in(&self, author: &Author, role: &str) {
        let numbers = [author.session_number()];
        let record = Record {
            numbers: &numbers,
            second: role,
            ..Record::new(Kind::Admin, Cause::SignIn)
        };
        self.engine.shards().events().record(&record.by(author));
    }

    fn admit(&self, request: &mut Request) -> Result<(), Failure> {
        let door = self.door(request);
        let headers = request.headers();
        let bearer = self.bearer(headers);
        let session = match (bearer, door) {
            (None, Door::Guarded) => self.session(headers),
            _ => None,
        };
        if session.is_some() || (bearer.is_none() && door == Door::SignIn) {
            check_page(request, &self.hosts)?;
        }
        if bearer.is_none()
            && session.is_none()
            && let Some(backend) = self.backend(request)
        {
            take_place(request)?;
            request.extensions_mut().insert(backend);
            return Ok(());
        }
        let role = bearer.or(session.map(|it| it.role));
        if let Some(role) = role {
            take_place(request)?;
            if role == Role::Reader && !may_read(request) {
                let text = match is_of_clients(request) {
                    true => "this credential may not read what clients publish",
                    false => "this credential may only read",
                };
                return Err(Failure::forbidden(text));
            }
            let client: Option<&ClientAddress> = request.extensions().get();
            let author = Author {
                kind: match session {
                    Some(_) => AuthorKind::Session,
                    None => AuthorKind::AdminToken,
                },
                session: session.map(|it| it.number),
                address: client.map(|it| it.0),
            };
            let extensions = request.extensions_mut();
            extensions.insert(Caller { role, session });
            extensions.insert(author);
            return Ok(());
        }
        match door {
            Door::Open | Door::SignIn => Ok(()),
            Door::Guarded => Err(self.refuse(request)),
        }
    }

    fn refuse(&self, request: &Request) -> Failure {
        if request.headers().contains_key(AUTHORIZATION) {
            let client = request.extensions().get().copied();
            self.record_refused(client);
        }
        match feed_of(request) {
            Some(_) => Failure::no_feed_credential(),
            None => Failure::unauthorized(),
        }
    }
}

/// The only credential of the scheme `Bearer`. Other schemes are between a client and a proxy; of
/// two bearers it is not known who has shown which.
fn bearer_of(headers: &HeaderMap) -> Option<&HeaderValue> {
    const SCHEME: &[u8] = b"bearer ";
    let is_bearer = |value: &&HeaderValue| {
        let scheme = value.as_bytes().get(..SCHEME.len());
        scheme.is_some_and(|it| it.eq_ignore_ascii_case(SCHEME))
    };
    let mut bearers = headers.get_all(AUTHORIZATION).iter().filter(is_bearer);
    let first = bearers.next()?;
    bearers.next().is_none().then_some(first)
}

/// A place among those who have shown a credential.
fn take_place(request: &Request) -> Result<(), Failure> {
    let place: Option<&Arc<Place>> = request.extensions().get();
    if place.is_none_or(|place| place.set_known()) {
        return Ok(());
    }
    let text = format!("{REQUESTS_MAX} other requests are under way; try again");
    Err(Failure::unavailable(text))
}

/// The app whose feed is asked for.
fn feed_of(request: &Request) -> Option<&str> {
    let path = request.uri().path().strip_prefix(API)?;
    let app_id = path.strip_prefix(FEED.0)?.strip_suffix(FEED.1)?;
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    (is_read && !app_id.contains('/')).then_some(app_id)
}

/// Decides before anything about the path is told, except that the probes are there.
pub(super) async fn authorize(
    State(gate): State<Arc<Gate>>,
    mut request: Request,
    next: Next,
) -> Response {
    let mut response = match gate.admit(&mut request) {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let kept = HeaderValue::from_static("no-store");
    headers.entry(CACHE_CONTROL).or_insert(kept);
    response
}

/// Refuses a page that is not this listener's own: a browser says where a request comes from.
fn check_page(request: &Request, hosts: &HostNames) -> Result<(), Failure> {
    let headers = request.headers();
    let site = headers.get(FETCH_SITE);
    if site.is_some_and(|site| site != "same-origin") {
        return Err(Failure::forbidden("Sec-Fetch-Site must be same-origin"));
    }
    if matches!(*request.method(), Method::GET | Method::HEAD) || is_own_origin(headers, hosts) {
        return Ok(());
    }
    Err(Failure::forbidden(
        "Origin must be this listener's own, and https only for a name of admin.hosts; programs \
         send Authorization: Bearer <token>",
    ))
}

/// Whether `Origin` is that of the host that is asked. By HTTPS a page comes through a proxy only,
/// for which the host's name is configured.
fn is_own_origin(headers: &HeaderMap, hosts: &HostNames) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let (Some(host), Some((scheme, authority))) = (host, origin(headers)) else {
        return false;
    };
    authority.eq_ignore_ascii_case(host) && (scheme == "http" || hosts.is_configured(host))
}

/// The scheme and the authority of `Origin`.
fn origin(headers: &HeaderMap) -> Option<(&str, &str)> {
    let origin = headers.get(ORIGIN)?.to_str().ok()?;
    let parts = origin.split_once("://")?;
    matches!(parts.0, "http" | "https").then_some(parts)
}

/// Whether the page came by TLS, which a proxy in front of the listener speaks.
pub(super) fn is_over_tls(headers: &HeaderMap) -> bool {
    origin(headers).is_some_and(|(scheme, _)| scheme == "https")
}

/// Whether a request changes nothing, or nothing but the caller's own session.
fn may_read(request: &Request) -> bool {
    let path = request.uri().path();
    match *request.method() {
        // All that there is, secrets too; and what clients have said to each other.
        Method::GET | Method::HEAD => !is(path, BACKUP) && !is_of_clients(request),
        Method::POST => is(path, SESSION) || is(path, INSPECT),
        // All of them are not the caller's own.
        Method::DELETE => is(path, SESSION) && request.uri().query().is_none(),
        _ => false,
    }
}

/// Whether what is read was published by clients.
fn is_of_clients(request: &Request) -> bool {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    is_read && request.uri().path().ends_with(CHANNEL_HISTORY)
}

fn is(path: &str, below: &str) -> bool {
    path.strip_prefix(API) == Some(below)
}

/// Refuses requests for other names than the listener's, before anything is told. Probes and
/// whoever shows a token may use any: no page of a browser that was led astray can.
pub(super) async fn check_host(
    State(gate): State<Arc<Gate>>,
    request: Request,
    next: Next,
) -> Response {
    let is_exempt = match request.uri().path() {
        "/healthz" | "/readyz" => true,
        "/metrics" => !gate.on_loopback,
        _ => false,
    };
    if !is_exempt
        && gate.bearer(request.headers()).is_none()
        && gate.backend(&request).is_none()
        && let Err(failure) = gate.hosts.check(&request)
    {
        return failure.into_response();
    }
    next.run(request).await
}
