//! The commands that work on a running server or on the machine, rather than being the server.
//!
//! Each command's fields are what the admin API calls them, in the words of a command line;
//! what is not given stays as it is, or as the server has it by default.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::duration::duration_sec;

/// Commands for operators.
#[derive(Subcommand)]
pub enum OperatorCommand {
    /// Create, show and change apps.
    #[command(after_help = "Example:\n  ringmesh app create --app app_shop --name 'The shop'")]
    App(AppArgs),
    /// Create, show, change, rotate and revoke keys.
    #[command(
        after_help = "Example:\n  ringmesh key create --app app_shop --type publishable \
                            --channels 'shop/*' --actions subscribe"
    )]
    Key(KeyArgs),
    /// Show what a running server is doing.
    #[command(after_help = "Example:\n  ringmesh stats --watch")]
    Stats(StatsArgs),
    /// Print the OpenAPI document of the REST API.
    #[command(after_help = "Example:\n  ringmesh openapi > openapi.json")]
    Openapi,
}

/// How to reach the admin API. Not `Debug`: one of them is a secret.
#[derive(Args)]
pub struct AdminAccess {
    /// The admin listener of the running server
    #[arg(
        long,
        value_name = "URL",
        global = true,
        default_value = "http://127.0.0.1:7464"
    )]
    pub admin_url: String,
    /// Its token; other users see arguments, so rather set the variable
    #[arg(
        long,
        value_name = "TOKEN",
        global = true,
        env = "RINGMESH_ADMIN_TOKEN",
        hide_env_values = true
    )]
    pub admin_token: Option<String>,
    /// Print JSON, for scripts
    #[arg(long, global = true)]
    pub json: bool,
}

/// Arguments of `ringmesh app`.
#[derive(Args)]
#[command(arg_required_else_help = false)]
pub struct AppArgs {
    /// The server to ask.
    #[command(flatten)]
    pub access: AdminAccess,
    /// What to do.
    #[command(subcommand)]
    pub command: AppCommand,
}

/// What can be done with apps.
#[derive(Subcommand)]
pub enum AppCommand {
    /// Create an app.
    #[command(after_help = "Example:\n  ringmesh app create --app app_shop --name 'The shop'")]
    Create {
        /// Id of the new app [default: made by the server]
        #[arg(long, value_name = "ID")]
        app: Option<String>,
        /// The fields of the app.
        #[command(flatten)]
        fields: Box<AppFields>,
    },
    /// List all apps.
    #[command(after_help = "Example:\n  ringmesh app list --json")]
    List,
    /// Show one app.
    #[command(after_help = "Example:\n  ringmesh app show --app app_shop")]
    Show(AppId),
    /// Change an app; what is not given stays.
    #[command(after_help = "Example:\n  ringmesh app update --app app_shop --status suspended")]
    Update {
        /// The app to change.
        #[command(flatten)]
        app: AppId,
        /// The fields to set.
        #[command(flatten)]
        fields: Box<AppFields>,
    },
    /// Delete an app with its keys, and close its connections.
    #[command(after_help = "Example:\n  ringmesh app delete --app app_shop")]
    Delete(AppId),
}

/// The argument that names an app.
#[derive(Args)]
pub struct AppId {
    /// Id of the app
    #[arg(long, value_name = "ID")]
    pub app: String,
}

