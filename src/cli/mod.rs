//! What was typed: the commands of the `ringmesh` executable and their arguments.
//!
//! Parsing stops at the arguments themselves. What they mean together with a file and the
//! environment is `config`'s to say; what they set off is `main`'s. Bad usage is one line that
//! names cause and remedy, never a page of help.

pub mod admin;
mod client;
mod duration;
mod failure;
mod one_line;
pub mod operate;
pub mod token;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

pub use failure::Failure;
pub use token::TokenCommand;

use crate::config::DevOptions;

/// A realtime messaging server: channels, presence and direct messages over WebSocket.
#[derive(Parser)]
#[command(
    name = "ringmesh",
    version,
    arg_required_else_help = false,
    disable_help_subcommand = true,
    after_help = "Example:\n  ringmesh dev"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: CliCommand,
}

/// The commands.
#[derive(Subcommand)]
pub enum CliCommand {
    /// Run a working server with one command, for trying out and developing.
    #[command(after_help = "Example:\n  ringmesh dev --listen 127.0.0.1:8000 --shards 2")]
    Dev(DevArgs),
    /// Run the server as a configuration file says.
    #[command(after_help = "Example:\n  ringmesh serve --config /etc/ringmesh.toml")]
    Serve(ServeArgs),
    /// Connect tokens.
    #[command(subcommand, arg_required_else_help = false)]
    Token(TokenCommand),
    /// Commands for operators.
    #[command(flatten)]
    Operate(admin::OperatorCommand),
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
            listen: args.listen,
            admin: args.admin,
            shards: args.shards,
            data_dir: args.data_dir,
        }
    }
}

/// Arguments of `ringmesh serve`.
#[derive(Args)]
pub struct ServeArgs {
    /// The configuration, TOML
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// Why there is no command to carry out.
#[derive(Debug)]
pub enum NoCommand {
    /// Help or the version was asked for: print it on standard output and exit with 0.
    Shown(String),
    /// Bad usage.
    BadUsage(Failure),
}

/// Reads the arguments; the first is the name of the executable.
///
/// # Errors
/// Help was asked for, or the arguments are wrong.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, NoCommand> {
    Cli::try_parse_from(args).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            NoCommand::Shown(error.render().to_string())
        }
        _ => NoCommand::BadUsage(Failure::usage(one_line::one_line(
            &error.render().to_string(),
        ))),
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

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
        Cli::command().debug_assert();
    }

    #[test]
    fn dev_passes_its_arguments_on() {
        let line = "ringmesh dev --listen 127.0.0.1:0 --admin [::1]:1 --shards 2 --data-dir d";
        let Ok(Cli {
            command: CliCommand::Dev(args),
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
        }) = parsed("ringmesh dev")
        else {
            panic!()
        };
        assert_eq!(DevOptions::from(args), DevOptions::default());
    }

    #[test]
    fn serve_needs_a_file() {
        let Ok(Cli {
            command: CliCommand::Serve(args),
        }) = parsed("ringmesh serve --config r.toml")
        else {
            panic!()
        };
        assert_eq!(args.config, PathBuf::from("r.toml"));
        check_refused(
            "ringmesh serve",
            "the following required arguments were not provided: --config <FILE>; \
             see 'ringmesh serve --help'",
        );
    }

    #[test]
    fn bad_usage_is_one_line_with_a_suggestion() {
        check_refused(
            "ringmesh",
            "'ringmesh' requires a subcommand but one was not provided; \
             [subcommands: dev, serve, token, app, key, stats, openapi]; see 'ringmesh --help'",
        );
        check_refused(
            "ringmesh sevre",
            "unrecognized subcommand 'sevre'; a similar subcommand exists: 'serve'; \
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
             see 'ringmesh --help'",
        );
        check_refused(
            "ringmesh token",
            "'ringmesh token' requires a subcommand but one was not provided; \
             [subcommands: mint]; see 'ringmesh token --help'",
        );
        check_refused(
            "ringmesh dev --shards 1 --shards 2",
            "the argument '--shards <N>' cannot be used multiple times; see 'ringmesh dev --help'",
        );
    }

    #[test]
    fn help_says_what_it_does_and_shows_an_example() {
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
        ] {
            let Err(NoCommand::Shown(text)) = parsed(line) else {
                panic!("{line}")
            };
            assert!(text.starts_with(does), "{text}");
            let (_, example) = text.split_once("Example:\n").unwrap();
            assert!(example.contains("ringmesh "), "{text}");
        }
        let Err(NoCommand::Shown(text)) = parsed("ringmesh --version") else {
            panic!()
        };
        assert_eq!(
            text.trim_end(),
            format!("ringmesh {}", env!("CARGO_PKG_VERSION"))
        );
    }
}
