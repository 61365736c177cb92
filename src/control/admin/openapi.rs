//! The admin API as OpenAPI 3.1, for `ringmesh openapi --admin`.
//!
//! Which operations there are is read from the manual, whose every path the tests call: so the
//! document has what the manual has. What an operation takes and gives stands here.

mod looks;
mod operations;
mod schemas;

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use operations::{details, query};
use schemas::{MANUAL, example, reference, schemas};

const BASE: &str = "/api/internal/v1/";

/// What operations are grouped by, and how the paths of a group go on behind [`BASE`].
const TAGS: [(&str, &str, &[&str]); 5] = [
    ("apps", "Apps, their plans and their use.", &["apps"]),
    ("keys", "Keys and their secrets.", &["signalling"]),
    ("tokens", "Connect tokens, for a try.", &["tokens"]),
    (
        "events",
        "What just happened to whom, and why.",
        &["events", "why", "warnings", "trace"],
    ),
    (
        "server",
        "The process itself.",
        &["config", "reload", "upgrade", "stats", "node", "session"],
    ),
];

/// Answers that any operation with the token may get.
const ERRORS: [(&str, &str); 5] = [
    ("400", "A value is not allowed; the message names it."),
    ("401", "No admin token, or a wrong one."),
    (
        "403",
        "The credential may only read, or the request comes from another page.",
    ),
    ("421", "The `Host` is no name of this listener."),
    ("503", "It cannot be done now; with `Retry-After`."),
];

/// An operation of the manual: method, path and query, and what it does.
#[derive(Clone, Copy)]
struct Operation {
    method: &'static str,
    target: &'static str,
    does: &'static str,
}

/// What lists answer, of which a shard makes one at a time.
const LISTS: [&str; 6] = [
    "Channels",
    "Channel",
    "Members",
    "Connections",
    "Peers",
    "Peer",
];

static DOCUMENT: LazyLock<String> = LazyLock::new(|| build().to_string());

/// The document, as JSON.
#[must_use]
pub(crate) fn document() -> &'static str {
    &DOCUMENT
}

fn build() -> Value {
    let mut paths = Map::new();
    for operation in operations() {
        let path = operation.target.split('?').next().unwrap_or_default();
        let described = describe(&operation);
        let methods = paths.entry(path).or_insert_with(|| json!({}));
        methods[operation.method.to_ascii_lowercase()] = described;
    }
    let tags = TAGS.map(|(name, description, _)| json!({"name": name, "description": description}));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "ringmesh admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "For operators: apps, keys, events, and the process. It is on a \
                            listener of its own, admin.listen.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{
            "url": "http://127.0.0.1:7464",
            "description": "The default of admin.listen, on the machine of the server.",
        }],
        "tags": tags,
        "security": [{"adminToken": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "adminToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "What is in admin.token of the data directory.",
                },
            },
            "schemas": all_schemas(),
        },
    })
}

fn all_schemas() -> Value {
    let mut all = schemas();
    if let (Some(all), Value::Object(more)) = (all.as_object_mut(), looks::schemas()) {
        all.extend(more);
    }
    for (name, schema) in all.as_object_mut().into_iter().flatten() {
        schema["title"] = title(name).into();
    }
    all
}

/// `NewKey` as words.
fn title(name: &str) -> String {
    let mut title = String::new();
    for char in name.chars() {
        if char.is_ascii_uppercase() && !title.is_empty() {
            title.push(' ');
            title.push(char.to_ascii_lowercase());
        } else {
            title.push(char);
        }
    }
    title
}

/// The operations among the rows of the manual's table.
fn operations() -> impl Iterator<Item = Operation> {
    MANUAL.lines().filter_map(|line| {
        let (request, does) = line.strip_prefix("| `")?.split_once("` | ")?;
        let (method, target) = request.split_once(' ')?;
        let operation = Operation {
            method,
            target,
            does: does.trim_end_matches(" |"),
        };
        // Pages for browsers are no operations.
        let short = operation.short();
        let is_one = target.starts_with(BASE) || details().any(|it| it.at == short);
        is_one.then_some(operation)
    })
}

impl Operation {
    fn path(&self) -> &'static str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Whether it needs no credential.
    fn is_open(&self) -> bool {
        !self.path().starts_with(BASE)
    }

    /// As the rows of `operations` name it.
    fn short(&self) -> String {
        let path = self.path();
        format!(
            "{} {}",
            self.method,
            path.strip_prefix(BASE).unwrap_or(path)
        )
    }
}

fn describe(operation: &Operation) -> Value {
    let short = operation.short();
    let detail = details().find(|detail| detail.at == short);
    let detail = detail.as_ref();
    let (status, schema) = detail.map_or(("200", "Text"), |detail| detail.answer);
    let mut responses = Map::from_iter([(status.to_owned(), answer(schema))]);
    responses.extend(refusals(operation, &short));
    let mut described = json!({
        "operationId": detail.map_or(short.as_str(), |detail| detail.id),
        "summary": detail.map_or(short.as_str(), |detail| detail.summary),
        "description": without_links(operation.does),
        "tags": [tag(operation)],
        "responses": responses,
    });
    let parameters = parameters(operation, &short);
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    if let Some(body) = detail.and_then(|detail| detail.body) {
        described["requestBody"] = json!({
            "required": true,
            "content": {"application/json": {
                "schema": reference(body),
                "example": example(body),
            }},
        });
    }
    if (operation.is_open() && operation.path() != "/metrics") || short == "POST session" {
        described["security"] = json!([]);
    }
    described
}

