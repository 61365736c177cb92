//! This API as OpenAPI 3.1, made from the table that routes it.
//!
//! Every operation of the table has a description here, or this file does not compile; the tests
//! hold request schemas against the fields that are parsed and response schemas against answers
//! that were served. So the document cannot say what the server does not do.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use crate::domain::history_page::{LIMIT_DEFAULT, LIMIT_MAX};
use crate::limits::{
    CHANNEL_NAME_BYTES_MAX, PATTERN_BYTES_MAX, PEER_ID_BYTES_MAX, PEERS_BYTES_MAX,
    PEERS_PER_PAGE_MAX, PUBLICATION_ID_BYTES_MAX, TOKEN_LIFETIME_SEC_MAX, TOKEN_PATTERNS_MAX,
    TOKEN_PERMISSIONS_MAX,
};
use crate::proto::actions::Action;
use crate::shard::rest::body::TOKEN_LIFETIME_SEC_DEFAULT;
use crate::shard::rest::route::{Access, KeyRoute, OPERATIONS, OpenRoute};

/// What operations are grouped by.
const TAGS: [(&str, &str); 4] = [
    ("channels", "What is published and kept, and who is there."),
    ("peers", "Users: their tokens and their connections."),
    ("usage", "What the app has used."),
    ("server", "For probes and tools, without a credential."),
];

/// Answers that any operation may get.
const ERRORS: [(u16, &str); 7] = [
    (
        400,
        "Malformed HTTP or JSON, or a value that is not allowed.",
    ),
    (408, "The request did not arrive in time."),
    (413, "The body is too long."),
    (
        415,
        "The body has a content type that is given and is not JSON, or a content encoding (then \
         with `Accept-Encoding: identity`).",
    ),
    (417, "An expectation other than `100-continue`."),
    (
        429,
        "Too many requests (`rate_limited`, with `Retry-After`).",
    ),
    (431, "The request head is too long."),
];

/// Answers that an operation with a key may get too.
const KEY_ERRORS: [(u16, &str); 3] = [
    (401, "The credential is missing or not good."),
    (
        429,
        "Too many requests, or too many unread answers (`rate_limited`, with `Retry-After`), or \
         `over_message_quota`.",
    ),
    (503, "The server cannot decide now, or is shutting down."),
];

const FORBIDDEN: (u16, &str) = (
    403,
    "Outside the key's channel patterns (`channel_not_authorized`) or actions \
     (`action_not_permitted`).",
);

static DOCUMENT: LazyLock<String> = LazyLock::new(|| build().to_string());

/// The document, as JSON.
#[must_use]
pub(crate) fn document() -> &'static str {
    &DOCUMENT
}

fn build() -> Value {
    let mut paths = Map::new();
    for operation in &OPERATIONS {
        let mut described = describe(operation.access);
        described["tags"] = json!([tag(operation.access)]);
        let method = operation.method.lower_case();
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[method] = described;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "ringmesh REST control plane",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "For backends: mint connect tokens, publish, list and disconnect \
                            peers, read usage. Any shard of a server answers for all of them.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The server that this document came from."}],
        "tags": TAGS.map(|(name, description)| json!({"name": name, "description": description})),
        "paths": paths,
        "components": {
            "securitySchemes": {
                "secretKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`sk_live_…`, or `sk_id_…:sk_secret_…`.",
                },
            },
            "schemas": schemas(),
        },
    })
}

fn tag(access: Access) -> &'static str {
    match access {
        Access::Open(_) => "server",
        Access::Key(KeyRoute::Publish | KeyRoute::ListPeers) => "channels",
        Access::Key(KeyRoute::ReadHistory | KeyRoute::ForgetHistory) => "channels",
        Access::Key(KeyRoute::MintToken | KeyRoute::KickPeer) => "peers",
        Access::Key(KeyRoute::ReadUsage) => "usage",
    }
}