/// What an app is. 0 is no limit.
#[derive(Args)]
pub struct AppFields {
    /// Name, for people
    #[arg(long)]
    pub name: Option<String>,
    /// Whether its clients may connect
    #[arg(long, value_parser = ["active", "suspended"])]
    pub status: Option<String>,
    /// Whom direct messages reach
    #[arg(long, value_parser = ["app", "shared-channel"])]
    pub direct_scope: Option<String>,
    /// Name of the plan
    #[arg(long, value_name = "NAME")]
    pub plan_name: Option<String>,
    /// Connections at the same time
    #[arg(long, value_name = "N")]
    pub max_connections: Option<u64>,
    /// Messages in one period
    #[arg(long, value_name = "N")]
    pub max_messages: Option<u64>,
    /// Whether the plan lets traffic pass its limits
    #[arg(long, value_name = "BOOL")]
    pub overages_allowed: Option<bool>,
    /// Whether that is switched on
    #[arg(long, value_name = "BOOL")]
    pub overages_enabled: Option<bool>,
    /// Start of some period, in Unix seconds; needs --period-days
    #[arg(long, value_name = "TIME", requires = "period_days")]
    pub period_start: Option<u64>,
    /// Length of a period in days, instead of calendar months
    #[arg(long, value_name = "DAYS", requires = "period_start")]
    pub period_days: Option<u32>,
    /// Messages per second and connection
    #[arg(long, value_name = "N", requires = "message_burst")]
    pub message_rate: Option<u32>,
    /// Messages of one connection at once
    #[arg(long, value_name = "N", requires = "message_rate")]
    pub message_burst: Option<u32>,
    /// TURN URLs that clients are given, by commas or repeated
    #[arg(long, value_name = "URLS", value_delimiter = ',')]
    pub turn_urls: Option<Vec<String>>,
    /// Lifetime of TURN credentials, as 1h or seconds
    #[arg(long, value_name = "DURATION", value_parser = duration_sec)]
    pub turn_ttl: Option<u64>,
    /// File with the secret that is shared with the TURN server
    #[arg(long, value_name = "FILE")]
    pub turn_secret_file: Option<PathBuf>,
}

/// Arguments of `ringmesh key`.
#[derive(Args)]
#[command(arg_required_else_help = false)]
pub struct KeyArgs {
    /// The server to ask.
    #[command(flatten)]
    pub access: AdminAccess,
    /// What to do.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// What can be done with keys.
#[derive(Subcommand)]
pub enum KeyCommand {
    /// Create a key, and show its secrets for the only time.
    #[command(
        after_help = "Example:\n  ringmesh key create --app app_shop --type secret \
                            --channels 'shop/**' --actions publish,subscribe"
    )]
    Create {
        /// The app that gets the key.
        #[command(flatten)]
        app: AppId,
        /// What backends sign with, or what clients connect with
        #[arg(long = "type", value_parser = ["secret", "publishable"])]
        key_type: String,
        /// The fields of the key.
        #[command(flatten)]
        fields: KeyFields,
    },
    /// List the keys of an app, without secrets.
    #[command(after_help = "Example:\n  ringmesh key list --app app_shop")]
    List(AppId),
    /// Show one key, without secrets.
    #[command(after_help = "Example:\n  ringmesh key show sk_id_…")]
    Show(KeyId),
    /// Change a key; what is not given stays.
    #[command(after_help = "Example:\n  ringmesh key update pk_live_… --actions subscribe")]
    Update {
        /// The key to change.
        #[command(flatten)]
        key: KeyId,
        /// The fields to set.
        #[command(flatten)]
        fields: KeyFields,
    },
    /// Give a secret key new secrets; the old ones stay good for a while.
    #[command(after_help = "Example:\n  ringmesh key rotate sk_id_… --grace 1h")]
    Rotate {
        /// The key whose secrets change.
        #[command(flatten)]
        key: KeyId,
        /// How long the old secrets stay good: 1h, 30m, 45s or seconds
        #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration_sec)]
        grace: u64,
    },
    /// Revoke a key, and close the connections made with it.
    #[command(
        visible_alias = "delete",
        after_help = "Example:\n  ringmesh key revoke pk_live_…"
    )]
    Revoke(KeyId),
}

/// The argument that names a key.
#[derive(Args)]
pub struct KeyId {
    /// Id of the key, sk_id_… or pk_live_…
    #[arg(value_name = "KEY")]
    pub key: String,
}

