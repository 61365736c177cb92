//! SIGHUP: the configuration is read again, and what can change does.
//!
//! A file that cannot be read or is wrong changes nothing. Otherwise each part is switched by
//! itself: one that fails stays as it was, is logged with its reason, and is not called
//! reloaded. What is decided at the start is named with the keys that need a restart.

use std::path::Path;
use std::sync::Arc;

use ahash::RandomState;

use crate::config::{self, Config, Difference, LimitsConfig, RejectWith};
use crate::control::ControlHandle;
use crate::domain::connect_rate::ConnectRates;
use crate::domain::declared::Declared;
use crate::domain::request_rate::{RequestLimits, RequestRates};
use crate::domain::token_bucket::BucketLimits;
use crate::log::Log;
use crate::proto::forwarded::TrustedProxies;
use crate::runtime::boot::ShardsHandle;
use crate::runtime::certificates::Certificates;
use crate::runtime::preflight::Machine;
use crate::shard::config::ShardLimits;
use crate::shard::settings::Settings;

/// The parts of a running server that take a new configuration.
pub(super) struct Parts<'s> {
    pub(super) shards: ShardsHandle,
    pub(super) certificates: Option<&'s Certificates>,
    pub(super) control: &'s ControlHandle,
    pub(super) log: &'s Log,
}

/// The configuration that the server was started with, and the one that holds.
pub(super) struct Reload {
    started: Config,
    current: Config,
    machine: Machine,
    request_rates: Arc<RequestRates>,
    connect_rates: Arc<ConnectRates>,
}

impl Reload {
    /// Begins with the configuration of the start, and what was made of it.
    pub(super) fn new(started: Config, machine: Machine, settings: &Settings) -> Self {
        Self {
            current: started.clone(),
            started,
            machine,
            request_rates: settings.request_rates.clone(),
            connect_rates: settings.connect_rates.clone(),
        }
    }

    /// The configuration that holds.
    pub(super) fn current(&self) -> &Config {
        &self.current
    }

    /// Makes another configuration hold, as far as that is possible, and logs how far it was.
    pub(super) fn apply(&mut self, config: Config, parts: &Parts<'_>) {
        let held = config::differences(&self.current, &config);
        let since_start = config::differences(&self.started, &config);
        let certificate = match (parts.certificates, &config.tls) {
            (Some(certificates), Some(tls)) => {
                certificates.reload(tls.cert.clone(), tls.key.clone())
            }
            _ => Ok(()),
        };
        let apps = parts.control.reload_declared(declared(&config)).wait();
        parts.log.set(&config.log);
        self.tell_shards(&config, &held, &parts.shards);
        if config.rest.accept_bare_key_id && !self.current.rest.accept_bare_key_id {
            warn_of_bare_key_ids();
        }
        let mut failed = Vec::new();
        let mut tls = config.tls.clone();
        if let Err(error) = certificate {
            failed.push("tls");
            tracing::error!("the certificate in use is kept: {error}");
            tls = self.current.tls.take();
        }
        if let Err(error) = apps {
            failed.push("apps");
            tracing::error!("the declared apps are kept as they were: {error}");
        }
        report(&held, &since_start, &failed, config.apps.len());
        self.current = Config { tls, ..config };
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
            self.request_rates = Arc::new(request_rates(config));
        }
        if has_changed(&["limits.connects_per_address", "limits.connects_window_sec"]) {
            self.connect_rates = Arc::new(connect_rates(config));
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

/// Logs what holds now, what does not yet, and what was refused.
fn report(held: &[Difference], since_start: &[Difference], failed: &[&str], declared_apps: usize) {
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
    let changed: Vec<_> = changed.map(|change| change.key).collect();
    let changed = changed.join(",");
    if failed.is_empty() {
        tracing::info!(%changed, declared_apps, "reloaded");
    } else {
        tracing::error!(%changed, "not reloaded: {}; the rest holds", failed.join(", "));
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
        accept_bare_key_id: config.rest.accept_bare_key_id,
        trusted_proxies: TrustedProxies::new(&config.server.trusted_proxies),
        request_rates,
        connect_rates,
        limits: limits(config, machine),
    }
}

/// Returns the proxies whose connections begin with a PROXY protocol header.
pub(super) fn proxies(config: &Config) -> TrustedProxies {
    if config.server.proxy_protocol {
        TrustedProxies::new(&config.server.trusted_proxies)
    } else {
        TrustedProxies::default()
    }
}

pub(super) fn request_rates(config: &Config) -> RequestRates {
    let rest = &config.rest;
    let limits = RequestLimits {
        per_key: bucket(rest.rate_per_key, rest.burst_per_key),
        per_address: bucket(rest.rate_per_address, rest.burst_per_address),
        without_key: bucket(
            rest.unauthenticated_rate_per_address,
            rest.unauthenticated_burst_per_address,
        ),
    };
    RequestRates::new(&limits, &RandomState::new())
}

pub(super) fn connect_rates(config: &Config) -> ConnectRates {
    let limits = &config.limits;
    ConnectRates::new(
        limits.connects_per_address,
        limits.connects_window_sec * 1_000,
        &RandomState::new(),
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
}
