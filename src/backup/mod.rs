//! `ringmesh backup` and `ringmesh restore`: a copy of a running server's store, and a store made
//! of one. The master key, without which no secret in a copy can be read, is handled apart.

use std::fs;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::bounded_file::{self, BACKUP_BYTES_MAX, SECRET_BYTES_MAX};
use crate::cli::{BackupArgs, Failure, RestoreArgs, Session, backup_of_server, print, printable};
use crate::config::{Config, default_file};
use crate::control::{Backup, read_backup, write_new};
use crate::run_file::RunFile;

/// Of the setting that names the master key.
const MASTER_KEY_SETTING: &str = "store.master_key_file";

/// Takes a backup of the server that is found, and checks it before it gets its name.
///
/// # Errors
/// The server does not give it, it did not arrive whole, or the file cannot be made; there is no
/// file then.
pub(crate) fn take(args: &BackupArgs, session: &Session) -> Result<(), Failure> {
    let file = &args.file;
    for path in [
        Some(file.clone()),
        args.with_master_key.then(|| key_beside(file)),
    ] {
        if let Some(path) = path.filter(|path| path.exists()) {
            let path = path.display();
            return Err(Failure::usage(format_args!(
                "{path} is there already; choose another name"
            )));
        }
    }
    let taken = backup_of_server(session, args.with_master_key.then_some(MASTER_KEY_SETTING))?;
    let backup = read_backup(&taken.bytes).map_err(|fault| {
        Failure::failed(format_args!("the backup did not arrive whole: {fault}"))
    })?;
    let key = taken.setting.map(PathBuf::from);
    let key = key.map(|path| master_key(&backup, &path)).transpose()?;
    let unwritten = |path: &Path, error: std::io::Error| {
        Failure::failed(format_args!("{}: {error}", path.display()))
    };
    write_new(file, &taken.bytes).map_err(|error| unwritten(file, error))?;
    if let Some(key) = key {
        let path = key_beside(file);
        if let Err(error) = write_new(&path, &key) {
            // Both, or none.
            let _ = fs::remove_file(file);
            return Err(unwritten(&path, error));
        }
        let note = format!(
            "{} opens every secret of the backup: keep it elsewhere",
            path.display()
        );
        session.terminal.note(&note);
    }
    print(format!("{}: {}\n", file.display(), described(&backup)))
}

/// The master key in a file of this machine, if it is the backup's.
fn master_key(backup: &Backup, path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    backup.check_master_key(path).map_err(|error| {
        Failure::failed(format_args!(
            "{error}; take the backup without --with-master-key, and copy the key where the \
             server has it"
        ))
    })?;
    let key = bounded_file::read(path, SECRET_BYTES_MAX);
    key.map_err(|error| Failure::failed(format_args!("{}: {error}", path.display())))
}

/// The name of the master key beside a backup.
fn key_beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".master-key");
    name.into()
}

fn described(backup: &Backup) -> String {
    let made = jiff::Timestamp::from_millisecond(backup.made_at_ms as i64);
    let made = made.map_or_else(|_| "unknown time".to_owned(), |it| it.to_string());
    format!(
        "{} apps and {} keys of {made}, by ringmesh {}",
        backup.apps,
        backup.keys,
        printable(&backup.server)
    )
}

/// Checks a backup, and makes a store of it unless that was all.
///
/// # Errors
/// The backup is not whole, a server runs there, or there is a store already. Nothing has changed
/// then.
pub(crate) fn restore(args: &RestoreArgs, session: &Session) -> Result<(), Failure> {
    let file = &args.file;
    let bytes = bounded_file::read(file, BACKUP_BYTES_MAX)
        .map_err(|error| Failure::usage(format_args!("{}: {error}", file.display())))?;
    let backup = read_backup(&bytes)
        .map_err(|fault| Failure::failed(format_args!("{}: {fault}", file.display())))?;
    if let Some(key) = &args.with_master_key {
        backup.check_master_key(key).map_err(Failure::failed)?;
    }
    if args.check {
        return print(format!("{}: {}\n", file.display(), described(&backup)));
    }
    let place = Place::new(args, session)?;
    place.is_free()?;
    let has_key = place.master_key(&backup, args)?;
    let aside = backup
        .restore(&place.data_dir, args.force)
        .map_err(Failure::failed)?;
    if let Some(key) = args.with_master_key.as_ref().filter(|_| !has_key) {
        put_key(key, &place.master_key_file)?;
    } else if !has_key {
        let note = format!(
            "put the master key to {} before the server starts: without it no secret can be read",
            place.master_key_file.display()
        );
        session.terminal.note(&note);
    }
    if let Some(aside) = aside {
        let note = format!("the store that was there is {} now", aside.display());
        session.terminal.note(&note);
    }
    let (directory, what) = (place.data_dir.display(), described(&backup));
    print(format!("{directory}: {what}\n"))
}

fn put_key(from: &Path, to: &Path) -> Result<(), Failure> {
    let key = bounded_file::read(from, SECRET_BYTES_MAX);
    let written = key.and_then(|key| write_new(to, &key));
    written.map_err(|error| Failure::failed(format_args!("master key {}: {error}", to.display())))
}

/// Where a store is to be.
struct Place {
    data_dir: PathBuf,
    master_key_file: PathBuf,
}

impl Place {
    /// The directory that was named, or that of the configuration which `serve` would take.
    fn new(args: &RestoreArgs, session: &Session) -> Result<Self, Failure> {
        if let Some(data_dir) = &args.data_dir {
            return Ok(Self {
                data_dir: data_dir.clone(),
                master_key_file: data_dir.join("master.key"),
            });
        }
        let file = default_file()
            .map_err(|error| Failure::usage(format_args!("{error}; or give --data-dir")))?;
        let config = Config::load(&file, &session.environment).map_err(Failure::usage)?;
        Ok(Self {
            data_dir: config.store.data_dir,
            master_key_file: config.store.master_key_file,
        })
    }

    /// Whether no server runs there. One that does not tell about itself holds the lock.
    fn is_free(&self) -> Result<(), Failure> {
        let Ok(live) = RunFile::of_live_server(&self.data_dir) else {
            return Ok(());
        };
        Err(Failure::failed(format_args!(
            "a server runs with {}, pid {}: stop it first",
            self.data_dir.display(),
            live.run.pid
        )))
    }

    /// Whether the master key of the backup is there already.
    ///
    /// # Errors
    /// Another one is there. It is never replaced.
    fn master_key(&self, backup: &Backup, args: &RestoreArgs) -> Result<bool, Failure> {
        let path = &self.master_key_file;
        if !path.exists() {
            return Ok(false);
        }
        match (backup.check_master_key(path), &args.with_master_key) {
            (Ok(()), _) => Ok(true),
            (Err(error), Some(_)) => Err(Failure::failed(format_args!(
                "{error}; move it away, so that the one of --with-master-key can take its place"
            ))),
            (Err(error), None) => Err(Failure::failed(format_args!(
                "{error}; put the right one there, or move it away"
            ))),
        }
    }
}
