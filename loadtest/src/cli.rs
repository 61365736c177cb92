//! What may be typed: the subcommands, and the options all of them share.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::abuse::options::AbuseOptions;
use crate::client::token::LIFETIME_SEC;
use crate::workload::Plan;
use crate::workload::connect::ConnectOptions;
use crate::workload::direct::DirectOptions;
use crate::workload::fanout_options::FanoutOptions;
use crate::workload::idle::IdleOptions;
use crate::workload::mixed::{MixedOptions, RoomsOptions, SoakOptions};
use crate::workload::presence::PresenceOptions;
use crate::workload::rest::RestOptions;
use crate::workload::resume::ResumeOptions;

/// Load harness for servers of the ringmesh protocol: open loop, every message verified.
#[derive(Debug, Parser)]
#[command(
    name = "ringmesh-loadtest",
    version,
    args_override_self = true,
    arg_required_else_help = true,
    after_help = "Example: ringmesh-loadtest --url ws://127.0.0.1:8080 --key pk_live_… \
                  --server-pid $(pidof ringmesh) fanout --subscribers 1000 --rate 80"
)]
pub(crate) struct Cli {
    /// The scenario, TOML: its runs stand in for a subcommand.
    #[arg(
        long,
        value_name = "FILE",
        help = "Run every [[run]] of this TOML file, instead of a subcommand"
    )]
    pub scenario: Option<PathBuf>,
    /// Shared by all runs.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Options of every run; they may stand before or after the subcommand.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every run")]
pub(crate) struct Common {
    /// Server, as ws://HOST:PORT or wss://HOST:PORT
    #[arg(long, global = true, default_value = "ws://127.0.0.1:8080")]
    pub url: String,
    /// Publishable key to connect with
    #[arg(
        long,
        global = true,
        env = "RINGMESH_KEY",
        hide_env_values = true,
        value_name = "PK"
    )]
    pub key: Option<String>,
    /// Secret key to sign one token per connection with, as KEY_ID:SIGNING_SECRET
    #[arg(
        long,
        global = true,
        env = "RINGMESH_TOKEN_SECRET",
        hide_env_values = true,
        value_name = "ID:SECRET"
    )]
    pub token_secret: Option<String>,
    /// Seconds for which such a token is valid; below 0, it has expired
    #[arg(
        long,
        global = true,
        default_value_t = LIFETIME_SEC,
        allow_negative_numbers = true,
        value_name = "S"
    )]
    pub token_lifetime: i64,
    /// Credential of REST requests: the API secret, or KEY_ID:SIGNING_SECRET
    #[arg(
        long,
        global = true,
        env = "RINGMESH_API_SECRET",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    pub api_secret: Option<String>,
    /// Origin header, for keys with allowed origins
    #[arg(long, global = true)]
    pub origin: Option<String>,
    /// Accept any certificate
    #[arg(long, global = true)]
    pub insecure: bool,
    /// Accept the certificates in this PEM file, and those they signed
    #[arg(long, global = true, value_name = "FILE")]
    pub insecure_ca: Option<String>,
    /// Resume TLS sessions; 8 tickets are kept, so of more connects at once some pay in full
    #[arg(long, global = true)]
    pub resume: bool,
    /// Cores for the load, like 1 or 2-3,5; default: the last one allowed
    #[arg(long, global = true)]
    pub cores: Option<String>,
    /// Process whose CPU and memory to measure
    #[arg(long, visible_alias = "pid", global = true, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// Seconds measured [default: 10; soak: 3600]
    #[arg(long, global = true, value_name = "S")]
    pub duration: Option<f64>,
    /// Seconds of load before the measurement
    #[arg(long, global = true, default_value_t = 2.0, value_name = "S")]
    pub warmup: f64,
    /// Seconds of rest between set-up and load
    #[arg(long, global = true, default_value_t = 1.0, value_name = "S")]
    pub settle: f64,
    /// Connects under way at once, per load core
    #[arg(long, global = true, default_value_t = 64, value_name = "N")]
    pub concurrency: usize,
    /// Never sleep under load: keeps the wake-up of the load core out of latencies and out of the
    /// server's sends, and makes the harness's own CPU figures meaningless
    #[arg(long, global = true)]
    pub spin: bool,
    /// Run each N times and report medians
    #[arg(long, global = true, default_value_t = 1, value_name = "N")]
    pub repeat: u32,
    /// Write all figures to this file
    #[arg(long, global = true, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a self-contained page to this file
    #[arg(long, global = true, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Show nothing while running
    #[arg(long, global = true)]
    pub quiet: bool,
}