fn describe(access: Access) -> Value {
    match access {
        Access::Open(OpenRoute::Health) => open(
            "health",
            "200 while the process serves, 503 once it is about to end",
            reference("Health"),
        ),
        Access::Open(OpenRoute::OpenApi) => open("openapi", "This document", any_object()),
        Access::Key(KeyRoute::MintToken) => with_body(
            with_key("mintToken", "Mint a connect token", "Token", true),
            "MintToken",
        ),
        Access::Key(KeyRoute::Publish) => with_name(
            with_body(
                with_key(
                    "publish",
                    "Publish to a channel without a WebSocket",
                    "Published",
                    true,
                ),
                "Publish",
            ),
            &channel_name(),
        ),
        Access::Key(KeyRoute::ListPeers) => with_page(with_name(
            with_key("listPeers", "Who is in a channel", "Peers", true),
            &channel_name(),
        )),
        Access::Key(KeyRoute::ReadHistory) => {
            let summary = "What a channel keeps, a page at a time";
            let operation = with_key("readHistory", summary, "History", true);
            with_history_page(with_name(operation, &channel_name()))
        }
        Access::Key(KeyRoute::ForgetHistory) => {
            let summary = "Forget what a channel keeps, and begin a new numbering";
            let operation = with_key("forgetHistory", summary, "Forgotten", true);
            with_name(operation, &channel_name())
        }
        Access::Key(KeyRoute::KickPeer) => with_name(
            with_key(
                "kickPeer",
                "Close every connection of a peer with 4020",
                "Kicked",
                false,
            ),
            &peer_id(),
        ),
        Access::Key(KeyRoute::ReadUsage) => {
            with_key("readUsage", "Live and period usage", "Usage", false)
        }
    }
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

fn response(description: &str, schema: Value) -> Value {
    json!({
        "description": description,
        "content": {"application/json": {"schema": schema}},
    })
}

fn open(id: &str, summary: &str, answer: Value) -> Value {
    let mut responses = Map::new();
    responses.insert("200".into(), response(summary, answer));
    add_errors(&mut responses, &ERRORS);
    json!({"operationId": id, "summary": summary, "security": [], "responses": responses})
}

/// `is_scoped`: the key's patterns and actions decide.
fn with_key(id: &str, summary: &str, answer: &str, is_scoped: bool) -> Value {
    let mut responses = Map::new();
    responses.insert("200".into(), response(summary, reference(answer)));
    add_errors(&mut responses, &ERRORS);
    add_errors(&mut responses, &KEY_ERRORS);
    if is_scoped {
        add_errors(&mut responses, &[FORBIDDEN]);
    }
    json!({
        "operationId": id,
        "summary": summary,
        "security": [{"secretKey": []}],
        "responses": responses,
    })
}

fn add_errors(responses: &mut Map<String, Value>, errors: &[(u16, &str)]) {
    for (status, description) in errors {
        responses.insert(
            status.to_string(),
            response(description, reference("Error")),
        );
    }
}

fn with_body(mut operation: Value, schema: &str) -> Value {
    operation["requestBody"] = json!({
        "required": true,
        "content": {"application/json": {
            "schema": reference(schema),
            "example": example(schema),
        }},
    });
    operation
}

/// A body that a key with all rights may send.
fn example(schema: &str) -> Value {
    match schema {
        "MintToken" => json!({
            "peerId": "alice",
            "channels": ["room-42", "news/*"],
            "permissions": ["publish", "subscribe", "presence"],
            "expiresInSec": 3_600,
            "peerMetadata": {"name": "Alice"},
        }),
        _ => json!({"data": {"text": "hello from the backend"}, "from": "backend"}),
    }
}

fn with_name(mut operation: Value, schema: &Value) -> Value {
    operation["parameters"] = json!([{
        "name": "id",
        "in": "path",
        "required": true,
        "description": "Percent-encoded; a slash may stand as it is.",
        "schema": schema,
    }]);
    operation
}

fn with_page(mut operation: Value) -> Value {
    let limit = json!({
        "name": "limit",
        "in": "query",
        "description": format!(
            "How many peers at most. A list ends at {PEERS_BYTES_MAX} bytes in any case."
        ),
        "schema": {"type": "integer", "minimum": 1, "maximum": PEERS_PER_PAGE_MAX},
    });
    let after = json!({
        "name": "after",
        "in": "query",
        "description": "Only peers behind this id: the `next` of the page before.",
        "schema": peer_id(),
    });
    if let Some(parameters) = operation["parameters"].as_array_mut() {
        parameters.extend([limit, after]);
    }
    operation
}

fn with_history_page(mut operation: Value) -> Value {
    let since = json!({
        "name": "since",
        "in": "query",
        "description": "Only publications behind this position, `<epoch>:<seq>`.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{8,16}:[0-9]+$"},
    });
    let limit = json!({
        "name": "limit",
        "in": "query",
        "description": format!(
            "How many publications at most. A page ends at {PEERS_BYTES_MAX} bytes in any case."
        ),
        "schema": {
            "type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT,
        },
    });
    let order = json!({
        "name": "order",
        "in": "query",
        "description": "The oldest first, or the newest.",
        "schema": {"enum": ["asc", "desc"], "default": "asc"},
    });
    if let Some(parameters) = operation["parameters"].as_array_mut() {
        parameters.extend([since, limit, order]);
    }
    let lost = "`since` is of another numbering, or not all that follows it is kept \
                (`history_lost`).";
    operation["responses"]["410"] = response(lost, reference("Error"));
    operation
}

