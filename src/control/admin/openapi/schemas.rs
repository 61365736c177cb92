//! What the operations take and give. An answer may have fields that are not here: later versions
//! add some.

use std::ops::RangeInclusive;

use serde_json::{Value, json};

use crate::domain::history::{BYTES, MESSAGES, RULES_MAX, TTL_SEC};
use crate::events::feed::FeedKind;

/// The manual, beside which the document stands.
pub(super) const MANUAL: &str = include_str!("../../../docs/admin-api.md");

/// An example of a schema; those of answers are the manual's.
pub(super) fn example(schema: &str) -> Value {
    match schema {
        "AppFields" => json!({
            "name": "The shop",
            "plan": {"maxConcurrentConnections": 1_000},
        }),
        "NewKey" => json!({
            "type": "publishable", "channelPatterns": ["shop/**"], "actions": ["subscribe"],
        }),
        "KeyFields" => json!({"actions": ["subscribe", "publish"]}),
        "Rotation" => json!({"graceSeconds": 86_400}),
        "MintToken" => json!({
            "peerId": "alice", "channels": ["room-42"], "expiresInSec": 3_600,
            "peerMetadata": {"name": "Alice"},
        }),
        "Inspection" => json!({"token": "eyJ…", "channel": "room-42", "action": "publish"}),
        "SignIn" => json!({"code": "9b1c…"}),
        "Trace" => json!({"app": "app_shop", "peer": "alice", "minutes": 5}),
        "App" => of_manual("## Apps"),
        "Key" => of_manual("## Keys"),
        "History" => of_manual("## What channels keep"),
        "Events" => of_manual("## Events"),
        "Event" => of_manual("## Events")["events"][0].clone(),
        _ => Value::Null,
    }
}

/// The first block of JSON below a head of the manual.
fn of_manual(head: &str) -> Value {
    let section = MANUAL.split(head).nth(1);
    let block = section.and_then(|section| section.split("```json\n").nth(1));
    let block = block.and_then(|block| block.split("```").next());
    serde_json::from_str(block.unwrap_or_default()).unwrap_or_default()
}

pub(super) fn schemas() -> Value {
    let text = json!({"type": "string"});
    let texts = json!({"type": "array", "items": {"type": "string"}});
    let time = json!({"type": "integer", "description": "Unix seconds."});
    let mut all = json!({
        "Error": object(&["error", "message"], json!({
            "error": {"type": "string", "description": "The code; stable."},
            "message": {"type": "string", "description": "For people."},
        })),
        "Apps": list("apps", "App"),
        "Keys": list("keys", "Key"),
        "Usage": object(&["appId"], json!({"appId": text})),
        "Forgotten": object(&["channel", "deleted"], json!({
            "channel": text, "deleted": {"type": "integer"},
        })),
        "Closed": object(&["closed"], json!({"closed": {"type": "integer"}})),
        "Rotation": closed(&[], json!({"graceSeconds": {"type": "integer", "minimum": 0}})),
        "Inspection": closed(&["token"], json!({
            "token": text, "channel": text, "action": actions()["items"],
        })),
        "Verdict": object(&["verdict", "text"], json!({
            "verdict": {"type": "string", "enum": ["good", "refused"]}, "text": text,
        })),
        "Token": object(&["token", "expiresAt"], json!({"token": text, "expiresAt": time})),
        "Settings": object(&["settings"], json!({"settings": {
            "type": "array",
            "items": object(&["key", "value", "origin"], json!({
                "key": text, "value": text, "default": text, "origin": text,
            })),
        }})),
        "Reloaded": object(&["applied", "needsRestart", "errors"], json!({
            "applied": texts,
            "needsRestart": {"type": "array", "items": object(&["key", "place"], json!({
                "key": text, "place": text,
            }))},
            "errors": texts,
        })),
        "Events": object(&["events", "cursor", "oldest", "complete", "lost"], json!({
            "events": {"type": "array", "items": reference("Event")},
            "cursor": text, "oldest": object(&[], json!({})),
            "complete": {"type": "boolean"}, "lost": {"type": "integer"},
        })),
        "Event": object(&["id", "time", "kind", "node", "count", "text"], json!({
            "id": text, "kind": text, "node": text, "count": {"type": "integer"}, "text": text,
            "time": {"type": "string", "format": "date-time"}, "remedy": text,
        })),
        "Stories": object(&["stories", "connected", "oldest"], json!({
            "stories": {"type": "array", "items": object(&["end", "before"], json!({
                "end": reference("Event"),
                "before": {"type": "array", "items": reference("Event")},
            }))},
            "connected": {"type": ["integer", "null"]}, "oldest": object(&[], json!({})),
        })),
    });
    for (name, schema) in [
        ("App", app()),
        ("Upgraded", upgraded()),
        ("Feed", feed()),
        ("History", history()),
        ("AppFields", app_fields()),
        ("Key", key()),
        ("NewKey", new_key()),
        ("KeyFields", closed(&[], key_fields())),
        ("MintToken", mint_token()),
    ] {
        all[name] = schema;
    }
    all
}

fn upgraded() -> Value {
    let number = json!({"type": "integer"});
    let fields = json!({
        "outcome": {"type": "string", "enum": ["done"]}, "version": {"type": "string"},
        "pauseMs": number, "connections": number, "pid": number,
    });
    let names = ["outcome", "pauseMs", "connections", "pid", "version"];
    object(&names, fields)
}

