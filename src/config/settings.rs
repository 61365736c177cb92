//! Every key outside `[[apps]]`: its type, its range, its default, and what it must agree with.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use tracing::Level;

use super::addresses::overlap;
use super::document::Document;
use super::error::ConfigError;
use super::given::Given;
use super::model::{
    AdminConfig, AuthConfig, Config, EventsAddresses, EventsConfig, EventsPeers, FeedConfig,
    HandoverConfig, LogConfig, LogEvents, LogFormat, RejectWith, RestConfig, ServerConfig,
    ShutdownConfig, StoreConfig, TlsConfig,
};
use super::overrides::Environment;
use super::public_url::PublicUrl;
use super::ranges::{TIMEOUTS_MS, bucket};
use super::section::Section;
use super::{apps, history, limits};
use crate::limits::CLOSE_HANDSHAKE_MS;
use crate::proto::cidr::Cidr;

/// Where the server, its TLS and its admin API listen.
const LISTEN: &str = "listen";
/// Port of the admin API. Not 9090, which is that of Prometheus on the same machine.
const ADMIN_PORT: u16 = 7464;
/// More listeners than anybody has.
const LISTENERS_MAX: usize = 64;
/// Characters of a host name (RFC 1035, section 2.3.4).
const HOST_CHARS: RangeInclusive<usize> = 1..=253;
const SHARDS: RangeInclusive<u16> = 1..=1_024;
/// Leaves a number of shards or cores to the server.
const AUTO: &str = "auto";
/// Pauses, in milliseconds: from none to an hour.
const PAUSES_MS: RangeInclusive<u64> = 0..=3_600_000;
/// How long past the drain window and the last close handshake a connection may take to end.
const DRAIN_GRACE_MS: u64 = 500;
/// Memory of a shard's events, and of its feed.
const MEMORY_PER_SHARD: &str = "memory_per_shard";
/// Bytes of it: none, to 1 GiB.
const EVENTS_BYTES: RangeInclusive<usize> = 0..=1 << 30;
/// The least that is worth being read.
const EVENTS_BYTES_MIN: usize = 1 << 20;
/// The same of a feed.
const FEED_BYTES_MIN: usize = 64 << 10;
const LEVELS: [(&str, Level); 5] = [
    ("error", Level::ERROR),
    ("warn", Level::WARN),
    ("info", Level::INFO),
    ("debug", Level::DEBUG),
    ("trace", Level::TRACE),
];

/// Times of an upgrade, in milliseconds: from a tenth of a second to an hour, and to a minute.
const PREPARE_MS: RangeInclusive<u64> = 100..=3_600_000;
const PAUSE_MS: RangeInclusive<u64> = 10..=60_000;
/// Bytes of what is handed over: 1 MiB to 64 GiB.
const STATE_BYTES: RangeInclusive<u64> = 1 << 20..=1 << 36;

/// Where `serve` and `dev` differ.
pub(super) struct Defaults {
    listen: SocketAddr,
    data_dir: &'static str,
    connects_per_address: u32,
    /// Rate and burst.
    unauthenticated_per_address: [u32; 2],
    reject_with: RejectWith,
    explain: bool,
    log_events: LogEvents,
    drain_ms: u64,
    close_wait_ms: u64,
}

impl Defaults {
    pub(super) fn serve() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080)),
            data_dir: "/var/lib/ringmesh",
            connects_per_address: 60,
            unauthenticated_per_address: [100, 200],
            reject_with: RejectWith::Http,
            explain: false,
            log_events: LogEvents::Summary,
            drain_ms: 5_000,
            close_wait_ms: CLOSE_HANDSHAKE_MS + DRAIN_GRACE_MS,
        }
    }

    pub(super) fn data_dir(&self) -> &'static str {
        self.data_dir
    }

    pub(super) fn dev() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            data_dir: "ringmesh-data",
            connects_per_address: 0,
            unauthenticated_per_address: [0, 0],
            // What a page of a browser can tell apart.
            reject_with: RejectWith::Close,
            explain: true,
            // They stand on the terminal.
            log_events: LogEvents::Off,
            // Whoever presses Ctrl-C does not wait.
            drain_ms: 0,
            close_wait_ms: 100,
        }
    }
}

