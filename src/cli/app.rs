//! What can be typed behind `ringmesh app`.
//!
//! Each command's fields are what the admin API calls them, in the words of a command line;
//! what is not given stays as it is, or as the server has it by default.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use super::duration::duration_sec;
use super::history_rule::history_rule;
use super::numbers::whole_number;
use crate::domain::history::HistoryRule;

/// What can be done with apps.
#[derive(Subcommand)]
pub enum AppCommand {
    /// Create an app.
    #[command(
        after_help = "Examples:\n  ringmesh app create app_shop --name 'The shop'\n  \
                            ringmesh app create --max-connections 1000"
    )]
    Create {
        /// Id of the new app.
        #[command(flatten)]
        app: NewAppId,
        /// The fields of the app.
        #[command(flatten)]
        fields: Box<AppFields>,
    },
    /// List all apps.
    #[command(after_help = "Examples:\n  ringmesh app list\n  ringmesh app list --json")]
    List,
    /// Show one app, and what it uses.
    #[command(after_help = "Examples:\n  ringmesh app show app_shop\n  ringmesh app show --json")]
    Show(AppId),
    /// Change an app; what is not given stays.
    #[command(
        after_help = "Examples:\n  ringmesh app update app_shop --max-connections 5000\n  \
                            ringmesh app update app_shop \
                            --history 'chat/**=messages:500,ttl:1d,store:disk'"
    )]
    Update {
        /// The app to change.
        #[command(flatten)]
        app: AppId,
        /// The fields to set.
        #[command(flatten)]
        fields: Box<AppFields>,
        /// Whether to ask before it is suspended.
        #[command(flatten)]
        sure: Sure,
    },
    /// Close an app's connections, and take no more.
    #[command(after_help = "Examples:\n  ringmesh app suspend app_shop\n  \
                            ringmesh app suspend app_shop --yes")]
    Suspend {
        /// The app to suspend.
        #[command(flatten)]
        app: AppId,
        /// Whether to ask.
        #[command(flatten)]
        sure: Sure,
    },
    /// Let the clients of a suspended app connect again.
    #[command(after_help = "Examples:\n  ringmesh app resume app_shop\n  \
                            ringmesh app show app_shop")]
    Resume(AppId),
    /// Delete an app with its keys, and close its connections.
    #[command(after_help = "Examples:\n  ringmesh app delete app_shop\n  \
                            ringmesh app delete app_shop --yes")]
    Delete {
        /// The app to delete.
        #[command(flatten)]
        app: AppId,
        /// Whether to ask.
        #[command(flatten)]
        sure: Sure,
    },
}

/// The argument that names an app.
#[derive(Args, Default)]
pub struct AppId {
    /// Id or name of the app [default: the only one there is]
    #[arg(value_name = "APP", value_parser = NonEmptyStringValueParser::new())]
    app: Option<String>,
    /// The same, as earlier versions had it
    #[arg(
        long = "app", id = "app-id", value_name = "ID", hide = true, conflicts_with = "app",
        value_parser = NonEmptyStringValueParser::new()
    )]
    app_id: Option<String>,
}

impl AppId {
    /// The id, if one was given.
    pub(crate) fn given(&self) -> Option<&str> {
        self.app.as_deref().or(self.app_id.as_deref())
    }
}

/// The argument that names an app that is not there yet.
#[derive(Args)]
pub struct NewAppId {
    /// Id of the new app [default: made by the server]
    #[arg(value_name = "APP", value_parser = NonEmptyStringValueParser::new())]
    app: Option<String>,
    /// The same, as earlier versions had it
    #[arg(
        long = "app", id = "app-id", value_name = "ID", hide = true, conflicts_with = "app",
        value_parser = NonEmptyStringValueParser::new()
    )]
    app_id: Option<String>,
}

impl NewAppId {
    /// The id, if one was given.
    pub(crate) fn given(&self) -> Option<&str> {
        self.app.as_deref().or(self.app_id.as_deref())
    }
}

/// Whether somebody at a terminal is asked before something that cannot be taken back. Without a
/// terminal nothing is done unless this is given.
#[derive(Args, Clone, Copy, Default)]
pub struct Sure {
    /// Do not ask; needed where there is no terminal to ask at
    #[arg(long)]
    pub yes: bool,
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
    #[arg(
        long, value_name = "N",
        value_parser = whole_number::<u64>,
        allow_negative_numbers = true
    )]
    pub max_connections: Option<u64>,
    /// Messages in one period
    #[arg(
        long, value_name = "N",
        value_parser = whole_number::<u64>,
        allow_negative_numbers = true
    )]
    pub max_messages: Option<u64>,
    /// Whether the plan lets traffic pass its limits
    #[arg(long, value_name = "BOOL")]
    pub overages_allowed: Option<bool>,
    /// Whether that is switched on
    #[arg(long, value_name = "BOOL")]
    pub overages_enabled: Option<bool>,
    /// Start of some period, in Unix seconds; needs --period-days
    #[arg(
        long, value_name = "TIME", requires = "period_days",
        value_parser = whole_number::<u64>,
        allow_negative_numbers = true
    )]
    pub period_start: Option<u64>,
    /// Length of a period in days, instead of calendar months
    #[arg(
        long, value_name = "DAYS", requires = "period_start",
        value_parser = whole_number::<u32>,
        allow_negative_numbers = true
    )]
    pub period_days: Option<u32>,
    /// Messages per second and connection
    #[arg(
        long, value_name = "N", requires = "message_burst",
        value_parser = whole_number::<u32>,
        allow_negative_numbers = true
    )]
    pub message_rate: Option<u32>,
    /// Messages of one connection at once
    #[arg(
        long, value_name = "N", requires = "message_rate",
        value_parser = whole_number::<u32>,
        allow_negative_numbers = true
    )]
    pub message_burst: Option<u32>,
    /// Whether the app's backend can follow who comes into channels and leaves them
    #[arg(long, value_name = "BOOL")]
    pub feed_presence: Option<bool>,
    /// Whether it can follow who connects and who is gone
    #[arg(long, value_name = "BOOL")]
    pub feed_peers: Option<bool>,
    /// What channels keep, as chat/**=messages:1000,bytes:1MiB,ttl:1h,store:disk, of which only the
    /// pattern is needed; repeated, and the first rule that matches a channel holds. Replaces all
    #[arg(
        long, value_name = "RULE", value_parser = history_rule, conflicts_with = "no_history"
    )]
    pub history: Option<Vec<HistoryRule>>,
    /// Take all rules away: channels keep nothing
    #[arg(long)]
    pub no_history: bool,
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
