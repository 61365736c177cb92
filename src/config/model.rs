//! What an operator can decide, as typed values. Sections and keys are named as in the file.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::public_url::PublicUrl;
use crate::domain::configuration::Setting;
use crate::domain::declared::DeclaredApp;
use crate::domain::history::HistorySettings;
use crate::proto::cidr::Cidr;

/// Everything an operator can decide, checked.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The file it was read from; `None` for `ringmesh dev`.
    pub file: Option<PathBuf>,
    /// The public listeners and the shards behind them.
    pub server: ServerConfig,
    /// Present: public listeners speak TLS.
    pub tls: Option<TlsConfig>,
    /// The admin API and the metrics.
    pub admin: AdminConfig,
    /// What is kept on disk.
    pub store: StoreConfig,
    /// How connects are refused.
    pub auth: AuthConfig,
    /// The REST control plane.
    pub rest: RestConfig,
    /// Bounds of what clients may do.
    pub limits: LimitsConfig,
    /// How the server ends.
    pub shutdown: ShutdownConfig,
    /// How the server hands over to another process.
    pub handover: HandoverConfig,
    /// What is kept of what happened.
    pub events: EventsConfig,
    /// `[feed]`.
    pub feed: FeedConfig,
    /// What holds for everything that channels keep.
    pub history: HistorySettings,
    /// What is logged, and how.
    pub log: LogConfig,
    /// Apps that the file declares, with their keys.
    pub apps: Vec<DeclaredApp>,
    /// Each key outside `[[apps]]`, and where its value comes from.
    pub settings: Vec<Setting>,
    /// Variables named like ours that nothing reads.
    pub unread_variables: Vec<UnreadVariable>,
}

/// A variable of the environment whose name begins with `RINGMESH_` and that nothing reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnreadVariable {
    /// Its name.
    pub name: String,
    /// The variable that it may have been meant to be.
    pub nearest: Option<String>,
}

/// `[server]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerConfig {
    /// Public addresses, at least one; port 0 lets the system choose.
    pub listen: Vec<SocketAddr>,
    /// Where clients are told to connect; `None`: where the server listens.
    pub public_url: Option<PublicUrl>,
    /// Number of shards, 1 to 1,024; `None`: one per core of `cores`.
    pub shards: Option<u16>,
    /// Core ids for the shards, no two the same; `None`: all that the process may use.
    pub cores: Option<Vec<usize>>,
    /// Whether a connect goes to the shard of the core that it comes in on.
    pub follow_queues: bool,
    /// Peers whose `X-Forwarded-For` or PROXY header is believed.
    pub trusted_proxies: Vec<Cidr>,
    /// Whether connections from trusted proxies begin with a PROXY protocol v2 header.
    pub proxy_protocol: bool,
    /// Where the number of the process that serves is written; `None`: nowhere.
    pub pid_file: Option<PathBuf>,
}

/// `[tls]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsConfig {
    /// Certificate chain, PEM.
    pub cert: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
    /// Public addresses that speak TLS beside those of the server, which do not; `None`: the
    /// server's do.
    pub listen: Option<Vec<SocketAddr>>,
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AdminConfig {
    /// Address of the admin API and of the metrics; `None`: there is none.
    pub listen: Option<SocketAddr>,
    /// Holds the admin token; made at first start when missing.
    pub token_file: PathBuf,
    /// Holds a token that may only read; `None`: there is none.
    pub read_token_file: Option<PathBuf>,
    /// Whether `/metrics` needs the token too.
    pub protect_metrics: bool,
    /// Whether the console is served.
    pub console: bool,
    /// Names by which it may be addressed, besides IP addresses and `localhost`; in lower case.
    pub hosts: Vec<String>,
}

/// `[store]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoreConfig {
    /// Directory of everything that is kept.
    pub data_dir: PathBuf,
    /// Holds the key that encrypts signing secrets; made at first start when missing.
    pub master_key_file: PathBuf,
}

/// `[auth]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuthConfig {
    /// How a bad credential is answered.
    pub reject_with: RejectWith,
    /// Whether clients are told what is wrong with a credential.
    pub explain: bool,
}

/// How a bad credential is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RejectWith {
    /// HTTP 401 instead of the upgrade.
    Http,
    /// The upgrade, then close 4001 or 4002, which browsers can read.
    Close,
}

