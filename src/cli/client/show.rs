//! The server's JSON as text for people.

use serde_json::Value;

use super::request::{Answer, Request};
use super::table::{cell, table};

/// The answer to a request as people read it: text that ends with a newline.
#[must_use]
pub fn render(request: &Request, answer: &Value) -> String {
    shown(request.answer, answer)
}

fn shown(what: Answer, answer: &Value) -> String {
    match what {
        Answer::Apps => {
            const COLUMNS: [&str; 5] = [
                "appId",
                "name",
                "status",
                "plan.maxConcurrentConnections",
                "plan.maxMessagesPerPeriod",
            ];
            const HEADS: [&str; 5] = ["APP", "NAME", "STATUS", "MAX CONNECTIONS", "MAX MESSAGES"];
            table(&HEADS, &rows(&answer["apps"], &COLUMNS))
        }
        Answer::Keys => {
            const COLUMNS: [&str; 5] = ["keyId", "type", "name", "channelPatterns", "actions"];
            const HEADS: [&str; 5] = ["KEY", "TYPE", "NAME", "PATTERNS", "ACTIONS"];
            table(&HEADS, &rows(&answer["keys"], &COLUMNS))
        }
        Answer::Object if answer.get("signingSecret").is_some() => {
            fields(answer) + "\nThe secrets are not shown again.\n"
        }
        Answer::Object => fields(answer),
    }
}

/// One line for each field, those of inner objects with their path.
fn fields(answer: &Value) -> String {
    let mut lines = Vec::new();
    push_fields("", answer, &mut lines);
    table(&[], &lines)
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
        value => lines.push(vec![path.to_owned(), cell(value)]),
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
        assert_eq!(shown(what, &answer), expected);
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
             a       Shop of Ä  active     5                -\n\
             longer             suspended  5                -\n",
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
    fn new_secrets_come_with_a_warning() {
        let answer = json!({"keyId": "k", "signingSecret": "s"});
        check(
            Answer::Object,
            answer,
            "keyId          k\nsigningSecret  s\n\nThe secrets are not shown again.\n",
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