/// Asks the document for every key there is.
pub(super) fn resolve(
    document: &Document<'_>,
    defaults: &Defaults,
    environment: &Environment,
) -> Result<Config, ConfigError> {
    let mut root = Section::root(document);
    let server = server(root.section("server")?, defaults)?;
    let tls = tls(root.section("tls")?, &server)?;
    let store = store(root.section("store")?, defaults)?;
    let public = server.listen.iter().chain(tls_listen(tls.as_ref()));
    let limits = limits::resolve(root.section("limits")?, defaults.connects_per_address)?;
    let history = history::settings(root.section("history")?, &limits)?;
    let mut config = Config {
        file: None,
        settings: Vec::new(),
        unread_variables: Vec::new(),
        admin: admin(root.section("admin")?, public, &store)?,
        auth: auth(root.section("auth")?, defaults)?,
        rest: rest(root.section("rest")?, defaults)?,
        limits,
        shutdown: shutdown(root.section("shutdown")?, defaults)?,
        handover: handover(root.section("handover")?)?,
        events: events(root.section("events")?)?,
        feed: feed(root.section("feed")?)?,
        history,
        log: log(root.section("log")?, defaults)?,
        apps: apps::resolve(root.sections("apps")?, environment, &history)?,
        server,
        tls,
        store,
    };
    root.finish();
    config.unread_variables = document.finish()?;
    config.settings = document.settings();
    if config.tls.is_none() {
        config.settings.retain(|it| !it.key.starts_with("tls."));
    }
    Ok(config)
}

fn server(mut section: Section<'_>, defaults: &Defaults) -> Result<ServerConfig, ConfigError> {
    let trusted_proxies = section.list(
        "trusted_proxies",
        "a block of addresses such as 10.0.0.0/8 or fd00::/8, with no bit set behind the prefix",
        Some("[]"),
        |given| given.text()?.parse::<Cidr>().ok(),
    )?;
    let default = format!("[\"{}\"]", defaults.listen);
    let listen = listeners(&mut section, defaults.listen, &default)?;
    let config = ServerConfig {
        listen: listen.unwrap_or_else(|| vec![defaults.listen]),
        public_url: public_url(&mut section)?,
        shards: shards(&mut section)?,
        cores: cores(&mut section)?,
        follow_queues: section.boolean("follow_queues", false)?,
        trusted_proxies: trusted_proxies.unwrap_or_default(),
        proxy_protocol: section.boolean("proxy_protocol", false)?,
        pid_file: optional_path(&mut section, "pid_file")?,
    };
    if config.proxy_protocol && config.trusted_proxies.is_empty() {
        let text = "no proxy is trusted to send the header; name them in server.trusted_proxies";
        section.refuse(&["proxy_protocol", "trusted_proxies"], text.to_owned())?;
    }
    section.finish();
    Ok(config)
}

fn public_url(section: &mut Section<'_>) -> Result<Option<PublicUrl>, ConfigError> {
    let expected = "a URL such as wss://rt.example.com, without a path, or \"\"";
    let read = |given: Given<'_>| match given.text()? {
        "" => Some(None),
        text => Some(Some(PublicUrl::parse(text)?)),
    };
    let given = section.value("public_url", expected, Some("\"\""), read)?;
    Ok(given.flatten())
}