/// The subcommands.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    /// Publish to channels with many subscribers and measure every delivery
    #[command(
        args_override_self = true,
        after_help = "Example: ringmesh-loadtest --key pk_live_… fanout --subscribers 1000 \
                      --saturate --in-flight 16"
    )]
    Fanout(FanoutOptions),
    /// Chat in many small rooms whose members keep changing
    #[command(
        args_override_self = true,
        after_help = "Example: ringmesh-loadtest --key pk_live_… rooms --rooms 100 --members 8 \
                      --changes 20"
    )]
    Rooms(RoomsOptions),
    /// Ping-pong with direct messages between pairs of peers
    #[command(
        args_override_self = true,
        after_help = "Example: ringmesh-loadtest --key pk_live_… direct --pairs 100 --rate 500"
    )]
    Direct(DirectOptions),
    /// Connect many times, as after a restart, and measure up to the welcome
    #[command(
        args_override_self = true,
        after_help = "Example: ringmesh-loadtest --token-secret sk_id_…:sk_secret_… connect -n \
                      5000 --concurrency 128"
    )]
    Connect(ConnectOptions),
    /// Hold connections with one subscription each, and measure the memory they take
    #[command(
        args_override_self = true,
        after_help = "Example: ringmesh-loadtest --key pk_live_… --server-pid 4711 idle -n 18000 \
                      --channels 100"
    )]
    Idle(IdleOptions),
    /// Join and leave one large channel in storms, and measure when others see it
    #[command(
        args_override_self = true,
        after_help = "Example: ringmesh-loadtest --key pk_live_… presence --residents 1000 \
                      --rate 50"
    )]
    Presence(PresenceOptions),
    /// Make REST requests over kept-alive connections
    #[command(
        args_override_self = true,
        after_help = "Example: ringmesh-loadtest --api-secret sk_live_… --key pk_live_… rest \
                      --rate 200 --subscribers 10"
    )]
    Rest(RestOptions),
    /// Drop all clients of channels with history at once, and verify what they get when they return
    #[command(
        args_override_self = true,
        after_help = "Example: ringmesh-loadtest --key pk_live_… resume --clients 1000 --away \
                      2000\nThe app needs a rule of history for load/**."
    )]
    Resume(ResumeOptions),
    /// A realistic day: connects, room changes, chat and signalling bursts
    #[command(
        args_override_self = true,
        after_help = "Example: ringmesh-loadtest --key pk_live_… mixed --users 1000 --chat 300"
    )]
    Mixed(MixedOptions),
    /// The mixed day for a long time, with the trend of the server's memory
    #[command(
        args_override_self = true,
        after_help = "Example: ringmesh-loadtest --key pk_live_… --server-pid 4711 --duration \
                      14400 soak --users 1000"
    )]
    Soak(SoakOptions),
    /// Attack a server of your own in known ways: memory, others' latency, a verdict for each
    #[command(after_help = "Example: ringmesh-loadtest abuse all --spawn target/release/ringmesh")]
    Abuse(AbuseOptions),
    /// Put result files side by side
    #[command(after_help = "Example: ringmesh-loadtest compare before.json after.json")]
    Compare {
        /// Files written with --json; the first is the base of the ratios
        #[arg(required = true, num_args = 1..)]
        files: Vec<PathBuf>,
    },
}

impl Command {
    /// The workload; `None` for `abuse` and `compare`.
    pub(crate) fn plan(&self) -> Option<&dyn Plan> {
        match self {
            Command::Fanout(options) => Some(options),
            Command::Rooms(options) => Some(options),
            Command::Direct(options) => Some(options),
            Command::Connect(options) => Some(options),
            Command::Idle(options) => Some(options),
            Command::Presence(options) => Some(options),
            Command::Rest(options) => Some(options),
            Command::Resume(options) => Some(options),
            Command::Mixed(options) => Some(options),
            Command::Soak(options) => Some(options),
            Command::Abuse(_) | Command::Compare { .. } => None,
        }
    }

    /// The subcommand's name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Command::Fanout(_) => "fanout",
            Command::Rooms(_) => "rooms",
            Command::Direct(_) => "direct",
            Command::Connect(_) => "connect",
            Command::Idle(_) => "idle",
            Command::Presence(_) => "presence",
            Command::Rest(_) => "rest",
            Command::Resume(_) => "resume",
            Command::Mixed(_) => "mixed",
            Command::Soak(_) => "soak",
            Command::Abuse(_) => "abuse",
            Command::Compare { .. } => "compare",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent_and_every_help_has_an_example() {
        Cli::command().debug_assert();
        for subcommand in Cli::command().get_subcommands() {
            let example = subcommand.get_after_help().map(ToString::to_string);
            let name = subcommand.get_name();
            let expected = format!(" {name} ");
            assert!(
                example.is_some_and(|text| text.contains(&expected)),
                "{name}"
            );
        }
    }

    #[test]
    fn shared_options_stand_on_either_side_and_the_last_counts() {
        let cli = Cli::try_parse_from(["x", "--duration", "3", "fanout", "--url", "ws://h"])
            .expect("valid");
        assert_eq!(
            (cli.common.duration, cli.common.url.as_str()),
            (Some(3.0), "ws://h")
        );
        let twice = [
            "x",
            "fanout",
            "--duration",
            "3",
            "--rate",
            "5",
            "--duration",
            "4",
        ];
        assert_eq!(
            Cli::try_parse_from(twice).expect("valid").common.duration,
            Some(4.0)
        );
    }
}
