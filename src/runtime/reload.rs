//! SIGHUP: the configuration is read again, and what can change does.
//!
//! A file that cannot be read or is wrong changes nothing. Otherwise each part is switched by
//! itself: one that fails stays as it was, is logged with its reason, and is not called
//! reloaded. What is decided at the start is named with the keys that need a restart.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use ahash::RandomState;

use crate::config::{
    self, Config, Difference, EventsAddresses, EventsPeers, LimitsConfig, RejectWith,
};
use crate::control::ControlHandle;
use crate::control::events::{Events, Feed, LogEvents, Moment};
use crate::domain::configuration::{NeedsRestart, ReloadReport, Setting};
use crate::domain::connect_rate::ConnectRates;
use crate::domain::declared::Declared;
use crate::domain::request_rate::{RequestLimits, RequestRates};
use crate::domain::token_bucket::BucketLimits;
use crate::events::author::Author;
use crate::events::kind::{Cause, Kind};
use crate::events::record::Record;
use crate::events::recorder::{Addresses, Privacy};
use crate::log::Log;
use crate::proto::forwarded::TrustedProxies;
use crate::runtime::boot::{RunningShards, ShardsHandle, draw_number};
use crate::runtime::certificates::Certificates;
use crate::runtime::clock::Clock;
use crate::runtime::preflight::Machine;
use crate::shard::config::ShardLimits;
use crate::shard::settings::Settings;

/// Changed keys that a line of the log names.
const KEYS_LOGGED_MAX: usize = 50;

/// The parts of a running server that take a new configuration.
pub(super) struct Reloadable<'s> {
    pub(super) shards: ShardsHandle,
    pub(super) certificates: Option<&'s Certificates>,
    pub(super) control: &'s ControlHandle,
    pub(super) log: &'s Log,
    pub(super) events: &'s Events,
}

/// The configuration that the server was started with, and the one that holds.
pub(super) struct Reload {
    started: Config,
    current: Config,
    machine: Machine,
    hasher: RandomState,
    request_rates: Arc<RequestRates>,
    connect_rates: Arc<ConnectRates>,
}

impl Reload {
    /// Begins with the configuration of the start, and what was made of it.
    pub(super) fn new(
        started: Config,
        machine: Machine,
        hasher: RandomState,
        settings: &Settings,
    ) -> Self {
        Self {
            current: started.clone(),
            started,
            machine,
            hasher,
            request_rates: settings.request_rates.clone(),
            connect_rates: settings.connect_rates.clone(),
        }
    }

    /// The configuration of the start.
    pub(super) fn started(&self) -> &Config {
        &self.started
    }

    /// The configuration that holds.
    pub(super) fn current(&self) -> &Config {
        &self.current
    }

    /// Makes another configuration hold, as far as that is possible; logs and returns how far it
    /// was.
    pub(super) fn apply(
        &mut self,
        config: Config,
        parts: &Reloadable<'_>,
        by: &Author,
    ) -> ReloadReport {
        let held = config::differences(&self.current, &config);
        let since_start = config::differences(&self.started, &config);
        let certificate = match (parts.certificates, &config.tls) {
            (Some(certificates), Some(tls)) => {
                certificates.reload(tls.cert.clone(), tls.key.clone())
            }
            _ => Ok(()),
        };
        let mut changed_apps = config::declared_differences(&self.current.apps, &config.apps);
        let switched = parts.control.reload_declared(declared(&config)).wait();
        parts.log.set(&config.log);
        self.tell_shards(&config, &held, &parts.shards);
        if config.rest.accept_bare_key_id && !self.current.rest.accept_bare_key_id {
            warn_of_bare_key_ids();
        }
        let mut failed = Vec::new();
        let mut errors = Vec::new();
        let (mut tls, mut apps) = (config.tls.clone(), config.apps.clone());
        if let Err(error) = certificate {
            failed.push("tls");
            tracing::error!("the certificate in use is kept: {error}");
            errors.push(format!("the certificate in use is kept: {error}"));
            tls = self.current.tls.take();
        }
        if let Err(error) = switched {
            failed.push("apps");
            tracing::error!("the declared apps are kept as they were: {error}");
            errors.push(format!("the declared apps are kept as they were: {error}"));
            changed_apps.clear();
            apps = std::mem::take(&mut self.current.apps);
        }
        let changed = (&held[..], &changed_apps[..]);
        let applied = report(changed, &since_start, &failed, config.apps.len());
        let fixed = since_start.iter().filter(|change| change.needs_restart);
        let needs_restart = fixed.map(|change| NeedsRestart {
            key: change.key.to_owned(),
            place: place_of(&config, change.key),
        });
        let report = ReloadReport {
            applied,
            needs_restart: needs_restart.collect(),
            errors,
        };
        let (cause, detail) = match failed.is_empty() {
            true => (Cause::Reload, changes(changed, &since_start)),
            false => (Cause::ReloadFailed, report.errors.join("; ")),
        };
        record(cause, &detail, parts.events, by);
        hold_warnings(&config, self.started.admin.listen, parts.events);
        let keys: Vec<_> = report.needs_restart.iter().map(|it| &*it.key).collect();
        let detail = (!keys.is_empty()).then(|| keys.join(", "));
        let events = parts.events;
        events.hold(Cause::ReloadNeedsRestart, detail.as_deref());
        self.current = Config {
            tls,
            apps,
            ..config
        };
        report
    }