/// The key `listen` of a section; `None` when it is left out. `example` and `default` are for
/// the error.
fn listeners(
    section: &mut Section<'_>,
    example: SocketAddr,
    default: &str,
) -> Result<Option<Vec<SocketAddr>>, ConfigError> {
    let expected = format!("an address such as {example} or [::]:{}", example.port());
    let read = |given: Given<'_>| given.text()?.parse().ok();
    let Some(listen) = section.list(LISTEN, &expected, Some(default), read)? else {
        return Ok(None);
    };
    if listen.is_empty() || listen.len() > LISTENERS_MAX {
        let text = format!(
            "there must be 1 to {LISTENERS_MAX} addresses; leave it out for the default, {default}"
        );
        section.refuse(&[LISTEN], text)?;
    }
    let pairs = (0..listen.len()).flat_map(|at| listen[..at].iter().map(move |it| (*it, at)));
    for overlap in pairs.filter_map(|(first, at)| overlap(first, listen[at], true)) {
        section.refuse(&[LISTEN], format!("{overlap}; remove one"))?;
    }
    Ok(Some(listen))
}

fn shards(section: &mut Section<'_>) -> Result<Option<u16>, ConfigError> {
    let expected = format!(
        "{AUTO:?} or an integer from {} to {}",
        SHARDS.start(),
        SHARDS.end()
    );
    let read = |given: Given<'_>| match given.text() {
        Some(AUTO) => Some(None),
        _ => {
            let count = u16::try_from(given.integer()?).ok()?;
            SHARDS.contains(&count).then_some(Some(count))
        }
    };
    Ok(section
        .value("shards", &expected, Some("\"auto\""), read)?
        .flatten())
}

fn cores(section: &mut Section<'_>) -> Result<Option<Vec<usize>>, ConfigError> {
    const KEY: &str = "cores";
    let core = |item: Given<'_>| usize::try_from(item.integer()?).ok();
    let read = |given: Given<'_>| match given.text() {
        Some(AUTO) => Some(None),
        _ => given
            .items()?
            .into_iter()
            .map(core)
            .collect::<Option<Vec<_>>>()
            .map(Some),
    };
    let expected = "\"auto\" or a list of core ids";
    let Some(cores) = section
        .value(KEY, expected, Some("\"auto\""), read)?
        .flatten()
    else {
        return Ok(None);
    };
    if cores.is_empty() {
        let text = "there must be at least one core; give \"auto\" for all".to_owned();
        section.refuse(&[KEY], text)?;
        return Ok(None);
    }
    let is_again = |(at, id): (usize, &usize)| cores[..at].contains(id).then_some(*id);
    let again: BTreeSet<_> = cores.iter().enumerate().filter_map(is_again).collect();
    for id in again {
        section.refuse(&[KEY], format!("core {id} is there twice; remove one"))?;
    }
    Ok(Some(cores))
}

fn tls(mut section: Section<'_>, server: &ServerConfig) -> Result<Option<TlsConfig>, ConfigError> {
    let example = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8443));
    let config = TlsConfig {
        cert: section.path("cert", Path::new("fullchain.pem"))?,
        key: section.path("key", Path::new("privkey.pem"))?,
        listen: listeners(&mut section, example, "the addresses of server.listen")?,
    };
    let of_server = |address: &SocketAddr| {
        let mut plain = server.listen.iter();
        plain.find_map(|plain| overlap(*plain, *address, true))
    };
    let overlap = tls_listen(Some(&config)).find_map(of_server);
    if let Some(overlap) = overlap.filter(|_| !section.is_faulty("server.listen")) {
        let text = format!("beside server.listen, {overlap}; remove one");
        section.refuse(&[LISTEN], text)?;
    }
    let present = section.is_present();
    check_both_files(&section, &config)?;
    section.finish();
    Ok(present.then_some(config))
}

/// Whoever names one of the two files means another one than the other's default, unless that is
/// there.
fn check_both_files(section: &Section<'_>, config: &TlsConfig) -> Result<(), ConfigError> {
    let (of_cert, of_key) = (("cert", &config.cert), ("key", &config.key));
    for ((given, _), (other, path)) in [(of_cert, of_key), (of_key, of_cert)] {
        if section.is_given(given) && !section.is_given(other) && !path.exists() {
            let text = format!(
                "tls.{other} is not set, and there is no {}, its default; set tls.{other} too",
                path.display()
            );
            section.refuse(&[given, other], text)?;
        }
    }
    Ok(())
}

