//! Every key outside `[[apps]]`: its type, its range, its default, and what it must agree with.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use tracing::Level;

use super::addresses::overlap;
use super::document::Document;
use super::error::ConfigError;
use super::given::Given;
use super::model::{
    AdminConfig, AuthConfig, Config, LogConfig, LogFormat, RejectWith, RestConfig, ServerConfig,
    ShutdownConfig, StoreConfig, TlsConfig,
};
use super::overrides::Environment;
use super::ranges::{TIMEOUTS_MS, bucket};
use super::section::Section;
use super::{apps, limits};
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
const LEVELS: [(&str, Level); 5] = [
    ("error", Level::ERROR),
    ("warn", Level::WARN),
    ("info", Level::INFO),
    ("debug", Level::DEBUG),
    ("trace", Level::TRACE),
];

/// Where `serve` and `dev` differ.
pub(super) struct Defaults {
    listen: SocketAddr,
    data_dir: &'static str,
    connects_per_address: u32,
    /// Rate and burst.
    unauthenticated_per_address: [u32; 2],
    reject_with: RejectWith,
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
            drain_ms: 5_000,
            close_wait_ms: CLOSE_HANDSHAKE_MS + DRAIN_GRACE_MS,
        }
    }

    pub(super) fn dev() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            data_dir: "ringmesh-data",
            connects_per_address: 0,
            unauthenticated_per_address: [0, 0],
            // What a page of a browser can tell apart.
            reject_with: RejectWith::Close,
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
    let mut config = Config {
        file: None,
        unread_variables: Vec::new(),
        admin: admin(root.section("admin")?, public, &store)?,
        auth: auth(root.section("auth")?, defaults)?,
        rest: rest(root.section("rest")?, defaults)?,
        limits: limits::resolve(root.section("limits")?, defaults.connects_per_address)?,
        shutdown: shutdown(root.section("shutdown")?, defaults)?,
        log: log(root.section("log")?)?,
        apps: apps::resolve(root.sections("apps")?, environment)?,
        server,
        tls,
        store,
    };
    root.finish();
    config.unread_variables = document.finish()?;
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
        shards: shards(&mut section)?,
        cores: cores(&mut section)?,
        trusted_proxies: trusted_proxies.unwrap_or_default(),
        proxy_protocol: section.boolean("proxy_protocol", false)?,
    };
    if config.proxy_protocol && config.trusted_proxies.is_empty() {
        let text = "no proxy is trusted to send the header; name them in server.trusted_proxies";
        return Err(section.conflict(&["proxy_protocol"], text.to_owned()));
    }
    section.finish();
    Ok(config)
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
        return Err(section.conflict(&[LISTEN], text));
    }
    let pairs = (0..listen.len()).flat_map(|at| listen[..at].iter().map(move |it| (*it, at)));
    let mut overlaps = pairs.filter_map(|(first, at)| overlap(first, listen[at], true));
    if let Some(overlap) = overlaps.next() {
        return Err(section.conflict(&[LISTEN], format!("{overlap}; remove one")));
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
        return Err(section.conflict(&[KEY], text));
    }
    match duplicate(&cores) {
        Some(id) => Err(section.conflict(&[KEY], format!("core {id} is there twice; remove one"))),
        None => Ok(Some(cores)),
    }
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
    if let Some(overlap) = tls_listen(Some(&config)).find_map(of_server) {
        let text = format!("beside server.listen, {overlap}; remove one");
        return Err(section.conflict(&[LISTEN], text));
    }
    let present = section.is_present();
    section.finish();
    Ok(present.then_some(config))
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
    if let Some(overlap) = overlap {
        let text = format!("beside the public listeners, {overlap}; give one another port");
        return Err(section.conflict(&[LISTEN], text));
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
        protect_metrics: section.boolean("protect_metrics", false)?,
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
    section.finish();
    Ok(AuthConfig { reject_with })
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
        drain_ms: section.integer("drain_ms", defaults.drain_ms, PAUSES_MS)?,
        retry_after_ms: section.integer("retry_after_ms", 1_000, PAUSES_MS)?,
        close_wait_ms: defaults.close_wait_ms,
    };
    section.finish();
    Ok(config)
}

fn log(mut section: Section<'_>) -> Result<LogConfig, ConfigError> {
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let config = LogConfig {
        level: section.choice("level", Level::INFO, &LEVELS)?,
        format: section.choice("format", LogFormat::Text, &formats)?,
    };
    section.finish();
    Ok(config)
}

/// The first item that stands in the list before.
fn duplicate<T: PartialEq>(items: &[T]) -> Option<&T> {
    let again = |&(index, item): &(usize, &T)| items[..index].contains(item);
    items.iter().enumerate().find(again).map(|(_, item)| item)
}