    /// Each key as it holds: where a key needs a restart, as it was at the start.
    pub(super) fn settings(&self) -> Vec<Setting> {
        let fixed = config::differences(&self.started, &self.current);
        let is_fixed = |key: &str| {
            let mut fixed = fixed.iter().filter(|change| change.needs_restart);
            fixed.any(|change| change.key == key)
        };
        let now = self.current.settings.iter();
        let of_start = self.started.settings.iter();
        let of_start = of_start.filter(|setting| is_fixed(&setting.key));
        let now = now.filter(|setting| !is_fixed(&setting.key));
        now.chain(of_start).cloned().collect()
    }

    fn tell_shards(&mut self, config: &Config, held: &[Difference], shards: &ShardsHandle) {
        let has_changed = |keys: &[&str]| held.iter().any(|change| keys.contains(&change.key));
        // New rates begin with nothing counted; those that stay the same go on.
        if has_changed(&[
            "rest.rate_per_key",
            "rest.burst_per_key",
            "rest.rate_per_address",
            "rest.burst_per_address",
            "rest.unauthenticated_rate_per_address",
            "rest.unauthenticated_burst_per_address",
        ]) {
            self.request_rates = Arc::new(request_rates(config, &self.hasher));
        }
        if has_changed(&["limits.connects_per_address", "limits.connects_window_sec"]) {
            self.connect_rates = Arc::new(connect_rates(config, &self.hasher));
        }
        let rates = (self.request_rates.clone(), self.connect_rates.clone());
        let heard = shards.switch_settings(
            &Arc::new(settings(config, &self.machine, rates)),
            &proxies(config),
        );
        // Ends when every shard has switched, or is gone and has dropped its sender.
        while heard.recv().is_ok() {}
    }
}

/// Where the value of a key comes from.
fn place_of(config: &Config, key: &str) -> String {
    let mut settings = config.settings.iter();
    let found = settings.find(|setting| setting.key == key);
    found.map_or_else(|| "default".to_owned(), |setting| setting.origin.clone())
}

/// Logs what holds now, what does not yet, and what was refused. Returns the keys that changed.
fn report(
    (held, apps): (&[Difference], &[String]),
    since_start: &[Difference],
    failed: &[&str],
    declared_apps: usize,
) -> Vec<String> {
    let fixed = since_start.iter().filter(|change| change.needs_restart);
    let fixed: Vec<_> = fixed.map(|change| change.key).collect();
    if !fixed.is_empty() {
        tracing::warn!(
            keys = %fixed.join(","),
            "these settings need a restart: until then those of the start hold"
        );
    }
    let is_kept = |key: &str| failed.iter().any(|part| key.starts_with(part));
    let changed = held
        .iter()
        .filter(|change| !change.needs_restart && !is_kept(change.key));
    let keys = changed.map(|change| change.key.to_owned());
    let keys: Vec<_> = keys.chain(apps.iter().cloned()).collect();
    let more = match keys.len().saturating_sub(KEYS_LOGGED_MAX) {
        0 => String::new(),
        more => format!(",and {more} more"),
    };
    let changed = keys[..keys.len().min(KEYS_LOGGED_MAX)].join(",") + &more;
    if failed.is_empty() {
        tracing::info!(%changed, declared_apps, "reloaded");
    } else {
        tracing::error!(%changed, "not reloaded: {}; the rest holds", failed.join(", "));
    }
    keys
}