/// `[rest]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RestConfig {
    /// Whether a key id alone, which every token shows, authenticates a backend.
    pub accept_bare_key_id: bool,
    /// Requests per second and key; 0 is unlimited.
    pub rate_per_key: u32,
    /// Requests of one key at once; not 0 unless the rate is.
    pub burst_per_key: u32,
    /// Requests per second and address; 0 is unlimited.
    pub rate_per_address: u32,
    /// Requests of one address at once; not 0 unless the rate is.
    pub burst_per_address: u32,
    /// Requests per second and address that prove no key; 0 is unlimited.
    pub unauthenticated_rate_per_address: u32,
    /// Such requests of one address at once; not 0 unless the rate is.
    pub unauthenticated_burst_per_address: u32,
    /// How long an HTTP connection may be idle, in milliseconds.
    pub keep_alive_ms: u64,
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LimitsConfig {
    /// Bytes of a message as `welcome` advertises them, envelope not included.
    pub message_bytes: usize,
    /// Subscriptions of one connection.
    pub channels_per_connection: u32,
    /// Messages per second and connection; 0 is unlimited.
    pub message_rate: u32,
    /// Messages of one connection at once; not 0 unless the rate is.
    pub message_burst: u32,
    /// Upgrade attempts per address and window; 0 is unlimited.
    pub connects_per_address: u32,
    /// Length of that window, in seconds.
    pub connects_window_sec: u64,
    /// Bytes of deliveries that may wait for one connection.
    pub outbound_queue_bytes: usize,
    /// Bytes of a REST body.
    pub rest_body_bytes: usize,
    /// Bytes of a request head.
    pub head_bytes: usize,
    /// Time for a request head to arrive, in milliseconds.
    pub head_timeout_ms: u64,
    /// Silence after which a connection is pinged, in milliseconds.
    pub ping_after_ms: u64,
    /// Silence after which it is dropped, in milliseconds; at least a second more than
    /// `ping_after_ms`.
    pub drop_after_ms: u64,
    /// Resident bytes of the process near which it accepts nobody, and at which the slowest
    /// consumers go; 0: 80% of what the machine or its cgroup allows.
    pub memory_bytes: u64,
    /// Connections that have not shown a credential yet; 0: a quarter of the descriptors.
    pub unauthenticated_connections: u32,
}

/// `[shutdown]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShutdownConfig {
    /// How long health checks say that the server is about to end before the drain begins, in
    /// milliseconds.
    pub delay_ms: u64,
    /// Time over which the closes of a drain are spread, in milliseconds.
    pub drain_ms: u64,
    /// `retryAfterMs` of `going_away`.
    pub retry_after_ms: u64,
    /// How long the last closes may take behind that, in milliseconds. No key: `dev` stops at
    /// once.
    pub close_wait_ms: u64,
}

/// `[handover]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HandoverConfig {
    /// The program that an upgrade starts; `None`: the one that this process was started as.
    pub binary: Option<PathBuf>,
    /// How long the new process may take to be ready, in milliseconds: all are served meanwhile.
    pub prepare_ms: u64,
    /// How long nobody may be served, in milliseconds.
    pub pause_max_ms: u64,
    /// Bytes of the state that may be handed over.
    pub state_max_bytes: u64,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogConfig {
    /// The least important level that is logged.
    pub level: tracing::Level,
    /// What a line looks like.
    pub format: LogFormat,
    /// Which events are logged.
    pub events: LogEvents,
}

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// The arguments of `ringmesh dev`, as typed. They go before the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DevOptions {
    /// `--listen`: the public address.
    pub listen: Option<String>,
    /// `--admin`: the address of the admin API.
    pub admin: Option<String>,
    /// `--shards`: number of shards.
    pub shards: Option<String>,
    /// `--data-dir`: directory of the store.
    pub data_dir: Option<String>,
}

/// What is kept of what happened, and of whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventsConfig {
    /// Memory of each shard, in bytes; 0 keeps nothing.
    pub memory_per_shard: usize,
    /// How much of addresses.
    pub addresses: EventsAddresses,
    /// How much of peer ids.
    pub peers: EventsPeers,
}

/// What is kept for the backends of apps that follow who came and went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FeedConfig {
    /// Memory of each shard, in bytes; 0 keeps nothing.
    pub memory_per_shard: usize,
}

/// How much of an address is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventsAddresses {
    /// All of it.
    Full,
    /// Its first 24 bits, of IPv6 48.
    Masked,
    /// Nothing.
    Off,
}

/// How much of a peer id is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventsPeers {
    /// All of it.
    Full,
    /// A hash, with keys of the process.
    Hashed,
}

/// Which events are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogEvents {
    /// A line a minute and kind, with sums.
    Summary,
    /// A line for each.
    All,
    /// None.
    Off,
}
