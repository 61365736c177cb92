//! What was typed: the commands of the `ringmesh` executable and their arguments.
//!
//! Parsing stops at the arguments themselves. What they mean together with a file and the
//! environment is `config`'s to say; what they set off is `main`'s. Bad usage is one line that
//! names cause and remedy, never a page of help.

pub(crate) mod address;
mod app;
mod apps;
mod arguments;
mod client;
mod common;
pub(crate) mod connections;
pub(crate) mod context;
mod contexts;
mod duration;
mod event_line;
pub(crate) mod events;
mod failure;
mod find;
mod findings;
pub(crate) mod generate;
mod help;
pub(crate) mod history;
mod history_page;
mod history_rule;
mod key;
mod live;
mod numbers;
mod one_line;
pub(crate) mod operate;
mod printable;
pub(crate) mod pub_sub;
mod roots;
mod session;
mod setup;
pub(crate) mod sign_in;
pub(crate) mod stats;
mod table;
mod terminal;
pub(crate) mod token;
pub(crate) mod tokens;
mod untrusted;
pub(crate) mod version;
mod watch;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

pub(crate) use client::env_file;
pub(crate) use common::Common;
pub(crate) use event_line::event_lines;
pub(crate) use failure::Failure;
pub(crate) use findings::{Findings, Level};
pub(crate) use live::{backup_of_server, live_settings};
pub(crate) use session::Session;
pub(crate) use setup::{BackupArgs, CheckFileArgs, DoctorArgs, InitArgs, RestoreArgs};
pub(crate) use terminal::{print, print_adapted, printable};
pub(crate) use token::TokenCommand;

use app::AppCommand;
use arguments::{ConfigCommand, EventsArgs, KickArgs, OpenapiArgs, StatsArgs, TraceArgs, WhyArgs};
use connections::ConnectionsArgs;
use context::ContextCommand;
use generate::{CompletionsArgs, ManArgs};
use history::HistoryArgs;
use key::KeyCommand;
use pub_sub::{PubArgs, SubArgs};
use sign_in::ConsoleArgs;

use crate::config::DevOptions;

/// A realtime messaging server: channels, presence and direct messages over WebSocket.
#[derive(Parser)]
#[command(
    name = "ringmesh",
    version,
    arg_required_else_help = false,
    after_help = "Examples:\n  ringmesh dev\n  ringmesh help app create"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: CliCommand,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// The commands.
