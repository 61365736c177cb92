//! What has been made so far, and is taken back when a later step fails.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::cli::Failure;

/// Makes files and directories, and removes them again unless all went well.
#[derive(Default)]
pub(super) struct Undo {
    steps: Vec<Step>,
}

enum Step {
    RemoveFile(PathBuf),
    RemoveDirectory(PathBuf),
    MoveBack { from: PathBuf, to: PathBuf },
    Run(Box<dyn FnOnce()>),
}

impl Undo {
    /// Keeps everything.
    pub(super) fn keep(&mut self) {
        self.steps.clear();
    }

    /// Remembers how to take something else back.
    pub(super) fn add(&mut self, undo: impl FnOnce() + 'static) {
        self.steps.push(Step::Run(Box::new(undo)));
    }

    /// Makes a directory, unless it is there. Returns whether it was made.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn directory(&mut self, path: &Path, mode: u32) -> Result<bool, Failure> {
        if path.is_dir() {
            return Ok(false);
        }
        if let Some(parent) = path.parent().filter(|it| !it.as_os_str().is_empty()) {
            self.directory(parent, 0o755)?;
        }
        let made = DirBuilder::new().mode(mode).create(path);
        made.map_err(|error| failure(path, &error))?;
        self.steps.push(Step::RemoveDirectory(path.to_owned()));
        Ok(true)
    }

    /// Writes a file; one that is there is moved aside, and back when a later step fails.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn file(&mut self, path: &Path, mode: u32, content: &str) -> Result<(), Failure> {
        let bad = |error| failure(path, &error);
        if path.exists() {
            let aside = aside(path);
            fs::rename(path, &aside).map_err(bad)?;
            self.steps.push(Step::MoveBack {
                from: aside,
                to: path.to_owned(),
            });
        }
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(path)?;
            file.write_all(content.as_bytes())?;
            // Whatever the umask has taken away.
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.sync_all()
        };
        let written = write();
        self.steps.push(Step::RemoveFile(path.to_owned()));
        written.map_err(bad)
    }
}

/// A name beside a file that nothing has yet.
fn aside(path: &Path) -> PathBuf {
    let name = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(".old");
        if number > 1 {
            name.push(format!(".{number}"));
        }
        PathBuf::from(name)
    };
    let free = (1..u32::MAX)
        .map(name)
        .find(|it| it.symlink_metadata().is_err());
    free.unwrap_or_else(|| name(u32::MAX))
}

impl Drop for Undo {
    fn drop(&mut self) {
        while let Some(step) = self.steps.pop() {
            // What cannot be taken back stays: the failure that led here is what is told.
            match step {
                Step::RemoveFile(path) => drop(fs::remove_file(path)),
                Step::RemoveDirectory(path) => drop(fs::remove_dir_all(path)),
                Step::MoveBack { from, to } => drop(fs::rename(from, to)),
                Step::Run(undo) => undo(),
            }
        }
    }
}

pub(super) fn failure(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format_args!(
        "{}: {error}; nothing was made",
        path.display()
    ))
}
