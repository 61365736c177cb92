//! The OpenAPI document against what is parsed and what is served.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{cluster, request, with_key};
use crate::shard::rest::body::{MintBody, PublishBody};
use crate::shard::rest::openapi;
use crate::shard::rest::route::{Access, KeyRoute, OPERATIONS, OpenRoute};
use crate::shard::testing::Cluster;

fn document() -> Value {
    serde_json::from_str(openapi::document()).unwrap()
}

/// Follows a reference.
fn resolve<'d>(document: &'d Value, schema: &'d Value) -> &'d Value {
    match schema.get("$ref") {
        Some(to) => {
            let pointer = to.as_str().unwrap().strip_prefix('#').unwrap();
            document.pointer(pointer).unwrap()
        }
        None => schema,
    }
}

/// Checks a value by a schema, as strictly as it can be read: no member that it does not name.
#[track_caller]
fn check(document: &Value, schema: &Value, value: &Value) {
    let schema = resolve(document, schema);
    if let Some(constant) = schema.get("const") {
        assert_eq!(value, constant);
    }
    if let Some(types) = schema.get("type") {
        let own = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let allowed = *types == own || types.as_array().is_some_and(|it| it.contains(&json!(own)));
        assert!(allowed, "{value} is no {types}");
    }
    if let (Some(properties), Some(members)) = (schema.get("properties"), value.as_object()) {
        for required in schema["required"].as_array().unwrap() {
            assert!(
                members.contains_key(required.as_str().unwrap()),
                "{required}"
            );
        }
        for (name, member) in members {
            let property = properties.get(name).expect(name);
            check(document, property, member);
        }
    }
    for item in value.as_array().into_iter().flatten() {
        check(document, &schema["items"], item);
    }
}

