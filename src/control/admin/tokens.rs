//! Connect tokens: signed for a try, and inspected by the rules that connects are judged by.
//! Nothing of a token is kept.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::answer::{Failure, body_of};
use super::once;
use crate::control::engine::Engine;
use crate::control::registry::Registry;
use crate::domain::rights::{Key, SigningMaterial};
use crate::domain::token_check::{TokenFault, signing_material, verify};
use crate::events::author::Author;
use crate::events::kind::{Cause, Kind};
use crate::events::record::Record;
use crate::limits::{HEAD_BYTES_DEFAULT, token_bytes_max};
use crate::proto::actions::{Action, Actions};
use crate::proto::claims::{Claims, MintRequest, TokenError, mint};
use crate::proto::pattern::{Pattern, all_contained};

/// Lifetime of a token in seconds, and the longest: whoever needs more signs with the key's own
/// secret.
const LIFETIME_SEC_MAX: u64 = 3_600;
/// Credentials that are taken for tokens, by how they begin.
const OTHER_CREDENTIALS: [(&str, &str); 4] = [
    ("sk_live_", "the API secret of a key"),
    ("sk_secret_", "the signing secret of a key"),
    ("sk_id_", "the id of a key"),
    (
        "pk_live_",
        "a publishable key, which connects by itself as ?key=…",
    ),
];

/// The body of a request for a token: that of `POST /v1/tokens`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MintBody {
    peer_id: String,
    channels: Option<Vec<String>>,
    permissions: Option<Vec<String>>,
    expires_in_sec: Option<u64>,
    metadata: Option<Box<RawValue>>,
    peer_metadata: Option<Box<RawValue>>,
}

/// The body of a request to inspect one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct InspectBody {
    token: String,
    channel: Option<String>,
    action: Option<String>,
}

/// `POST …/signalling/keys/{keyId}/tokens`.
pub(super) async fn mint_token(
    State(engine): State<Arc<Engine>>,
    key_id: Result<Path<String>, PathRejection>,
    Extension(author): Extension<Author>,
    request: Request,
) -> Result<Response, Failure> {
    let Ok(Path(key_id)) = key_id else {
        return Err(invalid("the path has a bad percent escape"));
    };
    let body: MintBody = read(request).await?;
    let registry = engine.registry();
    let key = &registry.key(&key_id)?.key;
    let now_unix = engine.now_unix_ms() / 1_000;
    let lifetime_sec = body.expires_in_sec.unwrap_or(LIFETIME_SEC_MAX);
    if !(1..=LIFETIME_SEC_MAX).contains(&lifetime_sec) {
        return Err(invalid(format!(
            "expiresInSec: the server signs for 1 to {LIFETIME_SEC_MAX} seconds; for longer, sign \
             with the key's own signing secret"
        )));
    }
    let token = signed(key, &body, now_unix, lifetime_sec)?;
    let about = Record {
        app: Some(key.app.index),
        key: Some(key.index),
        first: &key_id,
        ..Record::new(Kind::Admin, Cause::TokenMinted)
    };
    record(about, &author, &engine);
    let answer = json!({"token": token, "expiresAt": now_unix + lifetime_sec});
    Ok(Json(answer).into_response())
}

fn signed(key: &Key, body: &MintBody, now: u64, lifetime_sec: u64) -> Result<String, Failure> {
    let Some(material) = signing_material(key) else {
        return Err(invalid(
            "a publishable key signs nothing: name a secret key, sk_id_…",
        ));
    };
    let SigningMaterial::Ready { current, .. } = material else {
        return Err(Failure::unavailable(
            "the server cannot read the key's signing secret: its log says why",
        ));
    };
    let parse = |text: &String| {
        Pattern::parse(text).map_err(|error| invalid(format!("channels: {text:?}: {error}")))
    };
    let channels = body.channels.as_ref();
    let channels: Option<Vec<_>> = channels
        .map(|texts| texts.iter().map(parse).collect())
        .transpose()?;
    if !channels
        .as_ref()
        .is_none_or(|own| all_contained(own, &key.patterns))
    {
        return Err(invalid(
            "channels: one of them is not contained in the patterns of the key",
        ));
    }
    let permissions = body.permissions.as_ref();
    let permissions = permissions
        .map(Actions::parse)
        .transpose()
        .map_err(|error| invalid(format!("permissions: {error}")))?;
    if !permissions.is_none_or(|own| key.actions.contains_all(own)) {
        return Err(invalid("permissions: the key does not have all of them"));
    }
    let request = MintRequest {
        key_id: &key.id,
        sub: &body.peer_id,
        issued_at_unix: now,
        expires_at_unix: now + lifetime_sec,
        channels: channels.as_deref(),
        permissions,
        metadata: body.metadata.as_deref(),
        peer_metadata: body.peer_metadata.as_deref(),
    };
    let token = mint(&request, current)
        .map_err(|error| invalid(format!("the token would not be valid: {error}")))?;
    let bytes_max = token_bytes_max(HEAD_BYTES_DEFAULT);
    if token.len() > bytes_max {
        return Err(invalid(format!(
            "the token would have {} bytes, and no more than {bytes_max} can connect; give it \
             fewer or shorter channels, or less metadata",
            token.len()
        )));
    }
    Ok(token)
}