fn position() -> Value {
    json!({
        "epoch": {"type": "string", "description": "Which numbering; of channels with history."},
        "seq": {"type": "integer", "description": "The number; of channels with history."},
    })
}

fn published() -> Value {
    let mut fields = position();
    fields["channel"] = json!({"type": "string"});
    fields["delivered"] = json!({
        "type": "integer", "description": "Connections that it was queued to.",
    });
    fields["duplicate"] = json!({
        "const": true, "description": "Its `id` was there before, and it was not published again.",
    });
    object(&["channel", "delivered"], fields)
}

fn history() -> Value {
    let number = |description: &str| json!({"type": "integer", "description": description});
    let message = object(
        &["seq", "timeMs", "from", "data"],
        json!({
            "seq": number("From 1, without gaps."),
            "timeMs": number("Unix milliseconds."),
            "from": peer_id(),
            "data": {"description": "Any JSON value, byte for byte."},
            "fromMetadata": any_object(),
        }),
    );
    object(
        &["channel", "epoch", "first", "last", "messages", "more"],
        json!({
            "channel": {"type": "string"},
            "epoch": {
                "type": ["string", "null"],
                "description": "Which numbering; null: the channel has no history.",
            },
            "first": number("The oldest that is kept."),
            "last": number("The newest."),
            "messages": {"type": "array", "items": message},
            "more": {"type": "boolean", "description": "Whether the page has not all."},
        }),
    )
}

fn peer_id() -> Value {
    json!({"type": "string", "pattern": format!("^[ -~]{{1,{PEER_ID_BYTES_MAX}}}$")})
}

fn channel_name() -> Value {
    json!({
        "type": "string",
        "description": format!(
            "1 to {CHANNEL_NAME_BYTES_MAX} bytes of UTF-8 without control characters; names \
             below `_metered/`, `_internal/` and `_system/` are reserved."
        ),
        "minLength": 1,
        "maxLength": CHANNEL_NAME_BYTES_MAX,
        "pattern": r"^[^\u0000-\u001f\u007f-\u009f]+$",
    })
}

fn channel_pattern() -> Value {
    json!({
        "type": "string",
        "description": format!(
            "1 to {PATTERN_BYTES_MAX} bytes of UTF-8; `*` is any run without `/`, `**` any run, \
             and `\\` takes the meaning from the character behind it, which must be there."
        ),
        "minLength": 1,
        "maxLength": PATTERN_BYTES_MAX,
        "pattern": r"^(?:[^\\]|\\[\s\S])+$",
    })
}

fn metadata(bytes_max: &str) -> Value {
    let mut metadata = any_object();
    metadata["description"] = format!("At most {bytes_max} as it is written.").into();
    metadata
}

/// An object whose members are anybody's: generators of typed clients need to be told.
fn any_object() -> Value {
    json!({"type": "object", "additionalProperties": true})
}

