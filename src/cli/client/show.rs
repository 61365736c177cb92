//! The server's JSON as text for people, and as variables for backends.

use serde_json::Value;

use super::request::{Answer, Request};
use crate::cli::history_rule;
use crate::cli::table::{Column, Table, cell};
use crate::cli::terminal::{Terminal, printable};

/// The answer to a request as people read it: text that ends with a newline.
#[must_use]
pub(crate) fn render(request: &Request, answer: &Value, terminal: &Terminal) -> String {
    shown(request.answer, answer, terminal)
}

fn shown(what: Answer, answer: &Value, terminal: &Terminal) -> String {
    match what {
        Answer::Apps => {
            const FIELDS: [&str; 5] = [
                "appId",
                "name",
                "status",
                "plan.maxConcurrentConnections",
                "plan.maxMessagesPerPeriod",
            ];
            let columns = [
                Column::id("APP"),
                Column::text("NAME"),
                Column::text("STATUS"),
                Column::number("MAX CONNECTIONS"),
                Column::number("MAX MESSAGES"),
            ];
            Table::new(columns, rows(&answer["apps"], &FIELDS)).render(terminal)
        }
        Answer::Keys => {
            const FIELDS: [&str; 5] = ["keyId", "type", "name", "channelPatterns", "actions"];
            let columns = [
                Column::id("KEY"),
                Column::text("TYPE"),
                Column::text("NAME"),
                Column::text("PATTERNS"),
                Column::text("ACTIONS"),
            ];
            Table::new(columns, rows(&answer["keys"], &FIELDS)).render(terminal)
        }
        Answer::Object if answer.get("signingSecret").is_some() => {
            fields(answer, terminal) + "\nThe secrets are not shown again.\n"
        }
        Answer::Object => fields(answer, terminal),
    }
}

/// A key as a file of variables, which `ringmesh token mint` and the load harness read too.
#[must_use]
pub(crate) fn env_file(key: &Value) -> String {
    const VARIABLES: [(&str, &str); 4] = [
        ("RINGMESH_APP_ID", "appId"),
        ("RINGMESH_KEY_ID", "keyId"),
        ("RINGMESH_SECRET", "signingSecret"),
        ("RINGMESH_API_SECRET", "apiSecret"),
    ];
    let publishable = key["type"] == "publishable";
    let lines = VARIABLES.iter().filter_map(|(name, field)| {
        let name = match *field {
            "keyId" if publishable => "RINGMESH_KEY",
            _ => name,
        };
        Some(format!("{name}={}\n", printable(key[*field].as_str()?)))
    });
    lines.collect()
}

/// One line for each field, those of inner objects with their path.
fn fields(answer: &Value, terminal: &Terminal) -> String {
    let mut lines = Vec::new();
    push_fields("", answer, &mut lines);
    Table::fields(lines).render(terminal)
}

fn push_fields(path: &str, value: &Value, lines: &mut Vec<Vec<String>>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                push_fields(&path, value, lines);
            }
        }
        Value::Array(rules) if path == "history" => {
            let shown = rules.iter().map(history_rule::value_shown);
            let none = rules.is_empty().then(|| "-".to_owned());
            lines.extend(shown.chain(none).map(|it| vec![path.to_owned(), it]));
        }
        value => lines.push(vec![printable(path), cell(value)]),
    }
}

fn rows(list: &Value, columns: &[&str]) -> Vec<Vec<String>> {
    let objects = list.as_array().map_or(&[][..], Vec::as_slice);
    let at = |object: &Value, path: &str| {
        let found = path
            .split('.')
            .try_fold(object, |value, name| value.get(name));
        found.map_or(String::new(), cell)
    };
    objects
        .iter()
        .map(|object| columns.iter().map(|path| at(object, path)).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(what: Answer, answer: Value, expected: &str) {
        assert_eq!(shown(what, &answer, &Terminal::default()), expected);
    }

    #[test]
    fn lists_are_tables() {
        let plan = json!({"maxConcurrentConnections": 5, "maxMessagesPerPeriod": null});
        let apps = json!([
            {"appId": "a", "name": "Shop of Ä", "status": "active", "plan": plan},
            {"appId": "longer", "name": "", "status": "suspended", "plan": plan},
        ]);
        check(
            Answer::Apps,
            json!({ "apps": apps }),
            "APP     NAME       STATUS     MAX CONNECTIONS  MAX MESSAGES\n\
             a       Shop of Ä  active                   5             -\n\
             longer             suspended                5             -\n",
        );
        let keys = json!({"keys": [{"keyId": "k", "type": "secret", "name": "n",
            "channelPatterns": ["a/*", "b"], "actions": ["send"]}]});
        check(
            Answer::Keys,
            keys,
            "KEY  TYPE    NAME  PATTERNS  ACTIONS\nk    secret  n     a/* b     send\n",
        );
    }

    #[test]
    fn objects_are_lines_with_paths() {
        check(
            Answer::Object,
            json!({"appId": "a", "plan": {"name": null, "overagesAllowed": false}}),
            "appId                 a\nplan.name             -\nplan.overagesAllowed  false\n",
        );
    }

    #[test]
    fn rules_of_history_are_shown_as_they_are_typed() {
        check(
            Answer::Object,
            json!({"history": [
                {"pattern": "a/*", "messages": 5, "bytes": 2048, "ttlSec": 90, "store": "disk"},
                {"pattern": "*"},
            ]}),
            "history  a/*=messages:5,bytes:2KiB,ttl:90s,store:disk\n\
             history  *=messages:1000,bytes:1MiB,ttl:1h,store:memory\n",
        );
        check(Answer::Object, json!({"history": []}), "history  -\n");
    }

    #[test]
    fn new_secrets_come_with_a_warning() {
        let answer = json!({"keyId": "k", "signingSecret": "s"});
        check(
            Answer::Object,
            answer,
            "keyId          k\nsigningSecret  s\n\nThe secrets are not shown again.\n",
        );
    }

    #[test]
    fn keys_become_variables() {
        let key = json!({"appId": "a", "keyId": "k", "type": "secret", "signingSecret": "s",
            "apiSecret": "t"});
        let expected = "RINGMESH_APP_ID=a\nRINGMESH_KEY_ID=k\nRINGMESH_SECRET=s\n\
                        RINGMESH_API_SECRET=t\n";
        assert_eq!(env_file(&key), expected);
        let key = json!({"appId": "a", "keyId": "pk_live_k", "type": "publishable"});
        assert_eq!(
            env_file(&key),
            "RINGMESH_APP_ID=a\nRINGMESH_KEY=pk_live_k\n"
        );
    }

    #[test]
    fn a_terminal_is_told_nothing() {
        check(
            Answer::Object,
            json!({"name": "\u{1b}[2J"}),
            "name  \u{fffd}[2J\n",
        );
    }
}
