//! The store's rows and its file, for fuzz targets: what is believed of them, and what is not.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::compile::Compiler;
use super::ledger::Ledger;
use super::registry::Registry;
use super::store::row::{AppRow, KeyRow, UsageRow};
use super::store::seal::{MASTER_KEY_BYTES, Sealer};
use super::store::{self, Edit, Rows};

/// An app as the store keeps it.
pub const APP_ROW: &str = r#"{"record":{"appId":"a","name":"","status":"active",
    "plan":{"maxMessagesPerPeriod":5,"periodStartUnix":7,"periodDays":30},"directScope":"app",
    "turn":{"urls":["turn:h"],"ttlSec":60},"limits":{"messageRate":1,"messageBurst":2},
    "createdAt":1},"turn_secret":"AAAA"}"#;
/// A key of that app.
pub const KEY_ROW: &str = r#"{"record":{"keyId":"sk_id_a","appId":"a","type":"secret","name":"",
    "channelPatterns":["room-*"],"actions":["publish"],"allowedOrigins":["https://*.a.example"],
    "autoInjectTurn":true,"createdAt":2},"secrets":{"current":{"signing":"AAAA",
    "api_sha256":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]},
    "previous":null}}"#;
/// What that app has used.
pub const USAGE_ROW: &str = r#"{"app_id":"a","start_unix":1,"end_unix":2,"peak_connections":3,
    "messages":4,"overage_messages":5,"overage_connections":6}"#;

/// Makes of three rows what the control plane makes of them when it starts, and for an hour after
/// `now_unix`.
///
/// # Errors
/// Why the start is refused.
///
/// # Panics
/// Where the rows are believed, and are others when they have been written and read again.
pub fn believe_rows(app: &[u8], key: &[u8], usage: &[u8], now_unix: u64) -> Result<(), String> {
    let (app, key): (AppRow, KeyRow) = (row(app)?, row(key)?);
    let usage: UsageRow = row(usage)?;
    let rows = Rows {
        apps: vec![app],
        keys: vec![key],
        usage: Vec::new(),
    };
    let compiler = Compiler::new(Some(Sealer::new(&[7; MASTER_KEY_BYTES])));
    let registry = Registry::load(compiler, rows).map_err(|error| error.to_string())?;
    let rights = registry.rights();
    let mut ledger = Ledger::new(vec![usage]);
    for second in [0, 1, 3_600] {
        let now_unix = now_unix.saturating_add(second);
        ledger.follow(&registry, now_unix);
        ledger.tick(now_unix);
        for edit in ledger.take_unsaved() {
            if let Edit::PutUsage(row) = edit {
                again(&row);
            }
        }
    }
    drop(rights);
    Ok(())
}

/// Makes a store in an empty directory, with an app, a key and usage in it, and returns its rows
/// in one comparable text.
///
/// # Errors
/// Those of the disk.
pub fn make_store(data_dir: &Path) -> Result<String, String> {
    let mut store = open(data_dir)?.0;
    let rows = [
        Edit::PutApp(row(APP_ROW.as_bytes())?),
        Edit::PutKey(row(KEY_ROW.as_bytes())?),
        Edit::PutUsage(row(USAGE_ROW.as_bytes())?),
    ];
    for edit in rows {
        store.commit(&[edit]).map_err(|error| error.to_string())?;
    }
    drop(store);
    read_store(data_dir)
}

/// Opens the store in that directory and returns its rows in one comparable text.
///
/// # Errors
/// Why it is refused.
pub fn read_store(data_dir: &Path) -> Result<String, String> {
    Ok(format!("{:?}", open(data_dir)?.1))
}

fn open(data_dir: &Path) -> Result<(store::Store, Rows), String> {
    let opened = store::open(data_dir, &data_dir.join("master.key"), None);
    let opened = opened.map_err(|error| error.to_string())?;
    Ok((opened.store, opened.rows))
}

fn row<T: Serialize + DeserializeOwned + PartialEq>(json: &[u8]) -> Result<T, String> {
    let row: T = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    again(&row);
    Ok(row)
}

fn again<T: Serialize + DeserializeOwned + PartialEq>(row: &T) {
    let written = serde_json::to_vec(row).ok();
    let read = written.and_then(|json| serde_json::from_slice(&json).ok());
    assert!(read.as_ref() == Some(row), "another row when it is read");
}
