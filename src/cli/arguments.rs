//! Arguments of the commands that look at a running server.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use super::app::Sure;

/// What can be done with the configuration.
#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Show each key outside of apps, as it holds.
    #[command(
        after_help = "Examples:\n  ringmesh config show --origins\n  ringmesh config show --json"
    )]
    Show {
        /// Show defaults, and where values come from
        #[arg(long)]
        origins: bool,
    },
}

/// Arguments of `ringmesh stats`.
#[derive(Args)]
pub struct StatsArgs {
    /// Show it again every second, or every so many; on a terminal as pages with keys
    #[arg(
        long, value_name = "SEC", num_args = 0..=1, default_missing_value = "1",
        value_parser = watch_sec
    )]
    pub watch: Option<u64>,
    /// The shards only
    #[arg(long)]
    pub shards: bool,
    /// The latencies only
    #[arg(long)]
    pub latency: bool,
    /// The connections only: who came and went, and why
    #[arg(long)]
    pub connections: bool,
}

/// Arguments of `ringmesh events`.
#[derive(Args)]
pub struct EventsArgs {
    /// Go on showing what comes
    #[arg(short, long)]
    pub follow: bool,
    /// Of this app, by id or name
    #[arg(long, value_name = "APP")]
    app: Option<String>,
    /// Of this peer, or of all that match a pattern
    #[arg(long, value_name = "PEER")]
    peer: Option<String>,
    /// Of this connection
    #[arg(long, value_name = "ID")]
    connection: Option<String>,
    /// Of this channel, or of all that match a pattern
    #[arg(long, value_name = "CHANNEL")]
    channel: Option<String>,
    /// Of this key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// From this address, or block such as 10.0.0.0/8
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// Of these kinds, by commas; one with a - is left out: refused, opened, subscribed,
    /// unsubscribed, refreshed, error, held, slow, traced, closed, kicked, quota, rights, admin,
    /// certificate, link, accept, warning, node
    #[arg(long, value_name = "KINDS", allow_hyphen_values = true)]
    kind: Option<String>,
    /// For these causes, by commas; one with a - is left out
    #[arg(long, value_name = "CAUSES", allow_hyphen_values = true)]
    cause: Option<String>,
    /// With these close codes, HTTP statuses or error codes; one with a - is left out
    #[arg(long, value_name = "CODES", allow_hyphen_values = true)]
    code: Option<String>,
    /// Since then: 10m, RFC 3339 or Unix seconds [default: 15m]
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Until then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// So many, the newest, 1 to 1000 [default: 100]
    #[arg(long, value_name = "N")]
    limit: Option<String>,
    /// After this cursor or event
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// Before this cursor or event
    #[arg(long, value_name = "CURSOR")]
    before: Option<String>,
}

impl EventsArgs {
    /// What was given of an app: its id or name.
    pub(super) fn app(&self) -> Option<&str> {
        self.app.as_deref()
    }

    /// What was given, by the names of the admin API, with this app.
    pub(super) fn parameters(&self, app: Option<String>) -> Vec<(&'static str, String)> {
        let all = [
            ("app", &app),
            ("peer", &self.peer),
            ("connection", &self.connection),
            ("channel", &self.channel),
            ("key", &self.key),
            ("address", &self.address),
            ("kind", &self.kind),
            ("cause", &self.cause),
            ("code", &self.code),
            ("since", &self.since),
            ("until", &self.until),
            ("limit", &self.limit),
            ("after", &self.after),
            ("before", &self.before),
        ];
        let given = all.into_iter();
        let given = given.filter_map(|(name, value)| Some((name, value.clone()?)));
        given.collect()
    }
}

/// Reads the seconds between two looks.
fn watch_sec(text: &str) -> Result<u64, &'static str> {
    let seconds = text.parse().ok().filter(|it| (1..=3_600).contains(it));
    seconds.ok_or("expected a whole number of seconds from 1 to 3600")
}

/// Arguments of `ringmesh openapi`.
#[derive(Args)]
pub struct OpenapiArgs {
    /// That of the admin API instead
    #[arg(long)]
    pub admin: bool,
}

/// Arguments of `ringmesh why`.
#[derive(Args)]
pub struct WhyArgs {
    /// The peer
    #[arg(value_name = "PEER", value_parser = NonEmptyStringValueParser::new())]
    pub peer: String,
    /// Its app, by id or name [default: the only one there is, or else all]
    #[arg(long, value_name = "APP", value_parser = NonEmptyStringValueParser::new())]
    pub app: Option<String>,
    /// Since then: 10m, RFC 3339 or Unix seconds [default: as far back as events go]
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
}

/// Arguments of `ringmesh kick`.
#[derive(Args)]
pub struct KickArgs {
    /// The peer, all of whose connections are closed
    #[arg(value_name = "PEER", value_parser = NonEmptyStringValueParser::new())]
    pub peer: String,
    /// Only this connection of the peer, as events and connections show it: 2.1041.7
    #[arg(long, value_name = "CONNECTION", value_parser = NonEmptyStringValueParser::new())]
    pub connection: Option<String>,
    /// Its app, by id or name [default: the only one there is]
    #[arg(long, value_name = "APP", value_parser = NonEmptyStringValueParser::new())]
    pub app: Option<String>,
    /// Whether to ask.
    #[command(flatten)]
    pub sure: Sure,
}

/// Arguments of `ringmesh trace`.
#[derive(Args)]
pub struct TraceArgs {
    /// The peer whose messages are recorded
    #[arg(
        value_name = "PEER", required_unless_present = "channel", conflicts_with = "channel",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub peer: Option<String>,
    /// What is published into this channel is recorded instead
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub channel: Option<String>,
    /// Its app, by id or name [default: the only one there is]
    #[arg(long, value_name = "APP", value_parser = NonEmptyStringValueParser::new())]
    pub app: Option<String>,
    /// For how many minutes, 10 at most; 0 ends it
    #[arg(
        long, value_name = "N", default_value_t = 5,
        value_parser = clap::value_parser!(u64).range(0..=10)
    )]
    pub minutes: u64,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use crate::cli::{Cli, parse};
    use crate::events::kind::Kind;

    #[test]
    fn the_help_has_every_kind() {
        let command = Cli::command();
        let events = command.find_subcommand("events").unwrap();
        let mut arguments = events.get_arguments();
        let kind = arguments.find(|it| it.get_id() == "kind").unwrap();
        let help = kind.get_help().unwrap().to_string();
        let (_, listed) = help.split_once(": ").unwrap();
        let kinds: Vec<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(listed, kinds.join(", "));
    }

    #[test]
    fn a_trace_is_of_a_peer_or_of_a_channel_for_ten_minutes_at_most() {
        let is_good = |line: &str| parse(line.split(' ').map(Into::into)).is_ok();
        assert!(is_good("ringmesh trace alice --minutes 10"));
        assert!(is_good("ringmesh trace --channel room --minutes 0"));
        for line in [
            "trace",
            "trace alice --channel room",
            "trace alice --minutes 11",
        ] {
            assert!(!is_good(&format!("ringmesh {line}")), "{line}");
        }
    }
}