/// The addresses that `[tls]` adds to those of the server.
fn tls_listen(tls: Option<&TlsConfig>) -> impl Iterator<Item = &SocketAddr> {
    tls.into_iter().flat_map(|tls| &tls.listen).flatten()
}

fn admin<'c>(
    mut section: Section<'_>,
    mut public: impl Iterator<Item = &'c SocketAddr>,
    store: &StoreConfig,
) -> Result<AdminConfig, ConfigError> {
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, ADMIN_PORT));
    let expected = format!("an address such as {default}, or \"\" for none");
    let shown = format!("\"{default}\"");
    let read = |given: Given<'_>| match given.text()? {
        "" => Some(None),
        text => text.parse().ok().map(Some),
    };
    let listen = section
        .value(LISTEN, &expected, Some(&shown), read)?
        .unwrap_or(Some(default));
    let overlap = listen.and_then(|own| public.find_map(|it| overlap(*it, own, false)));
    let is_sure = ["server.listen", "tls.listen"]
        .iter()
        .all(|key| !section.is_faulty(key));
    if let Some(overlap) = overlap.filter(|_| is_sure) {
        let text = format!("beside the public listeners, {overlap}; give one another port");
        section.refuse(&[LISTEN], text)?;
    }
    let hosts = section.list(
        "hosts",
        "a host name such as ringmesh.internal, without a port",
        Some("[]"),
        host_name,
    )?;
    let config = AdminConfig {
        listen,
        token_file: path_or(
            &mut section,
            "token_file",
            store.data_dir.join("admin.token"),
        )?,
        read_token_file: optional_path(&mut section, "read_token_file")?,
        protect_metrics: section.boolean("protect_metrics", false)?,
        console: section.boolean("console", true)?,
        hosts: hosts.unwrap_or_default(),
    };
    section.finish();
    Ok(config)
}

/// A name that a `Host` header may have, in lower case.
fn host_name(given: Given<'_>) -> Option<String> {
    let name = given.text()?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let good = HOST_CHARS.contains(&name.len()) && name.bytes().all(allowed);
    good.then(|| name.trim_end_matches('.').to_ascii_lowercase())
}

/// A path; left out or empty, the one given.
fn path_or(
    section: &mut Section<'_>,
    key: &'static str,
    default: PathBuf,
) -> Result<PathBuf, ConfigError> {
    let shown = format!("{default:?}");
    let given = section.value(key, "a path", Some(&shown), |given| given.text())?;
    let given = given.filter(|text| !text.is_empty());
    Ok(given.map_or(default, |text| section.resolved(Path::new(text))))
}

/// A path; none when left out or empty.
fn optional_path(
    section: &mut Section<'_>,
    key: &'static str,
) -> Result<Option<PathBuf>, ConfigError> {
    let given = section.value(key, "a path", Some("\"\""), |given| given.text())?;
    let given = given.filter(|text| !text.is_empty());
    Ok(given.map(|text| section.resolved(Path::new(text))))
}

fn store(mut section: Section<'_>, defaults: &Defaults) -> Result<StoreConfig, ConfigError> {
    let data_dir = section.path("data_dir", Path::new(defaults.data_dir))?;
    let in_data_dir = data_dir.join("master.key");
    let master_key_file = path_or(&mut section, "master_key_file", in_data_dir)?;
    section.finish();
    Ok(StoreConfig {
        data_dir,
        master_key_file,
    })
}

fn auth(mut section: Section<'_>, defaults: &Defaults) -> Result<AuthConfig, ConfigError> {
    let words = [("http", RejectWith::Http), ("close", RejectWith::Close)];
    let reject_with = section.choice("reject_with", defaults.reject_with, &words)?;
    let explain = section.boolean("explain", defaults.explain)?;
    section.finish();
    Ok(AuthConfig {
        reject_with,
        explain,
    })
}

