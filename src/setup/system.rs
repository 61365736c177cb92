//! `ringmesh init --system`: the user who runs the server, and what belongs to it.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::plan::Plan;
use super::undo::{Undo, failure};
use crate::cli::Failure;

/// The user who runs the server.
const USER: &str = "ringmesh";

/// Who owns what; `None` where the files are for another root directory.
pub(super) struct System {
    ids: Option<(u32, u32)>,
}

impl System {
    /// Makes the user, unless there is one.
    ///
    /// # Errors
    /// This is not root, or there is no way to make users.
    pub(super) fn prepare(plan: &Plan, undo: &mut Undo) -> Result<Self, Failure> {
        if !plan.data_dir.starts_with("/var/lib") {
            return Ok(Self { ids: None });
        }
        if !rustix::process::geteuid().is_root() {
            return Err(Failure::usage(
                "--system makes a user and files of root; run it with sudo",
            ));
        }
        if id("-u").is_err() {
            let arguments = [
                "--system",
                "--no-create-home",
                "--home-dir",
                "/var/lib/ringmesh",
                "--shell",
                "/usr/sbin/nologin",
                USER,
            ];
            run(Command::new("useradd").args(arguments))?;
            undo.add(|| drop(run(Command::new("userdel").arg(USER))));
        }
        Ok(Self {
            ids: Some((id("-u")?, id("-g")?)),
        })
    }

    /// Gives the user its data directory, and the group what it has to read.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn hand_over(&self, plan: &Plan) -> Result<(), Failure> {
        let Some((user, group)) = self.ids else {
            return Ok(());
        };
        let give = |path: &Path, user: u32| {
            let given = chown(path, Some(user), Some(group));
            given.map_err(|error| failure(path, &error))
        };
        give(&plan.config, 0)?;
        for path in plan.certificate().into_iter().flat_map(|(_, to)| to) {
            give(path, 0)?;
        }
        for path in all_below(&plan.data_dir)? {
            give(&path, user)?;
        }
        Ok(())
    }
}

/// A directory and the files in it.
fn all_below(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let bad = |error| failure(dir, &error);
    let mut paths = vec![dir.to_owned()];
    for entry in fs::read_dir(dir).map_err(bad)? {
        paths.push(entry.map_err(bad)?.path());
    }
    Ok(paths)
}

/// A number of the user, by `id`.
fn id(option: &str) -> Result<u32, Failure> {
    let text = run(Command::new("id").args([option, USER]))?;
    text.trim()
        .parse()
        .map_err(|_| Failure::failed(format_args!("id {option} {USER}: it prints {text:?}")))
}

/// What a command prints that succeeds.
fn run(command: &mut Command) -> Result<String, Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| Failure::failed(format_args!("{name}: {error}; nothing was made")))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let text = text.trim();
        return Err(Failure::failed(format_args!(
            "{name}: {text}; nothing was made"
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
