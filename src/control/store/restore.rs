//! Reading a backup, and making a store of it. What is damaged or not ours is refused, with the
//! cause, before anything is touched.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use redb::TableHandle;

use super::backup::{BEGINNING, Head, Line, Manifest, Sums, TABLES, Table, VERSION, line};
use super::crash_only::CrashOnlyDatabase;
use super::error::StoreError;
use super::master_key::{self, MasterKeyError};
use super::read::Rows;
use super::row::{AppRow, KeyRow, UsageRow};
use super::seal::Sealed;
use super::tables::{APPS, FILE_NAME, FORMAT, KEYS, META, META_FORMAT, META_KEY_CHECK, USAGE};
use super::{files, open, read};

/// Why a file is no backup that can be restored.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BackupFault {
    /// It is something else.
    Foreign,
    /// It was written by a newer version: its format.
    Newer(u64),
    /// It has no manifest at its end.
    CutOff,
    /// It is not what was written: where.
    Damaged(String),
    /// It is whole, and no server would start with what it says: why.
    Contradictory(String),
}

impl fmt::Display for BackupFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("this is no backup of ringmesh: name another file"),
            Self::Newer(version) => write!(
                f,
                "it has format {version}, written by a newer ringmesh: restore it with that version"
            ),
            Self::CutOff => f.write_str(
                "it ends before its manifest, so a part of it is missing: use another copy",
            ),
            Self::Damaged(place) => write!(
                f,
                "it is damaged ({place} is not what was written): use another copy"
            ),
            Self::Contradictory(fault) => write!(
                f,
                "no server would start with it ({fault}): use another copy"
            ),
        }
    }
}

/// A backup that was read whole and found good.
pub(crate) struct Backup {
    /// When it was made, in milliseconds since 1970.
    pub made_at_ms: u64,
    /// The version of the server that made it.
    pub server: String,
    /// How many apps are in it.
    pub apps: usize,
    /// How many keys are in it.
    pub keys: usize,
    rows: Vec<(Table, String, Vec<u8>)>,
    parsed: Rows,
    key_check: Sealed,
}

/// Why a backup was not restored.
#[derive(Debug)]
pub(crate) enum RestoreError {
    /// There is a store already.
    StoreThere(PathBuf),
    /// The store cannot be made.
    Store(StoreError),
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StoreThere(path) => write!(
                f,
                "there is a store already, {}; --force moves it aside",
                path.display()
            ),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl From<StoreError> for RestoreError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Backup {
    /// Reads a backup and checks all of it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, BackupFault> {
        if !bytes.starts_with(BEGINNING.as_bytes()) {
            return Err(BackupFault::Foreign);
        }
        let version = &bytes[BEGINNING.len()..];
        let digits = version.iter().take_while(|byte| byte.is_ascii_digit());
        let number = digits.fold(0_u64, |number, digit| {
            number
                .saturating_mul(10)
                .saturating_add(u64::from(digit - b'0'))
        });
        if number > VERSION {
            return Err(BackupFault::Newer(number));
        }
        let whole = bytes.strip_suffix(b"\n").ok_or(BackupFault::CutOff)?;
        let start = whole.iter().rposition(|byte| *byte == b'\n');
        let (body, last) = bytes.split_at(start.ok_or(BackupFault::CutOff)? + 1);
        let manifest: Manifest = serde_json::from_slice(last).map_err(|_| {
            // A row is a line like others: then the rest is missing.
            let is_row = serde_json::from_slice::<Line>(last).is_ok();
            match is_row {
                true => BackupFault::CutOff,
                false => BackupFault::Damaged("the manifest".into()),
            }
        })?;
        Self::of_body(body, &manifest, last)
    }

