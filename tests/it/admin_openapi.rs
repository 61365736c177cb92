//! The document of the admin API against the server: what it says of answers is what is answered.

use serde_json::{Value, json};

use crate::support::server::ringmesh;
use crate::support::setup::{ALL_ACTIONS, Setup, key, signer};

fn document() -> Value {
    let output = ringmesh().args(["openapi", "--admin"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Says what of a value a schema does not allow, as far as the document's schemas go.
fn check(document: &Value, schema: &Value, value: &Value, place: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        return check(
            document,
            &document["components"]["schemas"][name],
            value,
            place,
        );
    }
    let is_of = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        _ => panic!("{place}: {name}"),
    };
    match &schema["type"] {
        Value::String(name) => assert!(is_of(name), "{place}: {value} is no {name}"),
        Value::Array(names) => {
            let mut names = names.iter().map(|name| name.as_str().unwrap());
            assert!(names.any(is_of), "{place}: {value}");
        }
        _ => {}
    }
    if let Some(allowed) = schema["enum"].as_array() {
        assert!(allowed.contains(value), "{place}: {value}");
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().unwrap();
        assert!(value.get(name).is_some(), "{place}: no {name} in {value}");
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        if let Some(schema) = schema["properties"].get(name) {
            check(document, schema, value, &format!("{place}.{name}"));
        }
    }
    for value in value.as_array().into_iter().flatten() {
        check(document, &schema["items"], value, &format!("{place}[]"));
    }
}

/// The schema of an operation's good answer, and its status.
fn answer(operation: &Value) -> (u16, &Value) {
    let responses = operation["responses"].as_object().unwrap();
    let (status, response) = responses.iter().next().unwrap();
    (
        status.parse().unwrap(),
        &response["content"]["application/json"]["schema"],
    )
}

#[test]
fn answers_are_as_the_document_says() {
    let document = document();
    let keys = [key("pk_live_a", &["**"], ALL_ACTIONS), signer("sk_id_a")];
    let setup = Setup::new(1).no_apps();
    let settings = "feed = { presence = true }\nhistory = [{ pattern = \"**\" }]";
    let server = setup.app(&format!("app_a\n{settings}"), &keys).start();
    let admin = server.admin();
    let base = "/api/internal/v1";
    let mut alice = server.peer("alice");
    alice.subscribe("room");
    // What is asked for below by a name is asked for by hers.
    alice.publish("alice", json!({"text": "hi"}));
    alice.close(Some(1000));
    // Whatever needs a parameter is asked for alice: as a channel, too.
    let mut bob = server.peer("bob");
    bob.subscribe("alice");
    let post = |path: &str, body: &Value| {
        let operation = &document["paths"][format!("{base}/{path}")]["post"];
        let target = path
            .replace("{appId}", "shop")
            .replace("{keyId}", "sk_id_a");
        let answered = admin.call("POST", &format!("{base}/{target}"), Some(body));
        let (status, schema) = answer(operation);
        assert_eq!(answered.status, status, "{path}: {answered:?}");
        check(&document, schema, &answered.json(), path);
        answered.json()
    };
    let example = |path: &str| {
        let operation = &document["paths"][format!("{base}/{path}")]["post"];
        operation["requestBody"]["content"]["application/json"]["example"].clone()
    };
    let mut app = example("apps");
    app["appId"] = "shop".into();
    post("apps", &app);
    post("apps/{appId}/keys", &example("apps/{appId}/keys"));
    let token = post(
        "signalling/keys/{keyId}/tokens",
        &example("signalling/keys/{keyId}/tokens"),
    );
    post("tokens/inspect", &json!({"token": token["token"]}));
    post("tokens/inspect", &example("tokens/inspect"));
    let code = post("session/code", &json!({}));
    post("session", &json!({"code": code["code"]}));
    post("trace", &json!({"app": "app_a", "peer": "alice"}));

    let mut asked = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let Some(operation) = methods.get("get") else {
            continue;
        };
        let target = path
            .replace("{appId}", "app_a")
            .replace("{keyId}", "sk_id_a");
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let needed = parameters.filter(|it| it["in"] == "query" && it["required"] == true);
        let pairs: Vec<_> = needed
            .map(|it| format!("{}=alice", it["name"].as_str().unwrap()))
            .collect();
        let query = if pairs.is_empty() { "" } else { "?" };
        let answered = admin.call("GET", &format!("{target}{query}{}", pairs.join("&")), None);
        let (status, schema) = answer(operation);
        assert_eq!(answered.status, status, "{path}: {answered:?}");
        if !schema.is_null() {
            check(&document, schema, &answered.json(), path);
        }
        asked += 1;
    }
    assert!(asked >= 20, "{asked}");
}
