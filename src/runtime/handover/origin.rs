//! The next process: the same program by the same path, with the same arguments and environment.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf, absolute};
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::io::{FdFlags, fcntl_setfd};

use crate::runtime::affinity;

/// In which the next process finds the number of its end of the channel.
pub(super) const VARIABLE: &str = "RINGMESH_HANDOVER";
/// What a service manager says to the process that it has started, and to no other.
const OF_THIS_PROCESS: [&str; 4] = ["WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// How this process was started.
#[derive(Clone, Debug)]
pub(in crate::runtime) struct Origin {
    /// The path of the program, as it was given: links in it are followed anew each time.
    program: PathBuf,
    arguments: Vec<OsString>,
    /// The cores that it might run on.
    cores: Vec<usize>,
}

impl Origin {
    /// How this process was started: to be asked before a thread is pinned to a core.
    pub(in crate::runtime) fn of_process() -> Self {
        let mut given = env::args_os();
        let name = given.next().unwrap_or_default();
        Self {
            program: found(&name, env::var_os("PATH").as_deref()),
            arguments: given.collect(),
            cores: affinity::allowed_cores().unwrap_or_default(),
        }
    }

    /// The program that an upgrade starts; `configured` goes before the one of the start.
    pub(super) fn program<'o>(&'o self, configured: Option<&'o Path>) -> &'o Path {
        configured.unwrap_or(&self.program)
    }

    /// Starts the next process, which gets that end of the channel.
    ///
    /// # Errors
    /// There is no such program, or it cannot be started.
    pub(super) fn start(&self, program: &Path, end: OwnedFd) -> io::Result<Child> {
        let mut command = Command::new(program);
        command
            .args(&self.arguments)
            .env(VARIABLE, end.as_raw_fd().to_string())
            .stdin(Stdio::null());
        for name in OF_THIS_PROCESS {
            command.env_remove(name);
        }
        let cores = &self.cores;
        // A process may run where the thread may that starts it.
        thread::scope(|scope| {
            let start = || {
                affinity::allow(cores)?;
                fcntl_setfd(end.as_fd(), FdFlags::empty())?;
                let child = command.spawn();
                fcntl_setfd(end.as_fd(), FdFlags::CLOEXEC)?;
                child
            };
            let started = thread::Builder::new().spawn_scoped(scope, start)?.join();
            started.unwrap_or_else(|_| Err(io::Error::other("the thread that starts it panicked")))
        })
    }
}

/// The path of a program that was started by that name. Relative ones are those of the start: the
/// server never changes its directory.
fn found(name: &OsStr, path: Option<&OsStr>) -> PathBuf {
    let name = Path::new(name);
    let in_path = || {
        let directories = path.into_iter().flat_map(env::split_paths);
        let mut files = directories.map(|directory| directory.join(name));
        files.find(|file| file.is_file())
    };
    let is_bare = name.components().count() == 1 && !name.as_os_str().is_empty();
    let is_path = name.as_os_str().as_encoded_bytes().contains(&b'/');
    let program = match is_bare && !is_path {
        true => in_path().or_else(|| env::current_exe().ok()),
        false => Some(name.to_owned()).filter(|_| is_path),
    };
    let program = program.or_else(|| env::current_exe().ok());
    let program = program.unwrap_or_else(|| name.to_owned());
    absolute(&program).unwrap_or(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_as_a_shell_finds_it_and_links_stay() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("current");
        std::fs::write(directory.path().join("1.2"), "").unwrap();
        std::os::unix::fs::symlink("1.2", &link).unwrap();
        let path = env::join_paths([Path::new("/nonexistent"), directory.path()]).unwrap();
        assert_eq!(found("current".as_ref(), Some(&path)), link);
        assert_eq!(found(link.as_os_str(), None), link);
        let here = env::current_dir().unwrap().join("target/x");
        assert_eq!(found("target/x".as_ref(), Some(&path)), here);
        assert_eq!(found("./target/x".as_ref(), None), here);
        let own = env::current_exe().unwrap();
        assert_eq!(found("not-there".as_ref(), Some(&path)), own);
        assert_eq!(found("".as_ref(), None), own);
    }
}