/// `POST …/tokens/inspect`.
pub(super) async fn inspect_token(
    State(engine): State<Arc<Engine>>,
    Extension(author): Extension<Author>,
    request: Request,
) -> Result<Response, Failure> {
    let body: InspectBody = read(request).await?;
    let action =
        match &body.action {
            None => None,
            Some(name) => Some(Action::from_name(name).ok_or_else(|| {
                invalid("action: must be one of publish, subscribe, presence, send")
            })?),
        };
    let asked = Asked {
        channel: body.channel.as_deref(),
        action,
    };
    let answer = inspected(
        body.token.trim(),
        &engine.registry(),
        engine.now_unix_ms(),
        &asked,
    );
    let about = Record {
        first: answer["verdict"].as_str().unwrap_or_default(),
        second: answer["cause"].as_str().unwrap_or_default(),
        ..Record::new(Kind::Admin, Cause::TokenInspected)
    };
    record(about, &author, &engine);
    Ok(Json(answer).into_response())
}

/// Records what an operator did with a token, and nothing of the token.
fn record(about: Record<'_>, author: &Author, engine: &Engine) {
    let numbers = [author.session_number()];
    let record = Record {
        numbers: &numbers,
        ..about
    };
    let record = record.by(author);
    engine.shards().events().record_of_address(&record);
}

/// What else is to be known: whether the token may do this there.
struct Asked<'a> {
    channel: Option<&'a str>,
    action: Option<Action>,
}

fn inspected(token: &str, registry: &Registry, now_unix_ms: u64, asked: &Asked<'_>) -> Value {
    let key_of = |id: &str| registry.key(id).ok().map(|entry| &entry.key);
    let outcome = verify(token, key_of, now_unix_ms);
    let [header, claims] = decoded(token);
    let key_id = header["kid"].as_str().unwrap_or_default();
    let entry = registry.key(key_id).ok();
    let key = entry.map(|entry| {
        let suspended = entry.key.app.suspended;
        json!({
            "keyId": key_id, "name": entry.row.record.name, "appId": entry.row.record.app_id,
            "status": if suspended { "suspended" } else { "active" },
        })
    });
    let suspended = entry.is_some_and(|entry| entry.key.app.suspended);
    let refusal = match &outcome {
        Err(fault) => Some(Refusal::of(fault, token)),
        Ok(_) if suspended => Some(Refusal {
            cause: "app_suspended",
            text: "the app of the key is suspended".to_owned(),
            check: Check::App,
        }),
        Ok(_) => None,
    };
    let mut answer = json!({
        "verdict": if refusal.is_some() { "refused" } else { "good" },
        "cause": refusal.as_ref().map(|refusal| refusal.cause),
        "text": refusal.as_ref().map_or("the token is good", |refusal| &refusal.text),
        "header": header,
        "claims": claims,
        "key": key,
        "effective": outcome.as_ref().ok().map(|(key, claims)| effective(key, claims)),
        "checks": checks(refusal.as_ref()),
    });
    if asked.channel.is_some() || asked.action.is_some() {
        let good = outcome.as_ref().ok().filter(|_| refusal.is_none());
        let may = good.is_some_and(|(key, claims)| may(key, claims, asked));
        answer["may"] = may.into();
    }
    answer
}

/// What key and token allow together.
fn effective(key: &Key, claims: &Claims) -> Value {
    let of_key = || key.patterns.iter().map(Pattern::as_str).collect();
    let channels: Vec<_> = claims
        .channels
        .as_ref()
        .map_or_else(of_key, |own| own.iter().map(Pattern::as_str).collect());
    let actions = claims
        .permissions
        .map_or(key.actions, |own| own.intersection(key.actions));
    json!({
        "channels": channels,
        "actions": actions.names().collect::<Vec<_>>(),
        "expiresAt": claims.expires_at_unix_sec(),
    })
}

fn may(key: &Key, claims: &Claims, asked: &Asked<'_>) -> bool {
    let permitted = |action| {
        let granted = claims.permissions.is_none_or(|own| own.contains(action));
        key.actions.contains(action) && granted
    };
    let opened = |channel: &str| {
        let any = |own: &[Pattern]| own.iter().any(|pattern| pattern.matches(channel));
        key.patterns.any_matches(channel) && claims.channels.as_deref().is_none_or(any)
    };
    asked.action.is_none_or(permitted) && asked.channel.is_none_or(opened)
}