fn feed() -> Value {
    let text = json!({"type": "string"});
    let fields = json!({
        "id": text, "time": {"type": "string", "format": "date-time"},
        "kind": {"type": "string", "enum": FeedKind::ALL.map(FeedKind::as_str)},
        "channel": text, "peerId": text, "number": {"type": "integer"},
    });
    let event = object(&["id", "time", "kind", "number"], fields);
    object(
        &["events", "cursor"],
        json!({ "events": {"type": "array", "items": event}, "cursor": text }),
    )
}

fn history() -> Value {
    let text = json!({"type": "string"});
    let number = json!({"type": "integer"});
    let mut rule = history_rule()["properties"].clone();
    rule["place"] = json!({"type": "integer", "minimum": 1});
    let message = object(
        &["seq", "timeMs", "from", "data"],
        json!({
            "seq": number, "timeMs": number, "from": text, "data": {},
            "fromMetadata": object(&[], json!({})),
        }),
    );
    let fields = json!({
        "app": text, "rule": object(&["place", "pattern"], rule), "channel": text, "epoch": text,
        "first": number, "last": number, "count": number, "bytes": number,
        "messages": {"type": "array", "items": message}, "more": {"type": "boolean"},
    });
    let required = [
        "app", "rule", "channel", "epoch", "first", "last", "count", "bytes", "messages", "more",
    ];
    let mut history = object(&required, fields);
    history["example"] = example("History");
    history
}

fn app() -> Value {
    let mut fields = app_fields()["properties"].clone();
    fields["createdAt"] = json!({"type": ["integer", "null"], "description": "Unix seconds."});
    let required = [
        "appId",
        "name",
        "status",
        "plan",
        "directScope",
        "turn",
        "limits",
        "feed",
        "history",
    ];
    let mut app = object(&required, fields);
    app["example"] = example("App");
    app
}

fn app_fields() -> Value {
    let number = json!({"type": ["integer", "null"], "minimum": 0});
    closed(
        &[],
        json!({
            "appId": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
            "name": {"type": "string"},
            "status": {"type": "string", "enum": ["active", "suspended"]},
            "plan": object(&[], json!({
                "name": {"type": ["string", "null"]},
                "maxConcurrentConnections": number, "maxMessagesPerPeriod": number,
                "overagesAllowed": {"type": "boolean"}, "overagesEnabled": {"type": "boolean"},
                "periodStartUnix": number, "periodDays": number,
            })),
            "directScope": {"type": "string", "enum": ["app", "shared-channel"]},
            "turn": {"type": ["object", "null"], "additionalProperties": true},
            "limits": {"type": ["object", "null"], "additionalProperties": true},
            "feed": closed(&[], json!({
                "presence": {"type": "boolean"}, "peers": {"type": "boolean"},
            })),
            "history": {
                "type": "array", "maxItems": RULES_MAX, "items": history_rule(),
            },
        }),
    )
}

fn history_rule() -> Value {
    let number = |range: RangeInclusive<u32>| {
        let (minimum, maximum) = range.into_inner();
        json!({"type": "integer", "minimum": minimum, "maximum": maximum})
    };
    let fields = json!({
        "pattern": {"type": "string"},
        "messages": number(MESSAGES), "bytes": number(BYTES), "ttlSec": number(TTL_SEC),
        "store": {"type": "string", "enum": ["memory", "disk"]},
    });
    closed(&["pattern"], fields)
}

fn key_fields() -> Value {
    let texts = json!({"type": "array", "items": {"type": "string"}});
    json!({
        "name": {"type": "string"},
        "channelPatterns": texts, "actions": actions(), "allowedOrigins": texts,
        "autoInjectTurn": {"type": "boolean"},
    })
}

fn key_type() -> Value {
    json!({"type": "string", "enum": ["secret", "publishable"]})
}

fn new_key() -> Value {
    let mut fields = key_fields();
    fields["type"] = key_type();
    closed(&["type", "channelPatterns", "actions"], fields)
}

fn key() -> Value {
    let mut fields = key_fields();
    fields["type"] = key_type();
    for name in ["keyId", "appId", "signingSecret", "apiSecret"] {
        fields[name] = json!({"type": "string"});
    }
    let required = ["keyId", "appId", "type", "channelPatterns", "actions"];
    let mut key = object(&required, fields);
    key["example"] = example("Key");
    key
}

fn mint_token() -> Value {
    let texts = json!({"type": "array", "items": {"type": "string"}});
    // Metadata is anybody's: generators of typed clients need to be told.
    let metadata = json!({"type": "object", "additionalProperties": true});
    closed(
        &["peerId"],
        json!({
            "peerId": {"type": "string"}, "channels": texts, "permissions": actions(),
            "expiresInSec": {"type": "integer", "minimum": 1, "maximum": 3_600},
            "metadata": metadata, "peerMetadata": metadata,
        }),
    )
}

fn actions() -> Value {
    let action = json!({
        "type": "string", "enum": ["publish", "subscribe", "presence", "send"],
    });
    json!({"type": "array", "items": action})
}

pub(super) fn list(name: &str, of: &str) -> Value {
    object(
        &[name],
        json!({ name: {"type": "array", "items": reference(of)} }),
    )
}

pub(super) fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

/// An answer, which may have more.
pub(super) fn object(required: &[&str], properties: Value) -> Value {
    json!({
        "type": "object", "required": required, "properties": properties,
        "additionalProperties": true,
    })
}

/// A body, in which an unknown field is refused.
pub(super) fn closed(required: &[&str], properties: Value) -> Value {
    json!({
        "type": "object", "required": required, "properties": properties,
        "additionalProperties": false,
    })
}