#[derive(Subcommand)]
pub enum CliCommand {
    /// Run a working server with one command, for trying out and developing.
    #[command(after_help = "Examples:\n  ringmesh dev\n  ringmesh dev --listen 8000 --shards 2")]
    Dev(DevArgs),
    /// Run the server as a configuration file says.
    #[command(after_help = "Examples:\n  ringmesh serve\n  \
                      RINGMESH_LOG__FORMAT=json ringmesh serve --config ringmesh.toml")]
    Serve(ServeArgs),
    /// Make a configuration, a store, and an app with its first keys.
    #[command(after_help = "Examples:\n  ringmesh init\n  \
                      ringmesh init --system --domain rt.example.com --app app_shop")]
    Init(InitArgs),
    /// Find everything that is wrong with a configuration.
    #[command(after_help = "Examples:\n  ringmesh check\n  ringmesh check r.toml --strict")]
    Check(CheckFileArgs),
    /// Find what of this host is not good for a server, and say how large one it carries.
    #[command(after_help = "Examples:\n  ringmesh doctor\n  \
                      ringmesh doctor --connections 100000 --tls --rate 200 --fan-out 500")]
    Doctor(DoctorArgs),
    /// Create, show and change apps.
    #[command(
        subcommand,
        arg_required_else_help = false,
        after_help = "Examples:\n  ringmesh app create app_shop\n  ringmesh app list"
    )]
    App(AppCommand),
    /// Create, show, change, rotate and revoke keys.
    #[command(
        subcommand,
        arg_required_else_help = false,
        after_help = "Examples:\n  ringmesh key create --type publishable\n  ringmesh key list"
    )]
    Key(KeyCommand),
    /// Connect tokens.
    #[command(
        subcommand,
        arg_required_else_help = false,
        after_help = "Examples:\n  ringmesh token mint alice\n  ringmesh token check - < token"
    )]
    Token(TokenCommand),
    /// Publish to a channel.
    #[command(after_help = "Examples:\n  ringmesh pub room-42 'it works'\n  \
                      ringmesh pub room-42 --count 10 --as alice < data.json")]
    Pub(PubArgs),
    /// Show what is published to channels.
    #[command(after_help = "Examples:\n  ringmesh sub room-42\n  \
                      ringmesh sub room-42 news --presence --json")]
    Sub(SubArgs),
    /// Show who is connected now, or from where most connections come.
    #[command(after_help = "Examples:\n  ringmesh connections --by address\n  \
                      ringmesh connections --sort queue --limit 10")]
    Connections(ConnectionsArgs),
    /// Show what just happened to whom, and why.
    #[command(
        after_help = "Examples:\n  ringmesh events --kind closed,refused --since 1h\n  \
                      ringmesh events --peer alice --follow --json"
    )]
    Events(EventsArgs),
    /// Tell why a peer was disconnected or refused.
    #[command(after_help = "Examples:\n  ringmesh why alice\n  \
                      ringmesh why alice --app app_shop --since 10m")]
    Why(WhyArgs),
    /// Record what a peer or channel publishes and sends, for some minutes.
    #[command(after_help = "Examples:\n  ringmesh trace alice\n  \
                      ringmesh trace --channel room-42 --minutes 10")]
    Trace(TraceArgs),
    /// Show what a channel keeps of its publications, or forget it.
    #[command(
        after_help = "Examples:\n  ringmesh history room-42 --since 41 --json\n  \
                      ringmesh history room-42 --app app_shop --forget"
    )]
    History(HistoryArgs),
    /// Close all connections of a peer.
    #[command(
        after_help = "Examples:\n  ringmesh kick alice --app app_shop --yes\n  \
                      ringmesh kick alice --connection 2.1041.7"
    )]
    Kick(KickArgs),
    /// Show what a running server is doing.
    #[command(after_help = "Examples:\n  ringmesh stats --connections\n  ringmesh stats --watch 5")]
    Stats(StatsArgs),
    /// Show the configuration of a running server.
    #[command(
        subcommand,
        arg_required_else_help = false,
        after_help = "Examples:\n  ringmesh config show\n  ringmesh config show --origins"
    )]
    Config(ConfigCommand),
    /// Copy the apps and keys of a running server into a file, secrets encrypted.
    #[command(after_help = "Examples:\n  ringmesh backup ringmesh.backup\n  \
                      ringmesh -C shop backup shop.backup --with-master-key")]
    Backup(BackupArgs),
    /// Make a store of a backup, or check one.
    #[command(
        after_help = "Examples:\n  ringmesh restore ringmesh.backup --check\n  \
                      ringmesh restore ringmesh.backup --data-dir ./ringmesh-data"
    )]
    Restore(RestoreArgs),
    /// Have a running server read its configuration again.
    #[command(after_help = "Examples:\n  ringmesh reload\n  ringmesh reload --json")]
    Reload,
    /// Have a running server hand over to a new process: another binary, another configuration.
    ///
    /// No connection is closed. The command waits for the end: if the new process cannot take over,
    /// the old one serves on, and the exit status is 1.
    #[command(after_help = "Examples:\n  ringmesh upgrade\n  ringmesh upgrade --json")]
    Upgrade,
    /// Open the console of a running server in a browser, signed in.
    #[command(after_help = "Examples:\n  ringmesh console\n  ringmesh -C shop console --print")]
    Console(ConsoleArgs),
    /// Servers that have a name.
    #[command(
        subcommand,
        arg_required_else_help = false,
        after_help = "Examples:\n  ringmesh context use shop\n  ringmesh -C shop app list"
    )]
    Context(ContextCommand),
    /// Print the OpenAPI document of the REST API, or of the admin API.
    #[command(after_help = "Examples:\n  ringmesh openapi > openapi.json\n  \
                      ringmesh openapi --admin | jq .paths")]
    Openapi(OpenapiArgs),
    /// Print a script that completes commands in a shell.
    #[command(after_help = "Examples:\n  ringmesh completions bash > \
                      /etc/bash_completion.d/ringmesh\n  ringmesh completions zsh > _ringmesh")]
    Completions(CompletionsArgs),
    /// Print the manual page of a command.
    #[command(after_help = "Examples:\n  ringmesh man app create | man -l -\n  \
                      ringmesh man --dir /usr/local/share/man/man1")]
    Man(ManArgs),
    /// Print the version, the commit and the target.
    #[command(after_help = "Examples:\n  ringmesh version\n  ringmesh version --json")]
    Version,
}

