//! Schemas of who is connected to what, and of the process: of what changes nothing that is kept.

use serde_json::{Value, json};

use super::schemas::{closed, list, object, reference};

pub(super) fn schemas() -> Value {
    let [mut all, more] = [lists(), process()];
    if let (Some(all), Value::Object(more)) = (all.as_object_mut(), more) {
        all.extend(more);
    }
    all
}

fn lists() -> Value {
    let (text, number, yes) = (kind("string"), kind("integer"), kind("boolean"));
    let page = |name: &str, row: Value| {
        object(
            &[name, "walked", "complete"],
            json!({
                name: {"type": "array", "items": row},
                "next": {"type": ["string", "null"]}, "walked": number, "complete": yes,
            }),
        )
    };
    let channel = json!({
        "channel": text, "peers": number, "connections": number, "rate": {"type": "number"},
    });
    let in_list = ["channel", "peers", "connections", "rate"];
    let mut one = channel.clone();
    one["published"] = number.clone();
    one["owner"] = number.clone();
    one["joining"] = number.clone();
    let home = object(
        &["shard", "connections"],
        json!({"shard": number, "connections": number}),
    );
    one["homes"] = json!({"type": "array", "items": home});
    let metadata = json!({"type": ["object", "null"], "additionalProperties": true});
    let peer = json!({"peerId": text, "connections": number});
    let mut member = peer.clone();
    member["metadata"] = metadata.clone();
    let networks = object(
        &["address", "connections"],
        json!({"address": text, "connections": number}),
    );
    json!({
        "Channels": page("channels", object(&in_list, channel)),
        "Channel": object(&in_list, one),
        "Members": page("members", object(&["peerId", "connections"], member)),
        "Peers": page("peers", object(&["peerId", "connections"], peer)),
        "Connection": connection(),
        "Connections": object(&["walked", "complete"], json!({
            "connections": {"type": "array", "items": reference("Connection")},
            "addresses": {
                "type": "array", "items": networks, "description": "With `group=address`.",
            },
            "distinct": number, "walked": number, "complete": yes,
        })),
        "Peer": object(&["peerId", "metadata", "complete", "connections", "lastClosed"], json!({
            "peerId": text, "metadata": metadata, "complete": yes,
            "connections": {"type": "array", "items": reference("Connection")},
            "lastClosed": {"type": ["object", "null"], "additionalProperties": true},
        })),
    })
}

fn connection() -> Value {
    let (text, number) = (kind("string"), kind("integer"));
    let maybe = |name: &str, about: &str| json!({"type": [name, "null"], "description": about});
    object(
        &[
            "connection",
            "peerId",
            "address",
            "key",
            "since",
            "channels",
        ],
        json!({
            "connection": text, "peerId": text, "address": text, "key": text,
            "since": {"type": "integer", "description": "Unix seconds."},
            "queuedBytes": number, "blockedMs": number,
            "held": maybe("string", "Why its input is held back."),
            "bytesIn": number, "bytesOut": number, "messagesIn": number,
            "channels": {
                "type": ["integer", "array"], "items": text,
                "description": "How many in a list; of one peer up to 100 names.",
            },
            "channelCount": {"type": "integer", "description": "Of one peer: how many."},
            "expiresAt": maybe("integer", "Of one peer: when its token ends, in Unix seconds."),
            "lastReceivedMs": {
                "type": "integer", "description": "Of one peer: how long ago bytes came.",
            },
        }),
    )
}

fn process() -> Value {
    let (text, number) = (kind("string"), kind("integer"));
    let time = json!({"type": "integer", "description": "Unix seconds."});
    let role = json!({"type": "string", "enum": ["admin", "reader"]});
    let warning = object(
        &[
            "code", "severity", "since", "last", "count", "text", "remedy",
        ],
        json!({
            "code": text, "severity": {"type": "string", "enum": ["warn", "critical"]},
            "since": text, "last": text, "count": number, "text": text, "remedy": text,
        }),
    );
    let mut trace = closed(
        &["app"],
        json!({
            "app": text, "peer": text, "channel": text,
            "minutes": {"type": "integer", "minimum": 0, "maximum": 10, "default": 5},
        }),
    );
    trace["description"] = "Either `peer` or `channel`.".into();
    let mut sign_in = closed(&[], json!({"token": text, "code": text}));
    sign_in["description"] = "Either the admin token or a code.".into();
    json!({
        "Trace": trace,
        "Traced": object(&["minutes", "untilUnix"], json!({
            "minutes": number, "untilUnix": time,
        })),
        "SignIn": sign_in,
        "Session": object(&["half", "expiresAt", "role"], json!({
            "half": text, "expiresAt": time, "role": role,
        })),
        "Caller": object(&["role", "expiresAt", "sessions"], json!({
            "role": role, "expiresAt": {"type": ["integer", "null"]}, "sessions": number,
        })),
        "Ended": object(&["ended"], json!({"ended": number})),
        "Code": object(&["code", "expiresAt"], json!({"code": text, "expiresAt": time})),
        "Warning": warning,
        "Warnings": list("warnings", "Warning"),
        "Node": object(&["node", "version", "mode", "startedAt", "shards", "listeners"], json!({
            "node": text, "version": text, "mode": text, "startedAt": number, "shards": number,
            "listeners": {"type": "array", "items": object(&["role", "address", "tls"], json!({
                "role": text, "address": text, "tls": kind("boolean"),
            }))},
        })),
        "Stats": object(&["at"], json!({
            "at": {"type": "integer", "description": "Unix milliseconds."},
        })),
        "Samples": object(&["samples"], json!({
            "samples": {"type": "array", "items": object(&["at"], json!({"at": number}))},
        })),
    })
}

fn kind(name: &str) -> Value {
    json!({ "type": name })
}
