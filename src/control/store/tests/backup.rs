//! Backups: what is restored is what was there, and no damage passes.

use super::*;
use crate::control::offline;
use crate::control::store::backup::{Line, Sums, line};
use crate::control::store::restore::{BackupFault, RestoreError};

/// A store with an app, two keys and usage, and its backup.
fn backed_up() -> (tempfile::TempDir, Rows, Vec<u8>) {
    let (dir, _) = filled();
    let mut opened = open_in(dir.path()).unwrap();
    let put = Edit::PutKey(key("sk_id_b", &opened.sealer.unwrap()));
    opened.store.commit(std::slice::from_ref(&put)).unwrap();
    let snapshot = opened.store.snapshot().unwrap();
    // What is committed meanwhile is not in it.
    let delete = Edit::DeleteKey("sk_id_b".into());
    opened.store.commit(&[delete]).unwrap();
    let mut bytes = Vec::new();
    let took = snapshot.write(1_790_000_000_000, |chunk| {
        bytes.extend_from_slice(&chunk);
        true
    });
    took.unwrap();
    opened.store.commit(&[put]).unwrap();
    drop(opened.store);
    let rows = open_in(dir.path()).unwrap().rows;
    (dir, rows, bytes)
}

#[test]
fn what_is_restored_is_what_was_there() {
    let (from, rows, bytes) = backed_up();
    let to = scratch();
    let backup = Backup::read(&bytes).unwrap();
    assert_eq!((backup.apps, backup.keys), (1, 2));
    assert_eq!(backup.made_at_ms, 1_790_000_000_000);
    let text = String::from_utf8(bytes).unwrap();
    assert!(!text.contains("sk_secret_x"), "secrets stay sealed");
    let key = from.path().join(MASTER_KEY_FILE_NAME);
    backup.check_master_key(&key).unwrap();
    assert!(backup.restore(to.path(), false).unwrap().is_none());
    fs::copy(&key, to.path().join(MASTER_KEY_FILE_NAME)).unwrap();
    let opened = open_in(to.path()).unwrap();
    assert_eq!(opened.rows, rows);
    assert!(opened.sealer.is_ok());
    let mode = fs::metadata(to.path().join(FILE_NAME))
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
}

#[test]
fn no_changed_byte_and_no_cut_passes() {
    let (_dir, _, bytes) = backed_up();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        assert!(Backup::read(&damaged).is_err(), "byte {at}");
        assert!(Backup::read(&bytes[..at]).is_err(), "{at} bytes");
    }
    let more = [&bytes[..], b"\n"].concat();
    assert!(Backup::read(&more).is_err(), "a byte more");
}

#[test]
fn damage_is_named() {
    let (_dir, _, bytes) = backed_up();
    let fault = |bytes: &[u8]| Backup::read(bytes).err().unwrap();
    assert_eq!(fault(b""), BackupFault::Foreign);
    assert_eq!(fault(b"{\"some\":\"thing\"}\n"), BackupFault::Foreign);
    assert_eq!(fault(&bytes[..bytes.len() / 2]), BackupFault::CutOff);
    let text = String::from_utf8(bytes).unwrap();
    let newer = text.replacen("{\"ringmeshBackup\":1", "{\"ringmeshBackup\":2", 1);
    assert_eq!(fault(newer.as_bytes()), BackupFault::Newer(2));
    // Whole lines that are gone, and rows of another backup.
    let without: String = text
        .split_inclusive('\n')
        .filter(|it| !it.contains("sk_id_b"))
        .collect();
    assert_eq!(
        fault(without.as_bytes()),
        BackupFault::Damaged("table keys".into())
    );
    let other = text.replacen("\"Shop\"", "\"Stop\"", 1);
    assert_eq!(
        fault(other.as_bytes()),
        BackupFault::Damaged("table apps".into())
    );
    let cut: Vec<_> = text.split_inclusive('\n').collect();
    assert_eq!(
        fault(cut[..cut.len() - 1].concat().as_bytes()),
        BackupFault::CutOff
    );
    for fault in [
        BackupFault::Foreign,
        BackupFault::CutOff,
        BackupFault::Newer(2),
    ] {
        assert!(!fault.to_string().contains('\n'));
    }
}