/// Arguments of `ringmesh dev`. Their values are checked with the configuration.
#[derive(Args)]
pub struct DevArgs {
    /// Address for clients and backends [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Address of the admin API and the metrics [default: 127.0.0.1:7464]
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<String>,
    /// Number of shards [default: one for each core]
    #[arg(long, value_name = "N")]
    pub shards: Option<String>,
    /// Directory of the store [default: ringmesh-data]
    #[arg(long, value_name = "DIRECTORY")]
    pub data_dir: Option<String>,
}

impl From<DevArgs> for DevOptions {
    fn from(args: DevArgs) -> Self {
        Self {
            listen: args.listen.map(address::in_full),
            admin: args.admin.map(address::in_full),
            shards: args.shards,
            data_dir: args.data_dir,
        }
    }
}

/// Arguments of `ringmesh serve`.
#[derive(Args)]
pub struct ServeArgs {
    /// The configuration, TOML [default: ./ringmesh.toml, or else
    /// /etc/ringmesh/ringmesh.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Why there is no command to carry out.
#[derive(Debug)]
pub(crate) enum NoCommand {
    /// Help or the version was asked for: print it on standard output and exit with 0.
    Shown(String),
    /// Bad usage.
    BadUsage(Failure),
}

/// Returns the definition of the command line.
pub(crate) fn command() -> Command {
    help::in_order(Cli::command())
}

/// Reads the arguments; the first is the name of the executable.
///
/// # Errors
/// Help was asked for, or the arguments are wrong.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, NoCommand> {
    let args: Vec<_> = args.into_iter().collect();
    let mut command = command();
    if args.len() <= 1 {
        return Err(NoCommand::Shown(ansi(command.render_help())));
    }
    let matches = command.try_get_matches_from_mut(&args);
    let parsed = matches.and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            NoCommand::Shown(ansi(error.render()))
        }
        _ => NoCommand::BadUsage(Failure::usage(one_line::one_line(
            &error.render().to_string(),
            &typed_command(&command, &args),
        ))),
    })
}

/// A text with its colours; whoever prints it leaves them out where there are none.
fn ansi(text: clap::builder::StyledStr) -> String {
    text.ansi().to_string()
}

