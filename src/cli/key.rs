//! What can be typed behind `ringmesh key`.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use super::app::{AppId, Sure};
use super::duration::duration_sec;

/// What can be done with keys.
#[derive(Subcommand)]
pub enum KeyCommand {
    /// Create a key, and show its secrets for the only time.
    #[command(after_help = "Examples:\n  ringmesh key create --type secret\n  \
                      ringmesh key create app_shop --type publishable --channels 'shop/*' \
                      --actions subscribe")]
    Create {
        /// The app that gets the key.
        #[command(flatten)]
        app: AppId,
        /// What backends sign with, or what clients connect with
        #[arg(long = "type", value_name = "TYPE", value_parser = ["secret", "publishable"])]
        key_type: String,
        /// Channel patterns, by commas or repeated
        #[arg(
            long,
            value_name = "PATTERNS",
            value_delimiter = ',',
            default_value = "**"
        )]
        channels: Vec<String>,
        /// publish, subscribe, presence, send, by commas or repeated; '' for none [default: all;
        /// of a publishable key, all but send]
        #[arg(long, value_name = "ACTIONS", value_delimiter = ',')]
        actions: Option<Vec<String>>,
        /// Print it as a file of variables for backends
        #[arg(long, conflicts_with = "json")]
        env: bool,
        /// The other fields of the key.
        #[command(flatten)]
        fields: KeyFields,
    },
    /// List the keys of an app, without secrets.
    #[command(after_help = "Examples:\n  ringmesh key list\n  ringmesh key list app_shop --json")]
    List(AppId),
    /// Show one key, without secrets.
    #[command(after_help = "Examples:\n  ringmesh key show sk_id_…\n  \
                            ringmesh key show pk_live_… --json")]
    Show(KeyId),
    /// Change a key; what is not given stays.
    #[command(
        after_help = "Examples:\n  ringmesh key update pk_live_… --actions subscribe\n  \
                            ringmesh key update pk_live_… --origins https://shop.example"
    )]
    Update {
        /// The key to change.
        #[command(flatten)]
        key: KeyId,
        /// Channel patterns, by commas or repeated
        #[arg(long, value_name = "PATTERNS", value_delimiter = ',')]
        channels: Option<Vec<String>>,
        /// publish, subscribe, presence, send, by commas or repeated; '' for none
        #[arg(long, value_name = "ACTIONS", value_delimiter = ',')]
        actions: Option<Vec<String>>,
        /// The other fields to set.
        #[command(flatten)]
        fields: KeyFields,
    },
    /// Give a secret key new secrets; the old ones stay good for a while.
    #[command(after_help = "Examples:\n  ringmesh key rotate sk_id_… --grace 1h\n  \
                            ringmesh key rotate sk_id_… --env > .env")]
    Rotate {
        /// The key whose secrets change.
        #[command(flatten)]
        key: KeyId,
        /// How long the old secrets stay good: 2d, 1h, 30m, 45s or seconds
        #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration_sec)]
        grace: u64,
        /// Whether to ask before the old secrets end at once.
        #[command(flatten)]
        sure: Sure,
        /// Print it as a file of variables for backends
        #[arg(long, conflicts_with = "json")]
        env: bool,
    },
    /// Revoke a key, and close the connections made with it.
    #[command(
        visible_alias = "delete",
        after_help = "Examples:\n  ringmesh key revoke pk_live_…\n  \
                      ringmesh key revoke sk_id_… --yes"
    )]
    Revoke {
        /// The key to revoke.
        #[command(flatten)]
        key: KeyId,
        /// Whether to ask.
        #[command(flatten)]
        sure: Sure,
    },
}

/// The argument that names a key.
#[derive(Args)]
pub struct KeyId {
    /// Id of the key, sk_id_… or pk_live_…
    #[arg(
        value_name = "KEY", required_unless_present = "key-id",
        value_parser = NonEmptyStringValueParser::new()
    )]
    key: Option<String>,
    /// The same as an option
    #[arg(
        long = "key", id = "key-id", value_name = "ID", hide = true, conflicts_with = "key",
        value_parser = NonEmptyStringValueParser::new()
    )]
    key_id: Option<String>,
}

impl KeyId {
    /// The id. One of the two arguments is required.
    pub(crate) fn id(&self) -> &str {
        let given = self.key.as_deref().or(self.key_id.as_deref());
        given.unwrap_or_default()
    }
}

/// What a key is, beside its channels and actions.
#[derive(Args)]
pub struct KeyFields {
    /// Name, for people
    #[arg(long)]
    pub name: Option<String>,
    /// Origins that may connect with a publishable key, by commas or repeated
    #[arg(long, value_name = "ORIGINS", value_delimiter = ',')]
    pub origins: Option<Vec<String>>,
    /// Whether clients are given the TURN servers of the app
    #[arg(long, value_name = "BOOL")]
    pub auto_inject_turn: Option<bool>,
}