/// A body and a path with which the operation succeeds, with a peer `ann` in `room`.
fn example(access: Access) -> (&'static str, &'static str, &'static str) {
    match access {
        Access::Open(OpenRoute::Health) => ("GET", "/healthz", ""),
        Access::Open(OpenRoute::OpenApi) => ("GET", "/v1/openapi.json", ""),
        Access::Key(KeyRoute::MintToken) => ("POST", "/v1/tokens", r#"{"peerId":"ann"}"#),
        Access::Key(KeyRoute::ListPeers) => ("GET", "/v1/channels/room/peers?limit=1&after=A", ""),
        Access::Key(KeyRoute::ReadHistory) => {
            ("GET", "/v1/channels/room/history?limit=5&order=desc", "")
        }
        Access::Key(KeyRoute::ForgetHistory) => ("DELETE", "/v1/channels/room/history", ""),
        Access::Key(KeyRoute::Publish) => ("POST", "/v1/channels/room/publish", r#"{"data":1}"#),
        Access::Key(KeyRoute::KickPeer) => ("DELETE", "/v1/peers/ann", ""),
        Access::Key(KeyRoute::ReadUsage) => ("GET", "/v1/usage", ""),
    }
}

fn with_ann_in_room(shard_count: u16) -> Cluster {
    let mut cluster = cluster(shard_count);
    let body = r#"{"peerId":"ann","peerMetadata":{}}"#;
    let minted = cluster.request(0, &with_key("POST", "/v1/tokens", body));
    let token = format!("token={}", minted.json()["token"].as_str().unwrap());
    let (ann, _) = cluster.connect(0, &token);
    cluster.message(ann, r#"{"type":"subscribe","channel":"room"}"#);
    cluster
}

#[test]
fn what_is_served_is_what_is_documented() {
    let document = document();
    for operation in &OPERATIONS {
        let described = &document["paths"][operation.path][operation.method.lower_case()];
        let answers = &described["responses"];
        let (method, path, body) = example(operation.access);
        let response = with_ann_in_room(2).request(1, &with_key(method, path, body));
        assert_eq!(response.status, 200, "{path}");
        let schema = &answers["200"]["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{path}");
        check(&document, schema, &response.json());
        let secured = described["security"] != json!([]);
        let refused = with_ann_in_room(2).request(1, &request(method, path, "", body));
        assert_eq!(secured, refused.status == 401, "{path}");
        assert_eq!(secured, answers.get("401").is_some(), "{path}");
        if secured {
            check(
                &document,
                &json!({"$ref": "#/components/schemas/Error"}),
                &refused.json(),
            );
        }
    }
}

#[test]
fn every_path_is_routed() {
    let document = document();
    let routed: BTreeSet<&str> = OPERATIONS.iter().map(|operation| operation.path).collect();
    let paths = document["paths"].as_object().unwrap();
    let documented: BTreeSet<&str> = paths.keys().map(String::as_str).collect();
    assert_eq!(routed, documented);
}

#[test]
fn request_schemas_name_the_fields_that_are_parsed() {
    let document = document();
    for (path, fields) in [
        ("/v1/tokens", &MintBody::FIELDS[..]),
        ("/v1/channels/{id}/publish", &PublishBody::FIELDS[..]),
    ] {
        let body = &document["paths"][path]["post"]["requestBody"];
        let schema = &body["content"]["application/json"]["schema"];
        let schema = resolve(&document, schema);
        let properties = schema["properties"].as_object().unwrap();
        let documented: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        assert_eq!(documented, fields.iter().copied().collect(), "{path}");
        let path = path.replace("{id}", "room");
        for field in fields {
            // Without a required field, and with each field of a type that none has but `data`.
            let required = schema["required"].as_array().unwrap();
            let values = [("peerId", json!("ann")), ("data", json!(1))];
            let values = values.into_iter().filter(|(name, _)| fields.contains(name));
            let values = values.map(|(name, value)| (name.to_owned(), value));
            let mut sent = Value::Object(values.collect());
            sent.as_object_mut().unwrap().remove(*field);
            let is_required = required.contains(&json!(field));
            let status = |sent: &Value| {
                let sent = with_key("POST", &path, &sent.to_string());
                let response = cluster(1).request(0, &sent);
                (response.status, response.body)
            };
            assert_eq!(status(&sent).0 == 400, is_required, "{field}");
            sent[*field] = json!(false);
            let (answer, body) = status(&sent);
            let is_typed = properties[*field].get("type").is_some();
            assert_eq!(answer == 400, is_typed, "{field}");
            assert_eq!(body.contains(&format!("'{field}'")), is_typed, "{body}");
        }
        // A field that is not there is refused just where the document says so.
        let sent = json!({"peerId": "ann", "data": 1, "chanels": []});
        let sent = with_key("POST", &path, &sent.to_string());
        let is_refused = cluster(1).request(0, &sent).status == 400;
        assert_eq!(
            is_refused,
            schema["additionalProperties"] == false,
            "{path}"
        );
    }
}

#[test]
fn an_object_of_anybody_says_that_it_may_have_members() {
    fn walk(value: &Value, found: &mut usize) {
        if value["type"] == "object" && value.get("properties").is_none() {
            assert_eq!(value["additionalProperties"], true, "{value}");
            *found += 1;
        }
        let members = value.as_object().into_iter().flat_map(|it| it.values());
        let items = value.as_array().into_iter().flatten();
        for child in members.chain(items) {
            walk(child, found);
        }
    }
    let mut found = 0;
    walk(&document(), &mut found);
    assert!(found >= 5, "{found}");
}

#[test]
fn examples_are_served_and_tags_are_described() {
    let document = document();
    assert_eq!(document["servers"][0]["url"], "/");
    assert_eq!(document["info"]["license"]["identifier"], "Apache-2.0");
    let tags = document["tags"].as_array().unwrap();
    let tags: BTreeSet<_> = tags
        .iter()
        .map(|tag| tag["name"].as_str().unwrap())
        .collect();
    let mut examples = 0;
    for operation in &OPERATIONS {
        let described = &document["paths"][operation.path][operation.method.lower_case()];
        let [tag] = &described["tags"].as_array().unwrap()[..] else {
            panic!("{described}");
        };
        assert!(tags.contains(tag.as_str().unwrap()), "{tag}");
        let body = &described["requestBody"]["content"]["application/json"]["example"];
        if !body.is_null() {
            let path = operation.path.replace("{id}", "room");
            let sent = with_key("POST", &path, &body.to_string());
            assert_eq!(cluster(1).request(0, &sent).status, 200, "{path}");
            examples += 1;
        }
    }
    assert_eq!(examples, 2);
}
