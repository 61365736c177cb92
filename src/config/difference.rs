//! What differs between two configurations, key by key, and whether a running server can
//! follow.

use super::model::{Config, TlsConfig};

/// A key whose value is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Dotted, `limits.message_rate`; or a section that has come or gone, `tls`.
    pub key: &'static str,
    /// It holds from the next start on, not before.
    pub needs_restart: bool,
}

/// Whether a key is another one in the second.
type Differs<C> = fn(&C, &C) -> bool;

/// One row: the key, whether it needs a restart, whether it differs.
macro_rules! rows {
    ($($section:ident { $($key:ident: $needs_restart:literal,)* })*) => {
        &[$($((
            concat!(stringify!($section), ".", stringify!($key)),
            $needs_restart,
            |before, after| before.$section.$key != after.$section.$key,
        )),*),*]
    };
}

/// Every key outside of `[tls]` and `[[apps]]`.
const ROWS: &[(&str, bool, Differs<Config>)] = rows! {
    server {
        listen: true,
        public_url: true,
        shards: true,
        cores: true,
        follow_queues: true,
        trusted_proxies: false,
        proxy_protocol: false,
        pid_file: true,
    }
    admin {
        listen: true,
        token_file: true,
        read_token_file: true,
        protect_metrics: true,
        console: true,
        hosts: true,
    }
    store {
        data_dir: true,
        master_key_file: true,
    }
    auth {
        reject_with: false,
        explain: false,
    }
    rest {
        accept_bare_key_id: false,
        rate_per_key: false,
        burst_per_key: false,
        rate_per_address: false,
        burst_per_address: false,
        unauthenticated_rate_per_address: false,
        unauthenticated_burst_per_address: false,
        keep_alive_ms: false,
    }
    limits {
        message_bytes: false,
        channels_per_connection: false,
        message_rate: false,
        message_burst: false,
        connects_per_address: false,
        connects_window_sec: false,
        outbound_queue_bytes: false,
        rest_body_bytes: false,
        head_bytes: false,
        head_timeout_ms: false,
        ping_after_ms: false,
        drop_after_ms: false,
        memory_bytes: true,
        unauthenticated_connections: false,
    }
    shutdown {
        delay_ms: false,
        drain_ms: false,
        retry_after_ms: false,
    }
    handover {
        binary: false,
        prepare_ms: false,
        pause_max_ms: false,
        state_max_bytes: false,
    }
    events {
        memory_per_shard: true,
        addresses: true,
        peers: true,
    }
    feed {
        memory_per_shard: true,
    }
    history {
        memory_bytes: false,
        dedupe_sec: false,
        replay_messages: false,
        replay_bytes: false,
        fsync: true,
        ack: true,
    }
    log {
        level: false,
        format: false,
        events: true,
    }
};

/// Of `[tls]`, while it is there. Whether it is, and where it listens, is decided at the start.
const TLS_ROWS: [(&str, bool, Differs<TlsConfig>); 3] = [
    ("tls.cert", false, |before, after| before.cert != after.cert),
    ("tls.key", false, |before, after| before.key != after.key),
    ("tls.listen", true, |before, after| {
        before.listen != after.listen
    }),
];

/// Every key that can be set outside of `[[apps]]`, dotted.
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    let rows = ROWS.iter().map(|(key, ..)| *key);
    rows.chain(TLS_ROWS.iter().map(|(key, ..)| *key))
}

/// Returns whether a running server cannot follow a change of this key.
#[must_use]
pub(crate) fn needs_restart(key: &str) -> bool {
    let rows = ROWS.iter().map(|(name, restart, _)| (*name, *restart));
    let tls = TLS_ROWS.iter().map(|(name, restart, _)| (*name, *restart));
    let mut all = rows.chain(tls);
    all.any(|(name, restart)| name == key && restart)
}

/// Returns the keys that differ, those of `[[apps]]` aside.
#[must_use]
pub(crate) fn differences(before: &Config, after: &Config) -> Vec<Difference> {
    let is_named = |key: &str| !(follows_data_dir(before, key) && follows_data_dir(after, key));
    let rows = ROWS.iter().filter(|(_, _, differs)| differs(before, after));
    let rows = rows.filter(|(key, ..)| is_named(key));
    let difference = |(key, needs_restart)| Difference { key, needs_restart };
    let mut differences: Vec<_> = rows
        .map(|(key, restart, _)| difference((*key, *restart)))
        .collect();
    match (&before.tls, &after.tls) {
        (Some(before), Some(after)) => {
            let rows = TLS_ROWS
                .iter()
                .filter(|(_, _, differs)| differs(before, after));
            differences.extend(rows.map(|(key, restart, _)| difference((*key, *restart))));
        }
        (None, None) => {}
        _ => differences.push(difference(("tls", true))),
    }
    if history_rules_differ(before, after) {
        differences.push(difference(("apps.history", false)));
    }
    differences
}

/// Whether an app that both declare has other rules for what its channels keep.
fn history_rules_differ(before: &Config, after: &Config) -> bool {
    let records = || before.apps.iter().map(|app| &app.record);
    after
        .apps
        .iter()
        .map(|app| &app.record)
        .any(|now| records().any(|then| then.app_id == now.app_id && then.history != now.history))
}

/// Whether a path is the one in the data directory that it is by default: then another
/// directory is one change, not three.
fn follows_data_dir(config: &Config, key: &str) -> bool {
    let data_dir = &config.store.data_dir;
    match key {
        "store.master_key_file" => config.store.master_key_file == data_dir.join("master.key"),
        "admin.token_file" => config.admin.token_file == data_dir.join("admin.token"),
        _ => false,
    }
}