/// What is looked at, in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Check {
    Form,
    Key,
    Signature,
    Claims,
    Begin,
    Grant,
    Expiry,
    App,
}

const CHECKS: [(Check, &str, &str); 8] = [
    (Check::Form, "form", "a JWT with HS256 that names a key"),
    (Check::Key, "key", "the key is a secret one, and is there"),
    (
        Check::Signature,
        "signature",
        "signed with the secret of the key",
    ),
    (
        Check::Claims,
        "claims",
        "all claims that it needs, each well-formed",
    ),
    (Check::Begin, "begin", "its time has begun"),
    (Check::Grant, "grant", "it claims no more than the key has"),
    (Check::Expiry, "expiry", "its time is not over"),
    (Check::App, "app", "the app is active"),
];

/// Each check, ticked or with its reason; those behind the one that failed were not made.
fn checks(refusal: Option<&Refusal>) -> Vec<Value> {
    let made = CHECKS
        .iter()
        .filter(|(check, ..)| refusal.is_none_or(|refusal| *check <= refusal.check));
    let shown = made.map(|(check, name, text)| match refusal {
        Some(refusal) if refusal.check == *check => {
            json!({"check": name, "ok": false, "text": refusal.text})
        }
        _ => json!({"check": name, "ok": true, "text": text}),
    });
    shown.collect()
}

/// Why a token is refused.
struct Refusal {
    cause: &'static str,
    text: String,
    check: Check,
}

impl Refusal {
    fn of(fault: &TokenFault, token: &str) -> Self {
        let rule = match fault {
            TokenFault::UnknownKey => {
                return Self {
                    cause: "unknown_key",
                    text: "there is no secret key of the id that it names: revoked, of another \
                           server, or publishable"
                        .to_owned(),
                    check: Check::Key,
                };
            }
            TokenFault::KeyUnreadable => {
                return Self {
                    cause: "key_unreadable",
                    text: "the server cannot read the key's signing secret: its log says why"
                        .to_owned(),
                    check: Check::Key,
                };
            }
            TokenFault::Rule(rule) => *rule,
        };
        let mut others = OTHER_CREDENTIALS.iter();
        if let Some((_, what)) = others.find(|(prefix, _)| token.starts_with(prefix)) {
            return Self {
                cause: "wrong_kind",
                text: format!("this is no token, but {what}"),
                check: Check::Form,
            };
        }
        let (cause, check) = cause_of(rule);
        Self {
            cause: cause.as_str(),
            text: rule.to_string(),
            check,
        }
    }
}

/// The cause that the event of a connect with such a token would have, and the check that fails.
fn cause_of(rule: TokenError) -> (Cause, Check) {
    match rule {
        TokenError::TooLong => (Cause::TokenTooLong, Check::Form),
        TokenError::Malformed => (Cause::TokenMalformed, Check::Form),
        TokenError::Algorithm => (Cause::TokenAlg, Check::Form),
        TokenError::CriticalExtension => (Cause::TokenCrit, Check::Form),
        TokenError::KeyId => (Cause::TokenKid, Check::Form),
        TokenError::Signature => (Cause::TokenSignature, Check::Signature),
        TokenError::Missing(_) | TokenError::Invalid(_) => (Cause::TokenClaim, Check::Claims),
        TokenError::IssuedInFuture => (Cause::TokenIatFuture, Check::Begin),
        TokenError::NotYetValid => (Cause::TokenNbf, Check::Begin),
        TokenError::ChannelsNotGranted => (Cause::TokenChannels, Check::Grant),
        TokenError::PermissionsNotGranted => (Cause::TokenPermissions, Check::Grant),
        TokenError::Expired => (Cause::TokenExpired, Check::Expiry),
    }
}

/// Header and claims as they stand in a token, whoever signed it; null where they are no JSON.
fn decoded(token: &str) -> [Value; 2] {
    let mut parts = token.split('.');
    [parts.next(), parts.next()].map(|part| {
        let bytes = part.and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let value = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        value.unwrap_or_default()
    })
}

async fn read<T: DeserializeOwned>(request: Request) -> Result<T, Failure> {
    let body = body_of(request).await?;
    // serde would take an array's elements for fields.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(invalid("the body must be a JSON object"));
    }
    let read = once::check(&body).and_then(|()| serde_json::from_slice(&body));
    read.map_err(|error| invalid(format!("the body: {error}")))
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::invalid(StatusCode::BAD_REQUEST, message)
}