/// The backup with other rows, and the manifest that belongs to them.
fn with_rows(text: &str, change: impl Fn(&str) -> Vec<String>) -> Vec<u8> {
    let mut lines: Vec<_> = text.split_inclusive('\n').collect();
    lines.pop();
    let mut sums = Sums::new();
    let mut bytes = Vec::new();
    for (number, before) in lines.into_iter().enumerate() {
        for line in change(before) {
            let table = match number {
                0 => None,
                _ => Some(serde_json::from_str::<Line>(&line).unwrap().table),
            };
            sums.add(table.as_deref(), line.as_bytes());
            bytes.extend_from_slice(line.as_bytes());
        }
    }
    bytes.extend(line(&sums.manifest()).unwrap());
    bytes
}

#[test]
fn rows_that_contradict_each_other_are_told_apart_from_damage() {
    let (_dir, _, bytes) = backed_up();
    let text = String::from_utf8(bytes.clone()).unwrap();
    let same = with_rows(&text, |row| vec![row.to_owned()]);
    assert_eq!(same, bytes);
    offline::backup(&same).map(drop).unwrap();
    let is_key = |row: &str| row.starts_with("{\"table\":\"keys\"");
    let is_app = |row: &str| row.starts_with("{\"table\":\"apps\"");
    let twice = with_rows(&text, |row| {
        vec![row.to_owned(); 1 + usize::from(is_key(row))]
    });
    let renamed = with_rows(&text, |row| {
        vec![row.replacen("\"key\":\"sk_id_b\"", "\"key\":\"sk_id_c\"", 1)]
    });
    let without_app = with_rows(&text, |row| match is_app(row) {
        true => Vec::new(),
        false => vec![row.to_owned()],
    });
    let bad_pattern = with_rows(&text, |row| {
        let start = row.find("\"channelPatterns\":[").filter(|_| is_key(row));
        let Some(start) = start else {
            return vec![row.to_owned()];
        };
        let end = start + row[start..].find(']').unwrap();
        vec![format!(
            "{}\"channelPatterns\":[\"\\\\\"{}",
            &row[..start],
            &row[end..]
        )]
    });
    for (changed, part) in [
        (twice, "stands there twice"),
        (renamed, "is a row of another id"),
        (without_app, "has no app"),
        (bad_pattern, "pattern"),
    ] {
        match offline::backup(&changed).map(drop).unwrap_err() {
            BackupFault::Contradictory(fault) => assert!(fault.contains(part), "{fault}"),
            other => panic!("{part}: {other}"),
        }
    }
}

#[test]
fn a_store_that_is_there_is_moved_aside_or_left() {
    let (_from, rows, bytes) = backed_up();
    let to = scratch();
    let backup = Backup::read(&bytes).unwrap();
    drop(open_in(to.path()).unwrap());
    let before = fs::read(to.path().join(FILE_NAME)).unwrap();
    let refused = backup.restore(to.path(), false).unwrap_err();
    assert!(matches!(refused, RestoreError::StoreThere(_)));
    assert_eq!(fs::read(to.path().join(FILE_NAME)).unwrap(), before);
    // The key that is there is another store's.
    let key = to.path().join(MASTER_KEY_FILE_NAME);
    assert!(backup.check_master_key(&key).is_err());
    let aside = backup.restore(to.path(), true).unwrap().unwrap();
    assert_eq!(fs::read(aside).unwrap(), before);
    let opened = open_in(to.path()).unwrap();
    assert_eq!(opened.rows, rows);
    assert!(opened.sealer.is_err());
}

#[test]
fn nothing_is_restored_where_a_server_runs() {
    let (dir, _, bytes) = backed_up();
    let opened = open_in(dir.path()).unwrap();
    let refused = Backup::read(&bytes).unwrap().restore(dir.path(), true);
    let text = refused.unwrap_err().to_string();
    assert!(
        text.contains("in use by another ringmesh process"),
        "{text}"
    );
    drop(opened);
}

#[test]
fn a_reader_that_leaves_ends_it() {
    let (dir, ..) = backed_up();
    let opened = open_in(dir.path()).unwrap();
    let snapshot = opened.store.snapshot().unwrap();
    assert!(matches!(
        snapshot.write(0, |_| false),
        Err(Unfinished::Gone)
    ));
}