/// What else may be answered.
fn refusals(operation: &Operation, short: &str) -> Vec<(String, Value)> {
    let path = operation.path();
    let mut refusals = Vec::new();
    if operation.is_open() {
        refusals.extend([error("400", "This is no request that HTTP/1.1 knows.")]);
    }
    if path == "/metrics" {
        refusals.extend([
            error(
                "401",
                "`admin.protect_metrics` is on, and no admin token was shown.",
            ),
            error("421", "The `Host` is no name of this listener."),
        ]);
    }
    if operation.is_open() {
        return refusals;
    }
    refusals.extend(ERRORS.iter().map(|(status, text)| error(status, text)));
    if path.contains('{') || path.ends_with("/why") || path.ends_with("/trace") {
        refusals.extend([error("404", "There is no such app or key.")]);
    }
    if matches!(operation.method, "POST" | "PATCH" | "DELETE") {
        refusals.extend([
            error(
                "409",
                "The id is taken, or the configuration file declares the app.",
            ),
            error("415", "The body is not JSON."),
        ]);
    }
    if path.ends_with("/feed") {
        refusals.extend([
            error("403", "The key lacks the action `presence`."),
            error("409", "The app has no feed."),
            error(
                "410",
                "The cursor has expired: list again, and go on from `cursor`.",
            ),
            error("429", "As many readers follow as may."),
        ]);
    }
    if short == "GET apps/{appId}/channel/history" {
        refusals.extend([
            error("403", "The credential may not read what clients publish."),
            error("404", "There is no such app, or the channel keeps nothing."),
            error("410", "What follows `since` is not kept any more."),
        ]);
    }
    if short == "GET events" || short == "GET why" {
        refusals.extend([error("429", "Other readings are under way.")]);
    }
    if details().any(|it| it.at == short && LISTS.contains(&it.answer.1)) {
        refusals.extend([error("429", "Other lists are being made.")]);
    }
    if short == "POST session" {
        refusals.extend([error(
            "429",
            "The address has signed in ten times in a minute.",
        )]);
    }
    refusals
}

fn answer(schema: &str) -> Value {
    let content = match schema {
        "Text" => json!({"text/plain": {"schema": {"type": "string"}}}),
        "Backup" => json!({"application/x-ndjson": {"schema": {"type": "string"}}}),
        "Events" => json!({
            "application/json": {
                "schema": reference(schema), "example": example(schema),
            },
            "text/event-stream": {"schema": {"type": "string"}},
        }),
        "Feed" => json!({
            "application/json": {"schema": reference(schema)},
            "text/event-stream": {"schema": {"type": "string"}},
        }),
        schema => json!({"application/json": {"schema": reference(schema)}}),
    };
    json!({"description": "Done.", "content": content})
}

fn error(status: &str, text: &str) -> (String, Value) {
    let content = json!({"application/json": {"schema": reference("Error")}});
    (
        status.to_owned(),
        json!({"description": text, "content": content}),
    )
}

/// Those of the path, which the braces name, and those of the query.
fn parameters(operation: &Operation, short: &str) -> Vec<Value> {
    let in_path = operation.path().split('{').skip(1);
    let in_path = in_path.filter_map(|part| part.split('}').next());
    let of_path = in_path.map(|name| {
        let what = match name {
            "appId" => "The id of the app.",
            _ => "The id of the key.",
        };
        json!({
            "name": name, "in": "path", "required": true, "schema": {"type": "string"},
            "description": what,
        })
    });
    of_path.chain(query(short)).collect()
}

/// A row of the manual without its links, which lead nowhere from here.
fn without_links(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('[') {
        plain += before;
        let link = after.split_once("](").and_then(|(shown, after)| {
            let (_, behind) = after.split_once(')')?;
            (!shown.contains(['[', '`'])).then_some((shown, behind))
        });
        match link {
            Some((shown, behind)) => {
                plain += shown;
                rest = behind;
            }
            None => {
                plain.push('[');
                rest = after;
            }
        }
    }
    plain + rest
}

fn tag(operation: &Operation) -> &'static str {
    let rest = operation.path().strip_prefix(BASE).unwrap_or_default();
    let first = rest.split('/').next().unwrap_or_default();
    let mut tags = TAGS.iter();
    tags.find(|(_, _, begin)| begin.contains(&first))
        .map_or("server", |(name, ..)| name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::operations::queries;
    use super::*;

    #[test]
    fn the_manual_has_every_operation_that_is_described_here() {
        let all: BTreeSet<_> = operations().map(|it| it.short()).collect();
        assert!(all.len() > 20, "{all:?}");
        for at in details().map(|it| it.at).chain(queries().map(|it| it.0)) {
            assert!(all.contains(at), "{at}");
        }
        // And a row for each.
        assert_eq!(details().count(), all.len());
    }

    #[test]
    fn the_document_is_consistent() {
        let document: Value = serde_json::from_str(document()).unwrap();
        let schemas = &document["components"]["schemas"];
        let mut ids = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let id = operation["operationId"].as_str().unwrap();
                assert!(ids.insert(id), "{id} twice");
                let parameters = operation["parameters"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                let in_path = parameters.iter().filter(|it| it["in"] == "path").count();
                assert_eq!(in_path, path.matches('{').count(), "{method} {path}");
            }
        }
        let text = document.to_string();
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(schemas.get(name).is_some(), "{name}");
        }
        for body in details().filter_map(|it| it.body) {
            assert!(example(body).is_object(), "{body} has no example");
        }
        for (name, schema) in schemas.as_object().unwrap() {
            assert!(schema["title"].is_string(), "{name} has no title");
        }
        assert!(!text.contains("](#"), "a link of the manual");
    }

    #[test]
    fn links_become_their_text() {
        let text = "one, [as others](#others): `{\"a\":[…]}` and [more](x.md)";
        let plain = "one, as others: `{\"a\":[…]}` and more";
        assert_eq!(without_links(text), plain);
    }
}
