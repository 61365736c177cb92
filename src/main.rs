//! The `ringmesh` executable.
use ringmesh::domain::rights::*;
use ringmesh::domain::token_bucket::BucketLimits;
use ringmesh::ids::AppIndex;
use ringmesh::proto::{actions::Actions, claims::Secret, pattern::Pattern};
use ringmesh::runtime::{boot::*, clock::Clock};
use ringmesh::shard::state::ShardLimits;
use std::sync::Arc;
fn main() {
    let mut rights = Rights::new(1);
    let app = Arc::new(App {
        index: AppIndex(0),
        id: "app_dev".into(),
        suspended: false,
        connections_max: None,
        overages: false,
        direct_needs_shared_channel: false,
        turn: None,
        message_limits: Some(BucketLimits {
            rate_per_sec: 0,
            burst: 0,
        }),
        gauges: Default::default(),
    });
    rights.insert_app(app.clone());
    let all = Actions::parse(["publish", "subscribe", "presence", "send"]).unwrap();
    rights.insert_key(Arc::new(Key {
        id: "pk_live_dev".into(),
        app: app.clone(),
        patterns: Box::new([Pattern::parse("**").unwrap()]),
        actions: all,
        auto_inject_turn: false,
        kind: KeyKind::Publishable {
            allowed_origins: Box::new([]),
        },
    }));
    rights.insert_key(Arc::new(Key {
        id: "sk_id_dev".into(),
        app,
        patterns: Box::new([Pattern::parse("**").unwrap()]),
        actions: all,
        auto_inject_turn: false,
        kind: KeyKind::Secret(SigningMaterial::Ready {
            current: Arc::new(Secret::new(b"secret")),
            previous: None,
        }),
    }));
    let n: u16 = std::env::args()
        .nth(1)
        .and_then(|s| s.parse().ok())
        .unwrap_or(1);
    let port: u16 = std::env::args()
        .nth(2)
        .and_then(|s| s.parse().ok())
        .unwrap_or(8080);
    let shards = Shards::start(Options {
        listen: vec![([127, 0, 0, 1], port).into()],
        shard_count: n,
        cores: vec![0, 1],
        limits: ShardLimits {
            message_bytes_max: 65536,
            channels_per_connection: 100,
            message_rate: BucketLimits {
                rate_per_sec: 100,
                burst: 200,
            },
            outbound_queue_bytes: 1 << 20,
            head_bytes_max: 24 * 1024,
            head_timeout_ms: 5000,
            keep_alive_ms: 60000,
            ping_after_ms: 30000,
            drop_after_ms: 75000,
        },
        reject_with_close: false,
        connect_rates: Arc::new(ringmesh::domain::connect_rate::ConnectRates::new(0, 60000)),
        rights: Arc::new(rights),
        clock: Clock::start(),
    })
    .map_err(|e| e.to_string())
    .unwrap();
    println!("{:?}", shards.addresses());
    loop {
        std::thread::park();
    }
}
