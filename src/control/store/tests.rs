//! The store on disk: permissions, versions, sealed secrets, and damage that is refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use redb::Database;

use super::open::Opened;
use super::row::{AppRow, KeyRow, SecretPair, SecretsRow, UsageRow};
use super::seal::Sealer;
use super::tables::{KEYS, META, META_FORMAT};
use super::*;
use crate::domain::record::{
    AppRecord, AppStatus, DirectScope, FeedRecord, KeyRecord, KeyType, PlanRecord,
};
use crate::domain::usage::PeriodUsage;

mod backup;

const MASTER_KEY_FILE_NAME: &str = "master.key";

fn app(app_id: &str) -> AppRow {
    AppRow {
        record: AppRecord {
            app_id: app_id.into(),
            name: "Shop".into(),
            status: AppStatus::Active,
            plan: PlanRecord {
                max_messages_per_period: Some(5),
                ..PlanRecord::default()
            },
            direct_scope: DirectScope::SharedChannel,
            turn: None,
            limits: None,
            feed: FeedRecord::default(),
            history: Vec::new(),
            created_at: 1,
        },
        turn_secret: None,
    }
}

fn key(key_id: &str, sealer: &Sealer) -> KeyRow {
    let pair = SecretPair {
        signing: sealer.seal(key_id, b"sk_secret_x").unwrap(),
        api_sha256: [3; 32],
    };
    KeyRow {
        record: KeyRecord {
            key_id: key_id.into(),
            app_id: "app_a".into(),
            key_type: KeyType::Secret,
            name: String::new(),
            channel_patterns: vec!["**".into()],
            actions: vec!["publish".into()],
            allowed_origins: vec![],
            auto_inject_turn: true,
            created_at: 2,
        },
        secrets: Some(SecretsRow {
            current: pair.clone(),
            previous: Some((pair, 99)),
        }),
    }
}

/// In memory, where an fsync costs nothing.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

fn open_in(dir: &Path) -> Result<Opened, StoreError> {
    open(dir, &dir.join(MASTER_KEY_FILE_NAME), None)
}

fn error_of(dir: &Path) -> String {
    match open_in(dir) {
        Ok(_) => panic!("opened"),
        Err(error) => error.to_string(),
    }
}

/// A store with an app, a key and usage, closed.
fn filled() -> (tempfile::TempDir, Rows) {
    let dir = scratch();
    let mut opened = open_in(dir.path()).unwrap();
    let sealer = opened.sealer.unwrap();
    let usage = UsageRow {
        app_id: "app_a".into(),
        usage: PeriodUsage {
            start_unix: 1,
            end_unix: 2,
            peak_connections: 3,
            messages: 4,
            overage_messages: 5,
            overage_connections: 6,
        },
        before: None,
    };
    let rows = Rows {
        apps: vec![app("app_a")],
        keys: vec![key("sk_id_a", &sealer)],
        usage: vec![usage.clone()],
    };
    let edits = [
        Edit::PutApp(rows.apps[0].clone()),
        Edit::PutKey(rows.keys[0].clone()),
    ];
    opened.store.commit(&edits).unwrap();
    opened.store.commit(&[Edit::PutUsage(usage)]).unwrap();
    (dir, rows)
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let (dir, rows) = filled();
    let mut opened = open_in(dir.path()).unwrap();
    assert_eq!(opened.rows, rows);
    assert!(opened.sealer.is_ok());
    let edits = [
        Edit::DeleteKey("sk_id_a".into()),
        Edit::DeleteApp("app_a".into()),
    ];
    opened.store.commit(&edits).unwrap();
    drop(opened);
    assert_eq!(open_in(dir.path()).unwrap().rows, Rows::default());
}

#[test]
fn its_files_are_private_and_hold_no_plain_secret() {
    let (dir, _) = filled();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(dir.path()), 0o700);
    for name in [FILE_NAME, MASTER_KEY_FILE_NAME] {
        assert_eq!(mode(&dir.path().join(name)), 0o600, "{name}");
    }
    let content = fs::read(dir.path().join(FILE_NAME)).unwrap();
    assert!(!content.windows(11).any(|window| window == b"sk_secret_x"));
}