/// Warns of settings that are for development or for old backends, and of an admin listener that
/// other hosts can reach. `admin` is where it listens, whatever the file says by now.
pub(super) fn hold_warnings(config: &Config, admin: Option<SocketAddr>, events: &Events) {
    let is_served = config.file.is_some();
    let explains = is_served && config.auth.explain;
    events.hold(Cause::ExplainOn, explains.then_some(""));
    let accepts = config.rest.accept_bare_key_id;
    events.hold(Cause::BareKeyIdAccepted, accepts.then_some(""));
    let exposed = admin.filter(|it| !it.ip().is_loopback());
    let exposed = exposed.map(|address| address.to_string());
    events.hold(Cause::AdminExposed, exposed.as_deref());
}

/// What holds now, and what needs a restart: names of settings, and no values.
fn changes((held, apps): (&[Difference], &[String]), since_start: &[Difference]) -> String {
    let keys = |list: &[Difference], needs_restart, apps: &[String]| {
        let keys = list.iter().filter(|it| it.needs_restart == needs_restart);
        let keys = keys.map(|it| it.key.to_owned());
        keys.chain(apps.iter().cloned())
            .collect::<Vec<_>>()
            .join(", ")
    };
    detail(&keys(held, false, apps), &keys(since_start, true, &[]))
}

/// Records that the configuration was read again.
pub(super) fn record(cause: Cause, detail: &str, events: &Events, by: &Author) {
    let numbers = [by.session_number()];
    let record = Record {
        numbers: &numbers,
        second: detail,
        ..Record::new(Kind::Admin, cause)
    };
    events.record(&record.by(by));
}

/// Names of settings that hold now, and of those that need a restart.
fn detail(held: &str, fixed: &str) -> String {
    match (held.is_empty(), fixed.is_empty()) {
        (_, true) => held.to_owned(),
        (true, false) => format!("needs a restart: {fixed}"),
        (false, false) => format!("{held}; needs a restart: {fixed}"),
    }
}

/// Returns the shards' settings, with these rates of REST requests and of connects.
pub(super) fn settings(
    config: &Config,
    machine: &Machine,
    (request_rates, connect_rates): (Arc<RequestRates>, Arc<ConnectRates>),
) -> Settings {
    Settings {
        reject_with_close: config.auth.reject_with == RejectWith::Close,
        explain: config.auth.explain,
        accept_bare_key_id: config.rest.accept_bare_key_id,
        trusted_proxies: TrustedProxies::new(&config.server.trusted_proxies),
        request_rates,
        connect_rates,
        limits: limits(config, machine),
    }
}

/// Returns what of whom is kept in events.
pub(super) fn privacy(config: &Config) -> Privacy {
    Privacy {
        addresses: match config.events.addresses {
            EventsAddresses::Full => Addresses::Full,
            EventsAddresses::Masked => Addresses::Masked,
            EventsAddresses::Off => Addresses::Off,
        },
        peers: (config.events.peers == EventsPeers::Hashed).then(RandomState::new),
    }
}

/// Returns which events are logged.
pub(super) fn log_events(config: &Config) -> LogEvents {
    match config.log.events {
        config::LogEvents::Summary => LogEvents::Summary,
        config::LogEvents::All => LogEvents::All,
        config::LogEvents::Off => LogEvents::Off,
    }
}

/// Returns the events of running shards, and of the process.
pub(super) fn events(
    config: &Config,
    shards: &RunningShards,
    privacy: Privacy,
    clock: Clock,
) -> Events {
    let moment = move || {
        let (now, mono_ns) = clock.now_and_ns();
        Moment {
            mono_ns,
            unix_ms: now.unix_ms,
        }
    };
    let rings = match config.events.memory_per_shard {
        0 => Vec::new(),
        _ => shards.rings(),
    };
    Events::new(rings, privacy, Box::new(moment)).with_feed(Feed::new(shards.feed(), draw_number()))
}