/// The command that was typed, as far as there is one: `ringmesh key create`.
fn typed_command(command: &Command, args: &[OsString]) -> String {
    let mut command = command;
    let mut path = command.get_name().to_owned();
    for word in args.iter().skip(1) {
        if let Some(inner) = command.find_subcommand(word) {
            path = format!("{path} {}", inner.get_name());
            command = inner;
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Cli, NoCommand> {
        parse(line.split_whitespace().map(OsString::from))
    }

    /// The line is bad usage, answered with exactly this text.
    fn check_refused(line: &str, expected: &str) {
        match parsed(line) {
            Err(NoCommand::BadUsage(failure)) => {
                assert_eq!(failure.to_string(), expected, "{line}");
                assert_eq!(failure.exit_code, 2);
            }
            Err(NoCommand::Shown(text)) => panic!("{line} showed {text}"),
            Ok(_) => panic!("{line} was taken"),
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_command_refuses_what_it_does_not_know_as_bad_usage() {
        fn check(command: &Command, path: &[String]) {
            for wrong in ["--no-such-option", "--json=maybe", "--color=loud"] {
                let line = path.iter().map(String::as_str).chain([wrong]);
                match parse(line.map(OsString::from)) {
                    Err(NoCommand::BadUsage(failure)) => assert_eq!(failure.exit_code, 2),
                    _ => panic!("{path:?} {wrong} was taken"),
                }
            }
            for inner in command
                .get_subcommands()
                .filter(|it| it.get_name() != "help")
            {
                check(inner, &[path, &[inner.get_name().to_owned()]].concat());
            }
        }
        check(&command(), &["ringmesh".to_owned()]);
    }

    #[test]
    fn dev_passes_its_arguments_on() {
        let line = "ringmesh dev --listen 127.0.0.1:0 --admin [::1]:1 --shards 2 --data-dir d";
        let Ok(Cli {
            command: CliCommand::Dev(args),
            ..
        }) = parsed(line)
        else {
            panic!("{line}")
        };
        let options = DevOptions {
            listen: Some("127.0.0.1:0".to_owned()),
            admin: Some("[::1]:1".to_owned()),
            shards: Some("2".to_owned()),
            data_dir: Some("d".to_owned()),
        };
        assert_eq!(DevOptions::from(args), options);
        let Ok(Cli {
            command: CliCommand::Dev(args),
            ..
        }) = parsed("ringmesh dev")
        else {
            panic!()
        };
        assert_eq!(DevOptions::from(args), DevOptions::default());
    }

    #[test]
    fn serve_takes_a_file() {
        for (line, expected) in [
            (
                "ringmesh serve --config r.toml",
                Some(PathBuf::from("r.toml")),
            ),
            ("ringmesh serve", None),
        ] {
            let Ok(Cli {
                command: CliCommand::Serve(args),
                ..
            }) = parsed(line)
            else {
                panic!("{line}")
            };
            assert_eq!(args.config, expected);
        }
    }

    #[test]
    fn bad_usage_is_one_line_with_a_suggestion() {
        check_refused(
            "ringmesh tokn",
            "unrecognized subcommand 'tokn'; a similar subcommand exists: 'token'; \
             see 'ringmesh --help'",
        );
        check_refused(
            "ringmesh dev --lisen 1",
            "unexpected argument '--lisen' found; a similar argument exists: '--listen'; \
             see 'ringmesh dev --help'",
        );
        check_refused(
            "ringmesh dev --listen",
            "a value is required for '--listen <ADDRESS>' but none was supplied; \
             see 'ringmesh dev --help'",
        );
        check_refused(
            "ringmesh key --json create --app a --type publik --channels c --actions send",
            "invalid value 'publik' for '--type <TYPE>'; [possible values: secret, publishable]; \
             a similar value exists: 'publishable'; see 'ringmesh key create --help'",
        );
        check_refused(
            "ringmesh key create --app a",
            "the following required arguments were not provided: --type <TYPE>; \
             see 'ringmesh key create --help'",
        );
        check_refused(
            "ringmesh app create --max-connections -1",
            "invalid value '-1' for '--max-connections <N>': expected a whole number from 0 to \
             18446744073709551615; see 'ringmesh app create --help'",
        );
        check_refused(
            "ringmesh app suspend --app=",
            "a value is required for '--app <ID>' but none was supplied; \
             see 'ringmesh app suspend --help'",
        );
        check_refused(
            "ringmesh token mint --key-id sk_id_a --sub a --expires 1y",
            "invalid value '1y' for '--expires <DURATION>': expected a duration such as 7d, 1h, \
             30m, 45s or 3600; see 'ringmesh token mint --help'",
        );
        check_refused(
            "ringmesh token",
            "'ringmesh token' requires a subcommand but one was not provided; \
             [subcommands: mint, check, help]; see 'ringmesh token --help'",
        );
        check_refused(
            "ringmesh dev --shards 1 --shards 2",
            "the argument '--shards <N>' cannot be used multiple times; see 'ringmesh dev --help'",
        );
    }

    #[track_caller]
    fn shown(line: &str) -> String {
        match parsed(line) {
            Err(NoCommand::Shown(text)) => anstream::adapter::strip_str(&text).to_string(),
            _ => panic!("{line}"),
        }
    }

    #[test]
    fn help_says_what_it_does_and_shows_examples() {
        for (line, does) in [
            ("ringmesh --help", "A realtime messaging server"),
            (
                "ringmesh dev --help",
                "Run a working server with one command",
            ),
            (
                "ringmesh serve --help",
                "Run the server as a configuration file says",
            ),
            ("ringmesh token mint --help", "Sign a connect token"),
            ("ringmesh help app create", "Create an app"),
        ] {
            let text = shown(line);
            assert!(text.starts_with(does), "{text}");
            let (_, examples) = text.split_once("Examples:\n").unwrap();
            assert_eq!(examples.trim_end().lines().count(), 2, "{text}");
        }
        let text = shown("ringmesh --version");
        let expected = format!("ringmesh {}", env!("CARGO_PKG_VERSION"));
        assert_eq!(text.trim_end(), expected);
    }

    #[test]
    fn nothing_typed_is_help() {
        let text = shown("ringmesh");
        assert_eq!(text, shown("ringmesh --help"));
        assert_eq!(text.trim_end(), shown("ringmesh help").trim_end());
        let places = ["\nRun:\n  dev ", "\nAct:\n  app ", "\nEverywhere:\n"];
        for place in places {
            assert!(text.contains(place), "{text}");
        }
    }
}
