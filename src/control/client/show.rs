//! Answers as people read them.

use serde_json::Value;

use super::command::AdminCommand;
use super::stats;

/// A command's answer as text that ends with a newline.
pub fn render(command: &AdminCommand, answer: &Value) -> String {
    match command {
        AdminCommand::ListApps => {
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
        AdminCommand::ListKeys(_) => {
            const COLUMNS: [&str; 5] = ["keyId", "type", "name", "channelPatterns", "actions"];
            const HEADS: [&str; 5] = ["KEY", "TYPE", "NAME", "PATTERNS", "ACTIONS"];
            table(&HEADS, &rows(&answer["keys"], &COLUMNS))
        }
        AdminCommand::Stats => stats::render(answer, None),
        AdminCommand::CreateKey(..) | AdminCommand::RotateKey(..)
            if answer.get("signingSecret").is_some() =>
        {
            fields(answer) + "\nThe secrets are not shown again.\n"
        }
        _ => fields(answer),
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

/// A value in one line. What a terminal would obey is taken out.
pub(super) fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(" "),
        value => value.to_string(),
    };
    text.chars()
        .map(|char| if char.is_control() { '\u{fffd}' } else { char })
        .collect()
}

/// Rows under their heads, each column as wide as its widest cell.
pub(super) fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let heads: Vec<_> = heads.iter().map(|head| (*head).to_owned()).collect();
    let lines = || {
        std::iter::once(&heads)
            .filter(|heads| !heads.is_empty())
            .chain(rows)
    };
    let mut widths = Vec::new();
    for line in lines() {
        widths.resize(widths.len().max(line.len()), 0);
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for line in lines() {
        let mut row = String::new();
        for (cell, &width) in line.iter().zip(&widths) {
            row += &format!("{cell:width$}  ");
        }
        text += row.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(command: &AdminCommand, answer: Value, expected: &str) {
        assert_eq!(render(command, &answer), expected);
    }

    #[test]
    fn lists_are_tables() {
        let plan = json!({"maxConcurrentConnections": 5, "maxMessagesPerPeriod": null});
        let apps = json!([
            {"appId": "a", "name": "Shop of Ä", "status": "active", "plan": plan},
            {"appId": "longer", "name": "", "status": "suspended", "plan": plan},
        ]);
        check(
            &AdminCommand::ListApps,
            json!({ "apps": apps }),
            "APP     NAME       STATUS     MAX CONNECTIONS  MAX MESSAGES\n\
             a       Shop of Ä  active     5                -\n\
             longer             suspended  5                -\n",
        );
        let keys = json!({"keys": [{"keyId": "k", "type": "secret", "name": "n",
            "channelPatterns": ["a/*", "b"], "actions": ["send"]}]});
        check(
            &AdminCommand::ListKeys("a".into()),
            keys,
            "KEY  TYPE    NAME  PATTERNS  ACTIONS\nk    secret  n     a/* b     send\n",
        );
    }

    #[test]
    fn objects_are_lines_with_paths() {
        check(
            &AdminCommand::ShowApp("a".into()),
            json!({"appId": "a", "plan": {"name": null, "overagesAllowed": false}}),
            "appId                 a\nplan.name             -\nplan.overagesAllowed  false\n",
        );
    }

    #[test]
    fn new_secrets_come_with_a_warning() {
        let answer = json!({"keyId": "k", "signingSecret": "s"});
        check(
            &AdminCommand::RotateKey("k".into(), None),
            answer.clone(),
            "keyId          k\nsigningSecret  s\n\nThe secrets are not shown again.\n",
        );
    }

    #[test]
    fn a_terminal_is_told_nothing() {
        check(
            &AdminCommand::ShowApp("a".into()),
            json!({"name": "\u{1b}[2J"}),
            "name  \u{fffd}[2J\n",
        );
    }
}
