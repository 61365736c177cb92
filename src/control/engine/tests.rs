//! Time and periods, with a clock that does as it is told.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;

use super::*;
use crate::control::compile::Compiler;
use crate::control::store::{self, StoreSource};
use crate::control::testing::{StubShards, scratch};
use crate::domain::rights::App;
use crate::domain::time::Now;

const DAY_MS: u64 = 86_400_000;
/// 2026-01-01T00:00:00Z, and the month after.
const JANUARY_MS: u64 = 1_767_225_600_000;
const FEBRUARY_MS: u64 = 1_769_904_000_000;

#[derive(Default)]
struct TestClocks {
    mono_ms: AtomicU64,
    unix_ms: AtomicU64,
}

impl TestClocks {
    fn pass(&self, ms: u64) {
        self.mono_ms.fetch_add(ms, Ordering::SeqCst);
        self.unix_ms.fetch_add(ms, Ordering::SeqCst);
    }

    fn jump_to(&self, unix_ms: u64) {
        self.unix_ms.store(unix_ms, Ordering::SeqCst);
    }
}

const BY: Author = Author::local(AuthorKind::AdminToken);

struct Running {
    engine: Engine,
    clocks: Arc<TestClocks>,
    _dir: tempfile::TempDir,
}

impl Running {
    /// An engine with one app, at that Unix time in milliseconds.
    async fn since(unix_ms: u64) -> Self {
        let dir = scratch();
        let key = dir.path().join("master.key");
        let opened = store::open(dir.path(), &key, None).unwrap();
        let compiler = Compiler::new(opened.sealer.ok());
        let registry = Registry::load(compiler, opened.rows).unwrap();
        let clocks = Arc::new(TestClocks::default());
        clocks.jump_to(unix_ms);
        let told = Arc::clone(&clocks);
        let engine = Engine::new(
            Arc::new(registry),
            StoreWriter::start(StoreSource::Open(opened.store)).unwrap(),
            Ledger::new(vec![]),
            Arc::new(StubShards::default()),
            Arc::new(move || Now {
                mono_ms: told.mono_ms.load(Ordering::SeqCst),
                unix_ms: told.unix_ms.load(Ordering::SeqCst),
            }),
        );
        let body = json!({"appId": "a"}).as_object().unwrap().clone();
        engine.change(Change::CreateApp(body), BY).await.unwrap();
        Self {
            engine,
            clocks,
            _dir: dir,
        }
    }

    fn app(&self) -> Arc<App> {
        Arc::clone(&self.engine.registry().app("a").unwrap().app)
    }

    fn count(&self, messages: u64) {
        let app = self.app();
        self.engine.merge_usage(&[UsageDelta {
            app: app.index,
            period: app.quota.period(),
            messages,
            overage_messages: 0,
            overage_connections: 0,
        }]);
    }

    /// Seconds pass, each with its tick.
    fn seconds(&self, count: u64) {
        for _ in 0..count {
            self.clocks.pass(1_000);
            self.engine.tick();
        }
    }

    /// Start of the period in milliseconds, and its messages.
    fn period(&self) -> (u64, u64) {
        let usage = self.app().gauges.usage().unwrap();
        (usage.start_unix * 1_000, usage.messages)
    }
}

#[tokio::test]
async fn a_clock_that_jumps_and_comes_back_moves_no_period_and_loses_no_count() {
    let running = Running::since(JANUARY_MS + DAY_MS).await;
    running.count(7);
    for wrong_ms in [
        JANUARY_MS + 41 * DAY_MS,
        JANUARY_MS - DAY_MS,
        0,
        u64::MAX / 2,
    ] {
        let right_ms = running.clocks.unix_ms.load(Ordering::SeqCst);
        running.clocks.jump_to(wrong_ms);
        running.seconds(30);
        assert_eq!(running.period(), (JANUARY_MS, 7), "at {wrong_ms}");
        running.clocks.jump_to(right_ms + 30_000);
        running.seconds(2);
        assert_eq!(running.period(), (JANUARY_MS, 7), "after {wrong_ms}");
    }
}

#[tokio::test]
async fn a_clock_that_stays_at_its_new_time_is_followed_there_and_back() {
    let running = Running::since(JANUARY_MS + DAY_MS).await;
    running.count(7);
    running.clocks.jump_to(JANUARY_MS + 41 * DAY_MS);
    running.seconds(200);
    assert_eq!(running.period(), (FEBRUARY_MS, 0));
    running.count(2);
    running.clocks.jump_to(JANUARY_MS + 2 * DAY_MS);
    running.seconds(200);
    assert_eq!(running.period(), (JANUARY_MS, 9));
}

#[tokio::test]
async fn a_period_is_due_to_the_millisecond() {
    let running = Running::since(FEBRUARY_MS - 350).await;
    assert_eq!(running.engine.tick(), Some(Duration::from_millis(350)));
    running.clocks.pass(350);
    running.engine.tick();
    assert_eq!(running.period(), (FEBRUARY_MS, 0));
}

#[tokio::test]
async fn usage_is_not_written_behind_the_deletion_of_its_app() {
    let running = Running::since(JANUARY_MS).await;
    running.count(7);
    let delete = running.engine.change(Change::DeleteApp("a".into()), BY);
    let (deleted, ()) = tokio::join!(delete, running.engine.save_usage());
    deleted.unwrap();
    let (engine, dir) = (running.engine, running._dir);
    engine.end().await;
    let opened = store::open(dir.path(), &dir.path().join("master.key"), None).unwrap();
    assert_eq!(opened.rows.usage, []);
}