/// What a key allows.
#[derive(Args)]
pub struct KeyFields {
    /// Name, for people
    #[arg(long)]
    pub name: Option<String>,
    /// Channel patterns, by commas or repeated
    #[arg(long, value_name = "PATTERNS", value_delimiter = ',')]
    pub channels: Option<Vec<String>>,
    /// publish, subscribe, presence, send, by commas or repeated
    #[arg(long, value_name = "ACTIONS", value_delimiter = ',')]
    pub actions: Option<Vec<String>>,
    /// Origins that may connect with a publishable key, by commas or repeated
    #[arg(long, value_name = "ORIGINS", value_delimiter = ',')]
    pub origins: Option<Vec<String>>,
    /// Whether clients are given the TURN servers of the app
    #[arg(long, value_name = "BOOL")]
    pub auto_inject_turn: Option<bool>,
}

/// Arguments of `ringmesh stats`.
#[derive(Args)]
pub struct StatsArgs {
    /// The server to ask.
    #[command(flatten)]
    pub access: AdminAccess,
    /// Show it again every second
    #[arg(long)]
    pub watch: bool,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    #[command(name = "ringmesh")]
    struct OnlyAdmin {
        #[command(subcommand)]
        command: OperatorCommand,
    }

    fn parsed(line: &str) -> Result<OperatorCommand, String> {
        OnlyAdmin::try_parse_from(line.split_whitespace())
            .map(|cli| cli.command)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_definition_is_consistent() {
        OnlyAdmin::command().debug_assert();
    }

    #[test]
    fn apps_are_named_and_described() {
        let line = "ringmesh app update --app a --max-messages 0 --turn-urls turn:a,turn:b \
                    --turn-ttl 1h --overages-allowed true --admin-url http://h:1 --json";
        let Ok(OperatorCommand::App(AppArgs { access, command })) = parsed(line) else {
            panic!("{line}")
        };
        assert_eq!(
            (access.admin_url.as_str(), access.json),
            ("http://h:1", true)
        );
        let AppCommand::Update { app, fields } = command else {
            panic!("{line}")
        };
        assert_eq!((app.app.as_str(), fields.max_messages), ("a", Some(0)));
        assert_eq!(
            (fields.turn_ttl, fields.overages_allowed),
            (Some(3_600), Some(true))
        );
        assert_eq!(fields.turn_urls.as_deref().map(<[_]>::len), Some(2));
        assert_eq!((fields.name, fields.max_connections), (None, None));
    }

    #[test]
    fn keys_are_made_rotated_and_revoked() {
        let line = "ringmesh key create --app a --type secret --channels a/*,b --actions send";
        let Ok(OperatorCommand::Key(KeyArgs { command, .. })) = parsed(line) else {
            panic!("{line}")
        };
        let KeyCommand::Create {
            app,
            key_type,
            fields,
        } = command
        else {
            panic!("{line}")
        };
        assert_eq!((app.app.as_str(), key_type.as_str()), ("a", "secret"));
        assert_eq!(fields.channels.unwrap(), ["a/*", "b"]);

        let Ok(OperatorCommand::Key(KeyArgs { command, .. })) =
            parsed("ringmesh key rotate sk_id_a")
        else {
            panic!()
        };
        assert!(matches!(command, KeyCommand::Rotate { grace: 86_400, .. }));
        for line in [
            "ringmesh key revoke pk_live_a",
            "ringmesh key delete pk_live_a",
        ] {
            let Ok(OperatorCommand::Key(KeyArgs { command, .. })) = parsed(line) else {
                panic!()
            };
            assert!(matches!(command, KeyCommand::Revoke(KeyId { key }) if key == "pk_live_a"));
        }
    }

    #[test]
    fn what_goes_together_is_asked_for_together() {
        for line in [
            "ringmesh app update --app a --message-rate 5",
            "ringmesh app update --app a --period-days 5",
            "ringmesh app show",
            "ringmesh key create --app a --type public",
            "ringmesh key show",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }

    #[test]
    fn every_command_has_an_example() {
        fn check(command: &clap::Command) {
            for inner in command.get_subcommands() {
                let example = inner
                    .get_after_help()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                assert!(
                    example.starts_with("Example:\n  ringmesh "),
                    "{}: {example}",
                    inner.get_name()
                );
                check(inner);
            }
        }
        check(&OnlyAdmin::command());
    }
}