fn object(required: &[&str], properties: Value) -> Value {
    json!({"type": "object", "required": required, "properties": properties})
}

fn schemas() -> Value {
    json!({
        "Error": object(&["error", "message"], json!({
            "error": {"type": "string", "description": "The code; stable."},
            "message": {"type": "string", "description": "For people."},
        })),
        "Health": object(&["status"], json!({"status": {"const": "ok"}})),
        "MintToken": mint_token(),
        "Token": object(&["token", "expiresAt"], json!({
            "token": {"type": "string", "description": "A JWT for the `token` of a connect."},
            "expiresAt": {"type": "integer", "description": "Unix seconds."},
        })),
        "Publish": object(&["data"], json!({
            "data": {"description": "Any JSON value; passed on byte for byte."},
            "from": peer_id(),
            "peerMetadata": metadata("4 KB"),
            "id": {
                "type": "string",
                "minLength": 1,
                "maxLength": PUBLICATION_ID_BYTES_MAX,
                "description": "In a channel with history the same `id` from the same `from` is \
                                published once.",
            },
        })),
        "Published": published(),
        "History": history(),
        "Forgotten": object(&["channel", "deleted"], json!({
            "channel": {"type": "string"},
            "deleted": {"type": "integer", "description": "Publications; 0 is no error."},
        })),
        "Peers": object(&["channel", "peers"], json!({
            "channel": {"type": "string"},
            "peers": {"type": "array", "items": object(&["peerId"], json!({
                "peerId": {"type": "string"},
                "metadata": any_object(),
            }))},
            "next": {
                "type": "string",
                "description": "The last peer's id, where there are more.",
            },
        })),
        "Kicked": object(&["peerId", "closed"], json!({
            "peerId": {"type": "string"},
            "closed": {"type": "integer", "description": "Connections; 0 is no error."},
        })),
        "Usage": usage(),
    })
}

fn mint_token() -> Value {
    let actions = Action::ALL.map(Action::name);
    let mut schema = object(
        &["peerId"],
        json!({
            "peerId": peer_id(),
            "channels": {
                "type": "array",
                "maxItems": TOKEN_PATTERNS_MAX,
                "description": "Each contained in one of the key's patterns; absent: those.",
                "items": channel_pattern(),
            },
            "permissions": {
                "type": "array",
                "maxItems": TOKEN_PERMISSIONS_MAX,
                "description": "Each one of the key's actions; absent: those.",
                "items": {"enum": actions},
            },
            "expiresInSec": {
                "type": "integer",
                "minimum": 1,
                "maximum": TOKEN_LIFETIME_SEC_MAX,
                "default": TOKEN_LIFETIME_SEC_DEFAULT,
            },
            "metadata": metadata("8 KB"),
            "peerMetadata": metadata("4 KB"),
        }),
    );
    schema["additionalProperties"] = false.into();
    schema
}

fn usage() -> Value {
    let count = || json!({"type": "integer", "minimum": 0});
    let limit = || json!({"type": ["integer", "null"], "description": "null is unlimited."});
    let plan = object(
        &[
            "name",
            "maxConcurrentConnections",
            "maxMessagesPerPeriod",
            "overagesAllowed",
            "overagesEnabled",
        ],
        json!({
            "name": {"type": ["string", "null"]},
            "maxConcurrentConnections": limit(),
            "maxMessagesPerPeriod": limit(),
            "overagesAllowed": {"type": "boolean"},
            "overagesEnabled": {"type": "boolean"},
        }),
    );
    object(
        &[
            "appId",
            "periodStartUnix",
            "periodEndUnix",
            "concurrentNow",
            "peakConcurrent",
            "messagesUsed",
            "overageMessages",
            "overageConnections",
            "plan",
        ],
        json!({
            "appId": {"type": "string"},
            "periodStartUnix": {"type": ["integer", "null"]},
            "periodEndUnix": {"type": ["integer", "null"]},
            "concurrentNow": count(),
            "peakConcurrent": count(),
            "messagesUsed": count(),
            "overageMessages": count(),
            "overageConnections": count(),
            "plan": plan,
        }),
    )
}