fn rest(mut section: Section<'_>, defaults: &Defaults) -> Result<RestConfig, ConfigError> {
    let key_bucket = bucket(&mut section, ["rate_per_key", "burst_per_key"], [100, 200])?;
    let address_bucket = bucket(
        &mut section,
        ["rate_per_address", "burst_per_address"],
        [0, 0],
    )?;
    let stranger_bucket = bucket(
        &mut section,
        [
            "unauthenticated_rate_per_address",
            "unauthenticated_burst_per_address",
        ],
        defaults.unauthenticated_per_address,
    )?;
    let config = RestConfig {
        accept_bare_key_id: section.boolean("accept_bare_key_id", false)?,
        rate_per_key: key_bucket.0,
        burst_per_key: key_bucket.1,
        rate_per_address: address_bucket.0,
        burst_per_address: address_bucket.1,
        unauthenticated_rate_per_address: stranger_bucket.0,
        unauthenticated_burst_per_address: stranger_bucket.1,
        keep_alive_ms: section.integer("keep_alive_ms", 130_000, TIMEOUTS_MS)?,
    };
    section.finish();
    Ok(config)
}

fn shutdown(mut section: Section<'_>, defaults: &Defaults) -> Result<ShutdownConfig, ConfigError> {
    let config = ShutdownConfig {
        delay_ms: section.integer("delay_ms", 0, PAUSES_MS)?,
        drain_ms: section.integer("drain_ms", defaults.drain_ms, PAUSES_MS)?,
        retry_after_ms: section.integer("retry_after_ms", 1_000, PAUSES_MS)?,
        close_wait_ms: defaults.close_wait_ms,
    };
    section.finish();
    Ok(config)
}

fn handover(mut section: Section<'_>) -> Result<HandoverConfig, ConfigError> {
    let config = HandoverConfig {
        binary: optional_path(&mut section, "binary")?,
        prepare_ms: section.integer("prepare_ms", 30_000, PREPARE_MS)?,
        pause_max_ms: section.integer("pause_max_ms", 1_000, PAUSE_MS)?,
        state_max_bytes: section.integer("state_max_bytes", 512 << 20, STATE_BYTES)?,
    };
    section.finish();
    Ok(config)
}

fn events(mut section: Section<'_>) -> Result<EventsConfig, ConfigError> {
    let addresses = [
        ("full", EventsAddresses::Full),
        ("masked", EventsAddresses::Masked),
        ("off", EventsAddresses::Off),
    ];
    let peers = [("full", EventsPeers::Full), ("hashed", EventsPeers::Hashed)];
    let config = EventsConfig {
        memory_per_shard: section.integer(MEMORY_PER_SHARD, 8 << 20, EVENTS_BYTES)?,
        addresses: section.choice("addresses", EventsAddresses::Full, &addresses)?,
        peers: section.choice("peers", EventsPeers::Full, &peers)?,
    };
    if (1..EVENTS_BYTES_MIN).contains(&config.memory_per_shard) {
        let text = format!("there must be {EVENTS_BYTES_MIN} bytes or more; 0 keeps no events");
        section.refuse(&[MEMORY_PER_SHARD], text)?;
    }
    section.finish();
    Ok(config)
}

fn feed(mut section: Section<'_>) -> Result<FeedConfig, ConfigError> {
    let config = FeedConfig {
        memory_per_shard: section.integer(MEMORY_PER_SHARD, 4 << 20, EVENTS_BYTES)?,
    };
    if (1..FEED_BYTES_MIN).contains(&config.memory_per_shard) {
        let text = format!("there must be {FEED_BYTES_MIN} bytes or more; 0 keeps nothing");
        section.refuse(&[MEMORY_PER_SHARD], text)?;
    }
    section.finish();
    Ok(config)
}

fn log(mut section: Section<'_>, defaults: &Defaults) -> Result<LogConfig, ConfigError> {
    let events = [
        ("summary", LogEvents::Summary),
        ("all", LogEvents::All),
        ("off", LogEvents::Off),
    ];
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let config = LogConfig {
        level: section.choice("level", Level::INFO, &LEVELS)?,
        format: section.choice("format", LogFormat::Text, &formats)?,
        events: section.choice("events", defaults.log_events, &events)?,
    };
    section.finish();
    Ok(config)
}
