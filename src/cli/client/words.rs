//! The server's words in those of the command line: it names the fields of a body, and whoever
//! typed a command has seen its arguments only.

/// Fields of the admin API, and the arguments that set them.
const ARGUMENTS: [(&str, &str); 42] = [
    ("appId", "APP"),
    ("name", "--name"),
    ("status", "--status"),
    ("directScope", "--direct-scope"),
    ("plan.name", "--plan-name"),
    ("plan.maxConcurrentConnections", "--max-connections"),
    ("plan.maxMessagesPerPeriod", "--max-messages"),
    ("plan.overagesAllowed", "--overages-allowed"),
    ("plan.overagesEnabled", "--overages-enabled"),
    ("plan.periodStartUnix", "--period-start"),
    ("plan.periodDays", "--period-days"),
    ("limits.messageRate", "--message-rate"),
    ("limits.messageBurst", "--message-burst"),
    ("feed.presence", "--feed-presence"),
    ("feed.peers", "--feed-peers"),
    ("turn.urls", "--turn-urls"),
    ("turn.ttlSec", "--turn-ttl"),
    ("turn.secret", "--turn-secret-file"),
    ("channelPatterns", "--channels"),
    ("actions", "--actions"),
    ("allowedOrigins", "--origins"),
    ("history", "--history"),
    ("autoInjectTurn", "--auto-inject-turn"),
    ("graceSeconds", "--grace"),
    ("expiresInSec", "--expires"),
    ("channels", "--channels"),
    ("permissions", "--permissions"),
    ("app", "--app"),
    ("id", "PEER"),
    ("peer", "--peer"),
    ("connection", "--connection"),
    ("channel", "--channel"),
    ("address", "--address"),
    ("kind", "--kind"),
    ("cause", "--cause"),
    ("code", "--code"),
    ("since", "--since"),
    ("until", "--until"),
    ("limit", "--limit"),
    ("order", "--order"),
    ("after", "--after"),
    ("before", "--before"),
];

/// Returns the server's message with the argument in place of the field that it begins with:
/// `channelPatterns[1]: …` becomes `--channels, item 2: …`, and `history[1].bytes: …`
/// `--history, item 2, bytes: …`.
pub(super) fn in_arguments(message: &str) -> String {
    let Some((place, rule)) = message.split_once(": ") else {
        return message.to_owned();
    };
    let in_list = place.split_once('[');
    let in_list = in_list.and_then(|(field, item)| Some((field, item.split_once(']')?)));
    let (field, index, inner) = match in_list {
        Some((field, (index, inner))) => (field, index.parse::<usize>().ok(), inner),
        None => (place, None, ""),
    };
    let inner = match inner.strip_prefix('.') {
        Some("ttlSec") => ", ttl".to_owned(),
        Some(inner) => format!(", {inner}"),
        None => String::new(),
    };
    let argument = ARGUMENTS.iter().find(|(known, _)| *known == field);
    match (argument, index) {
        (None, _) => message.to_owned(),
        (Some((_, argument)), None) => format!("{argument}: {rule}"),
        (Some((_, argument)), Some(index)) => {
            format!("{argument}, item {}{inner}: {rule}", index + 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn fields_become_arguments() {
        for (message, expected) in [
            ("channelPatterns: is required", "--channels: is required"),
            (
                "allowedOrigins[0]: an origin begins with a scheme",
                "--origins, item 1: an origin begins with a scheme",
            ),
            (
                "plan.periodDays: must be 1 to 3660",
                "--period-days: must be 1 to 3660",
            ),
            (
                "history[1].ttlSec: must be 1 to 31536000",
                "--history, item 2, ttl: must be 1 to 31536000",
            ),
            (
                "turn.secret: is required",
                "--turn-secret-file: is required",
            ),
            ("there is no app \"name: x\"", "there is no app \"name: x\""),
            (
                "the store is full: free space",
                "the store is full: free space",
            ),
            ("no field", "no field"),
        ] {
            assert_eq!(in_arguments(message), expected);
        }
    }

    #[test]
    fn the_arguments_are_those_of_the_commands() {
        fn longs(command: &clap::Command, found: &mut Vec<String>) {
            let own = command.get_arguments().filter_map(clap::Arg::get_long);
            found.extend(own.map(|long| format!("--{long}")));
            let values = command
                .get_positionals()
                .flat_map(clap::Arg::get_value_names);
            found.extend(values.flatten().map(ToString::to_string));
            for inner in command.get_subcommands() {
                longs(inner, found);
            }
        }
        let mut found = Vec::new();
        longs(&Cli::command(), &mut found);
        for (field, argument) in ARGUMENTS {
            assert!(found.iter().any(|it| it == argument), "{field}: {argument}");
        }
    }
}
