//! What the parts of a server are started with, out of the configuration.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ahash::RandomState;

use crate::config::{self, Config};
use crate::control::{AdminOptions, ControlOptions, ControlPlane, InheritedControl};
use crate::runtime::boot::Options;
use crate::runtime::cgroup::Cgroups;
use crate::runtime::clock::Clock;
use crate::runtime::listener::Endpoint;
use crate::runtime::memory::Memory;
use crate::runtime::preflight::Machine;
use crate::runtime::reload;
use crate::shard::settings::Settings;
use crate::tls::TlsConfig;

/// Where history on disk is, in the data directory.
const HISTORY_DIR: &str = "history";

/// What the control plane is started with.
pub(super) fn control_options(
    config: &Config,
    clock: Clock,
    inherited: Option<InheritedControl>,
) -> ControlOptions {
    let token_file = token_file(config);
    if token_file != config.admin.token_file {
        tracing::warn!(
            path = %token_file.display(),
            "the admin token beside the configuration is used; move it to {}",
            config.admin.token_file.display()
        );
    }
    ControlOptions {
        data_dir: config.store.data_dir.clone(),
        master_key_file: config.store.master_key_file.clone(),
        admin: config.admin.listen.map(|listen| AdminOptions {
            listen,
            token_file,
            read_token_file: config.admin.read_token_file.clone(),
            protect_metrics: config.admin.protect_metrics,
            hosts: config.admin.hosts.clone(),
        }),
        declared: reload::declared(config),
        log_events: reload::log_events(config),
        clock: Arc::new(move || clock.now()),
        store_gate: None,
        inherited,
    }
}

/// The admin token's file: earlier versions made it beside the configuration, and one that is
/// there goes on to be used where the data directory has none.
pub(super) fn token_file(config: &Config) -> PathBuf {
    const NAME: &str = "admin.token";
    let file = &config.admin.token_file;
    let beside = config.file.as_deref().map(|it| it.with_file_name(NAME));
    match beside {
        Some(beside)
            if *file == config.store.data_dir.join(NAME) && !file.exists() && beside.exists() =>
        {
            beside
        }
        _ => file.clone(),
    }
}

/// All public listeners, plain ones first.
pub(super) fn endpoints(config: &Config) -> Vec<Endpoint> {
    let server = &config.server.listen[..];
    let (plain, tls) = match &config.tls {
        None => (server, &[][..]),
        Some(config::TlsConfig { listen: None, .. }) => (&[][..], server),
        Some(config::TlsConfig {
            listen: Some(listen),
            ..
        }) => (server, &listen[..]),
    };
    let endpoint = |tls| {
        move |address: &SocketAddr| Endpoint {
            address: *address,
            tls,
        }
    };
    let plain = plain.iter().map(endpoint(false));
    plain.chain(tls.iter().map(endpoint(true))).collect()
}

/// What the shards are started with.
pub(super) fn options(
    (config, clock): (&Config, Clock),
    machine: &Machine,
    control: &ControlPlane,
    tls: Option<TlsConfig>,
    (settings, hasher, start_page): (&Settings, &RandomState, String),
) -> Options {
    let memory = Memory::configured(config.limits.memory_bytes, Cgroups::of_process());
    Options {
        memory: Arc::new(memory),
        listen: endpoints(config),
        tls,
        trusted_proxies: settings.trusted_proxies.clone(),
        proxy_protocol: config.server.proxy_protocol,
        shard_count: machine.shard_count,
        cores: machine.cores.clone(),
        follow_queues: config.server.follow_queues,
        limits: settings.limits.clone(),
        reject_with_close: settings.reject_with_close,
        explain: settings.explain,
        events_bytes: config.events.memory_per_shard,
        feed_bytes: config.feed.memory_per_shard,
        events_privacy: reload::privacy(config),
        accept_bare_key_id: settings.accept_bare_key_id,
        hasher: hasher.clone(),
        request_rates: settings.request_rates.clone(),
        connect_rates: settings.connect_rates.clone(),
        control: Some(control.handle()),
        rights: control.rights(),
        clock,
        start_page: start_page.into(),
        handler: None,
        history_dir: Some(config.store.data_dir.join(HISTORY_DIR)),
    }
}