#[test]
fn a_copy_taken_at_any_moment_has_every_acknowledged_change_and_no_half_one() {
    let dir = scratch();
    let mut opened = open_in(dir.path()).unwrap();
    let sealer = opened.sealer.as_ref().unwrap();
    let key_file = dir.path().join(MASTER_KEY_FILE_NAME);
    let crashed = scratch();
    fs::copy(&key_file, crashed.path().join(MASTER_KEY_FILE_NAME)).unwrap();
    for change in 0..20 {
        let app_id = format!("app_{change:02}");
        let mut key = key(&format!("sk_id_{change:02}"), sealer);
        key.record.app_id.clone_from(&app_id);
        opened
            .store
            .commit(&[Edit::PutApp(app(&app_id)), Edit::PutKey(key)])
            .unwrap();
        // What a kill -9 leaves behind: the file as it is, with the database still open.
        fs::copy(dir.path().join(FILE_NAME), crashed.path().join(FILE_NAME)).unwrap();
        let rows = open_in(crashed.path()).unwrap().rows;
        let apps: Vec<_> = rows
            .apps
            .iter()
            .map(|row| row.record.app_id.as_str())
            .collect();
        let owners: Vec<_> = rows
            .keys
            .iter()
            .map(|row| row.record.app_id.as_str())
            .collect();
        assert_eq!(apps, owners);
        assert_eq!(apps.last(), Some(&app_id.as_str()));
        assert_eq!(apps.len(), change + 1);
    }
}

#[test]
fn a_second_process_is_told_that_the_store_is_in_use() {
    let (dir, _) = filled();
    let _first = open_in(dir.path()).unwrap();
    // The lock belongs to the open file, so a second open stands for a second process.
    let error = error_of(dir.path());
    assert!(
        error.contains("in use by another ringmesh process"),
        "{error}"
    );
}

#[test]
fn a_wrong_or_missing_master_key_is_told_apart_and_never_replaced() {
    let (dir, rows) = filled();
    let key_file = dir.path().join(MASTER_KEY_FILE_NAME);
    fs::write(
        &key_file,
        base64::Engine::encode(&base64::prelude::BASE64_STANDARD, [1; 32]),
    )
    .unwrap();
    let opened = open_in(dir.path()).unwrap();
    assert_eq!(opened.rows, rows, "everything else is there");
    let error = opened.sealer.err().unwrap();
    assert!(
        matches!(error, master_key::MasterKeyError::Wrong(_)),
        "{error}"
    );
    drop(opened.store);

    fs::remove_file(&key_file).unwrap();
    let opened = open_in(dir.path()).unwrap();
    let error = opened.sealer.err().unwrap();
    assert!(
        matches!(error, master_key::MasterKeyError::File(..)),
        "{error}"
    );
    assert!(!key_file.exists());
}

#[test]
fn a_malformed_key_beside_no_store_is_refused() {
    let dir = scratch();
    fs::write(dir.path().join(MASTER_KEY_FILE_NAME), "short").unwrap();
    let error = error_of(dir.path());
    assert!(error.contains("not 32 bytes in base64"), "{error}");
    assert!(!dir.path().join(FILE_NAME).exists());
}

#[test]
fn a_newer_format_is_refused() {
    let (dir, _) = filled();
    let path = dir.path().join(FILE_NAME);
    let database = Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(META)
        .unwrap()
        .insert(META_FORMAT, b"2".as_slice())
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = error_of(dir.path());
    assert!(
        error.contains("has format 2, written by a newer ringmesh"),
        "{error}"
    );
}

#[test]
fn a_row_that_is_no_row_is_damage() {
    let (dir, _) = filled();
    let database = Database::open(dir.path().join(FILE_NAME)).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(KEYS)
        .unwrap()
        .insert("sk_id_b", b"{}".as_slice())
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = error_of(dir.path());
    assert!(error.contains("is damaged (keys sk_id_b: "), "{error}");
}

#[test]
fn an_unfinished_new_store_is_begun_again() {
    let dir = scratch();
    fs::write(dir.path().join("store.redb.new"), b"half").unwrap();
    assert_eq!(open_in(dir.path()).unwrap().rows, Rows::default());
    assert!(!dir.path().join("store.redb.new").exists());
}

#[test]
fn a_damaged_file_is_refused_or_read_right_and_never_made_anew() {
    let (dir, rows) = filled();
    let path = dir.path().join(FILE_NAME);
    let whole = fs::read(&path).unwrap();
    let mut wrong = Vec::new();
    let mut check = |content: &[u8], what: &str| {
        fs::write(&path, content).unwrap();
        match open_in(dir.path()) {
            // Damage in a page that nothing uses any more.
            Ok(opened) => {
                if opened.rows != rows {
                    wrong.push(what.to_owned())
                }
            }
            Err(StoreError::Damaged(..) | StoreError::Newer(..)) => {}
            Err(error) => panic!("{what}: {error}"),
        }
    };
    for len in [0, 1, 100, 320, 4_096, whole.len() / 2, whole.len() - 1] {
        check(&whole[..len], &format!("cut to {len} bytes"));
        assert_eq!(fs::read(&path).unwrap().len(), len, "made anew");
    }
    check(&vec![0; whole.len()], "zeros");
    check(b"not a store at all", "text");
    let stride = (whole.len() / 400).max(1);
    for at in (0..512).chain((512..whole.len()).step_by(stride)) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        check(&damaged, &format!("byte {at}"));
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}