/// Returns the proxies whose connections begin with a PROXY protocol header.
pub(super) fn proxies(config: &Config) -> TrustedProxies {
    if config.server.proxy_protocol {
        TrustedProxies::new(&config.server.trusted_proxies)
    } else {
        TrustedProxies::default()
    }
}

/// Returns rates of REST requests and of connects, with nothing counted.
pub(super) fn rates(
    config: &Config,
    hasher: &RandomState,
) -> (Arc<RequestRates>, Arc<ConnectRates>) {
    let requests = Arc::new(request_rates(config, hasher));
    (requests, Arc::new(connect_rates(config, hasher)))
}

fn request_rates(config: &Config, hasher: &RandomState) -> RequestRates {
    let rest = &config.rest;
    let limits = RequestLimits {
        per_key: bucket(rest.rate_per_key, rest.burst_per_key),
        per_address: bucket(rest.rate_per_address, rest.burst_per_address),
        without_key: bucket(
            rest.unauthenticated_rate_per_address,
            rest.unauthenticated_burst_per_address,
        ),
    };
    RequestRates::new(&limits, hasher)
}

fn connect_rates(config: &Config, hasher: &RandomState) -> ConnectRates {
    let limits = &config.limits;
    ConnectRates::new(
        limits.connects_per_address,
        limits.connects_window_sec * 1_000,
        hasher,
    )
}

fn limits(config: &Config, machine: &Machine) -> ShardLimits {
    let limits = &config.limits;
    ShardLimits {
        message_bytes_max: limits.message_bytes,
        channels_per_connection: limits.channels_per_connection as usize,
        message_rate: bucket(limits.message_rate, limits.message_burst),
        outbound_queue_bytes: limits.outbound_queue_bytes,
        head_bytes_max: limits.head_bytes,
        rest_body_bytes_max: limits.rest_body_bytes,
        head_timeout_ms: limits.head_timeout_ms,
        keep_alive_ms: config.rest.keep_alive_ms,
        ping_after_ms: limits.ping_after_ms,
        drop_after_ms: limits.drop_after_ms,
        unauthenticated_connections_max: unauthenticated_per_shard(limits, machine),
        history: config.history,
    }
}

/// Each shard's share of the connections that may be there without a good credential: the kernel
/// spreads connects evenly. 0 in the configuration is a quarter of the descriptors.
fn unauthenticated_per_shard(limits: &LimitsConfig, machine: &Machine) -> usize {
    let quarter = machine.open_files_max.map_or(u64::MAX, |files| files / 4);
    let max = match limits.unauthenticated_connections {
        0 => usize::try_from(quarter).unwrap_or(usize::MAX),
        most => most as usize,
    };
    max.div_ceil(machine.shard_count.into())
}

fn bucket(rate_per_sec: u32, burst: u32) -> BucketLimits {
    BucketLimits {
        rate_per_sec,
        burst,
    }
}

/// A setting that old backends may need, and nobody else.
pub(super) fn warn_of_bare_key_ids() {
    tracing::warn!(
        "rest.accept_bare_key_id is on: whoever has seen a token of a key can mint others and \
         disconnect peers; turn it off and use API secrets"
    );
}

/// The apps that the file declares, for the control plane.
pub(super) fn declared(config: &Config) -> Declared {
    let file = config
        .file
        .as_deref()
        .unwrap_or(Path::new("the configuration"));
    Declared {
        file: file.into(),
        apps: config.apps.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    #[test]
    fn the_defaults_of_a_shard_are_those_of_the_configuration() {
        let environment = Environment::default();
        let config = Config::from_text(Path::new("r.toml"), "", &environment).unwrap();
        let machine = Machine {
            cores: vec![0],
            shard_count: 1,
            cpu_millicores_max: None,
            open_files_max: None,
            warnings: Vec::new(),
        };
        assert_eq!(limits(&config, &machine), ShardLimits::default());
    }

    #[test]
    fn what_needs_a_restart_is_told_after_what_holds_if_anything_does() {
        for (held, fixed, told) in [
            ("log.level", "", "log.level"),
            ("", "shards", "needs a restart: shards"),
            ("log.level", "shards", "log.level; needs a restart: shards"),
        ] {
            assert_eq!(detail(held, fixed), told);
        }
    }
}