    fn of_body(body: &[u8], manifest: &Manifest, last: &[u8]) -> Result<Self, BackupFault> {
        let damaged = |place: String| BackupFault::Damaged(place);
        let mut lines = body.split_inclusive(|byte| *byte == b'\n');
        let first = lines.next().unwrap_or_default();
        let head: Head =
            serde_json::from_slice(first).map_err(|_| damaged("the first line".into()))?;
        let mut sums = Sums::new();
        sums.add(None, first);
        let (mut rows, mut parsed) = (Vec::new(), Rows::default());
        let mut seen = BTreeSet::new();
        let mut contradictory = None;
        for (number, bytes) in (2..).zip(lines) {
            let place = || damaged(format!("line {number}"));
            let row: Line = serde_json::from_slice(bytes).map_err(|_| place())?;
            let table = TABLES.into_iter().find(|it| it.name() == row.table);
            let table = table.ok_or_else(place)?;
            sums.add(Some(&row.table), bytes);
            let value = row.value.get().as_bytes().to_vec();
            let id = parse_row(table, &value, &mut parsed).map_err(|_| place())?;
            let is_new = seen.insert((row.table.clone(), row.key.clone()));
            if let Some(fault) = contradiction(&row, id.as_deref(), is_new) {
                contradictory.get_or_insert(format!("line {number}: {fault}"));
            }
            rows.push((table, row.key, value));
        }
        let found = sums.manifest();
        for (is, was) in found.manifest.iter().zip(&manifest.manifest) {
            if is != was {
                return Err(damaged(format!("table {}", is.table)));
            }
        }
        // Byte by byte, so that no other spelling of the same passes.
        let expected = line(&found).map_err(|error| damaged(error.to_string()))?;
        if found != *manifest || expected != last {
            return Err(damaged("the first line or the manifest".into()));
        }
        // What was damaged on the way is told as that.
        if let Some(fault) = contradictory {
            return Err(BackupFault::Contradictory(fault));
        }
        let meta = |name: &str| {
            let row = rows
                .iter()
                .find(|(table, key, _)| table.name() == "meta" && key == name);
            row.map(|(.., value)| &value[..]).unwrap_or_default()
        };
        match serde_json::from_slice(meta(META_FORMAT)) {
            Ok(FORMAT) => {}
            Ok(newer) => return Err(BackupFault::Newer(newer)),
            Err(_) => return Err(damaged("the format of the store".into())),
        }
        let key_check = serde_json::from_slice(meta(META_KEY_CHECK))
            .map_err(|_| damaged("the check of the master key".into()))?;
        let count = |table: Table| {
            let of_table = rows.iter().filter(|(it, ..)| it.name() == table.name());
            of_table.count()
        };
        Ok(Self {
            made_at_ms: head.made_at_ms,
            server: head.server,
            apps: count(APPS),
            keys: count(KEYS),
            rows,
            parsed,
            key_check,
        })
    }

    /// Returns the rows of the store that it makes.
    #[must_use]
    pub(crate) fn parsed(&self) -> &Rows {
        &self.parsed
    }

    /// Whether the key in a file is the one that this backup's secrets were encrypted with.
    ///
    /// # Errors
    /// It is another one, or none, or cannot be read.
    pub(crate) fn check_master_key(&self, path: &Path) -> Result<(), MasterKeyError> {
        let sealer = master_key::load(path)?;
        match open::is_key_of(&sealer, &self.key_check) {
            true => Ok(()),
            false => Err(MasterKeyError::Wrong(path.into())),
        }
    }

