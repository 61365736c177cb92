//! Help: commands in groups, arguments in order, and text on a terminal in colour.

use clap::Command;

/// The commands by what they are for. A test compares them with those that there are.
const GROUPS: &[(&str, &[&str])] = &[
    ("Run", &["dev", "serve"]),
    (
        "Look",
        &[
            "stats",
            "connections",
            "events",
            "why",
            "trace",
            "history",
            "console",
        ],
    ),
    (
        "Act",
        &[
            "app", "key", "token", "pub", "sub", "kick", "reload", "upgrade", "backup", "restore",
        ],
    ),
    (
        "Set up",
        &[
            "init",
            "check",
            "doctor",
            "context",
            "config",
            "completions",
            "man",
            "openapi",
            "help",
            "version",
        ],
    ),
];

/// Returns the definition of the command line with its help in order.
pub(super) fn in_order(definition: Command) -> Command {
    let mut command = sorted(definition);
    command.build();
    let list = listed(&command);
    let heading = *command.get_styles().get_header();
    command.help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{list}\n\
         {heading}Everywhere:{heading:#}\n{{options}}{{after-help}}"
    ))
}

/// Puts arguments into the order of their names.
fn sorted(command: Command) -> Command {
    command
        .mut_args(|argument| {
            if argument.is_positional() {
                argument
            } else {
                argument.display_order(0)
            }
        })
        .mut_subcommands(sorted)
}

fn listed(command: &Command) -> String {
    let names = GROUPS.iter().flat_map(|(_, names)| *names);
    let width = names.map(|name| name.len()).max().unwrap_or_default();
    let heading = command.get_styles().get_header();
    let literal = command.get_styles().get_literal();
    let mut text = String::new();
    for (group, names) in GROUPS {
        text += &format!("{heading}{group}:{heading:#}\n");
        for name in *names {
            let found = command.find_subcommand(name);
            let about = found.and_then(Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            let about = about.trim_end_matches('.');
            text += &format!("  {literal}{name:width$}{literal:#}  {about}\n");
        }
        text.push('\n');
    }
    text.trim_end().to_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::command as definition;

    #[test]
    fn every_command_is_in_one_group() {
        let command = definition();
        let visible = command.get_subcommands().filter(|it| !it.is_hide_set());
        let mut names: Vec<_> = visible.map(Command::get_name).collect();
        let mut grouped: Vec<_> = GROUPS.iter().flat_map(|(_, names)| *names).collect();
        names.sort_unstable();
        grouped.sort_unstable();
        assert_eq!(names, grouped.into_iter().copied().collect::<Vec<_>>());
    }

    #[test]
    fn every_command_has_two_examples() {
        fn check(command: &Command) {
            for inner in command.get_subcommands() {
                if inner.get_name() == "help" {
                    continue;
                }
                let after = inner.get_after_help().map(ToString::to_string);
                let after = after.unwrap_or_default();
                let examples = after.strip_prefix("Examples:\n").unwrap_or_default();
                let lines: Vec<_> = examples.lines().collect();
                assert_eq!(lines.len(), 2, "{}: {after:?}", inner.get_name());
                for line in lines {
                    let is_one = line.starts_with("  ") && line.contains("ringmesh ");
                    assert!(is_one && line.len() <= 100, "{line}");
                }
                check(inner);
            }
        }
        check(&definition());
    }

    /// The words of a line, as a shell takes single quotes.
    fn words(line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        for (at, part) in line.trim().split('\'').enumerate() {
            let is_quoted = at % 2 == 1;
            for char in part.chars() {
                if char == ' ' && !is_quoted {
                    words.push(String::new());
                } else if let Some(word) = words.last_mut() {
                    word.push(char);
                }
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }

    #[test]
    fn every_example_can_be_typed() {
        fn check(command: &Command) {
            for inner in command.get_subcommands() {
                let after = inner.get_after_help().map(ToString::to_string);
                let after = after.unwrap_or_default();
                for line in after.lines().skip(1) {
                    let (_, line) = line.split_once("ringmesh ").unwrap();
                    let line = line.split(['|', '>', '<']).next().unwrap();
                    let words = std::iter::once("ringmesh".to_owned()).chain(words(line));
                    let parsed = definition().try_get_matches_from(words);
                    assert!(parsed.is_ok(), "{line}: {}", parsed.err().unwrap());
                }
                check(inner);
            }
        }
        check(&definition());
    }
}