    /// Makes the store in `data_dir`. With `force` one that is there is moved aside: its new name
    /// is returned.
    ///
    /// # Errors
    /// A store is there, a server has it open, or the disk fails. What was there is there then.
    pub(crate) fn restore(
        &self,
        data_dir: &Path,
        force: bool,
    ) -> Result<Option<PathBuf>, RestoreError> {
        let in_directory = |error| StoreError::Directory(data_dir.into(), error);
        let path = data_dir.join(FILE_NAME);
        // Before anything is made: a directory that has other things in it is left alone.
        let is_there = path.try_exists().map_err(in_directory)?;
        if is_there && !force {
            return Err(RestoreError::StoreThere(path));
        }
        files::private_directory(data_dir, FILE_NAME).map_err(in_directory)?;
        let directory = fs::File::open(data_dir).map_err(in_directory)?;
        open::lock(&directory, data_dir)?;
        let in_file = |error| StoreError::File(path.clone(), error);
        let unfinished = files::unfinished(&path);
        let made = self.make(&unfinished);
        // It is read again as a server does, before it takes the place of another.
        let made = made.and_then(|()| read::existing(&unfinished, None).map(drop));
        let aside = made.and_then(|()| {
            let aside = is_there.then(|| aside(&path));
            if let Some(aside) = &aside {
                fs::rename(&path, aside).map_err(in_file)?;
            }
            let published = files::publish(&unfinished, &path);
            if let Some(aside) = aside.as_ref().filter(|_| published.is_err()) {
                // Back to what was there; the error below is told.
                let _ = fs::rename(aside, &path);
            }
            published.map_err(in_file)?;
            Ok(aside)
        });
        if aside.is_err() {
            // Nobody would look for it under this name.
            let _ = fs::remove_file(&unfinished);
        }
        Ok(aside?)
    }

    fn make(&self, unfinished: &Path) -> Result<(), StoreError> {
        let file = files::create_private(unfinished);
        let file = file.map_err(|error| StoreError::File(unfinished.into(), error))?;
        let unmade = |error: redb::Error| StoreError::unmade(unfinished.into(), error);
        let database = CrashOnlyDatabase::open(file, None).map_err(|error| unmade(error.into()))?;
        self.fill(&database).map_err(unmade)
    }

    fn fill(&self, database: &redb::Database) -> Result<(), redb::Error> {
        let mut transaction = database.begin_write()?;
        transaction.set_two_phase_commit(true);
        for definition in TABLES {
            let mut table = transaction.open_table(definition)?;
            let rows = self.rows.iter();
            for (_, key, value) in rows.filter(|(it, ..)| it.name() == definition.name()) {
                table.insert(key.as_str(), value.as_slice())?;
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

/// What a row says that no store has.
fn contradiction(row: &Line, id: Option<&str>, is_new: bool) -> Option<String> {
    let fault = match id {
        _ if !is_new => "stands there twice",
        Some(id) if id != row.key => "is a row of another id",
        _ => return None,
    };
    Some(format!("{} {:?} {fault}", row.table, row.key))
}

/// Reads a value that is a row of that table. Returns the id in it; a row of `meta` has none.
fn parse_row(
    table: Table,
    value: &[u8],
    into: &mut Rows,
) -> Result<Option<String>, serde_json::Error> {
    match table.name() {
        name if name == APPS.name() => {
            let row: AppRow = serde_json::from_slice(value)?;
            let id = row.record.app_id.clone();
            into.apps.push(row);
            Ok(Some(id))
        }
        name if name == KEYS.name() => {
            let row: KeyRow = serde_json::from_slice(value)?;
            let id = row.record.key_id.clone();
            into.keys.push(row);
            Ok(Some(id))
        }
        name if name == USAGE.name() => {
            let row: UsageRow = serde_json::from_slice(value)?;
            let id = row.app_id.clone();
            into.usage.push(row);
            Ok(Some(id))
        }
        _ => {
            debug_assert_eq!(table.name(), META.name());
            Ok(None)
        }
    }
}

/// A name beside a file that nothing has yet.
fn aside(path: &Path) -> PathBuf {
    let name = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".before-{number}"));
        PathBuf::from(name)
    };
    let free = (1..u32::MAX).map(name).find(|path| !path.exists());
    free.unwrap_or_else(|| name(u32::MAX))
}

/// Writes a private file that is not there yet: whole, or not at all.
///
/// # Errors
/// It is there, or the disk fails.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    if path.try_exists()? {
        let text = "it is there already; choose another name";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    let written = files::write_private(path, content);
    if written.is_err() {
        // A part of a backup is none.
        let _ = fs::remove_file(files::unfinished(path));
    }
    written
}
