//! Faults for tests: where a build with debug assertions finds the file that
//! `RINGMESH_FAULT_FILE` names, its one line says which process comes to what at which stage, as
//! `new A5 exit`. Other builds look for nothing.

use rustix::process::{Signal, getpid, kill_process};

use super::stage::Stage;

/// Which of the two processes comes to a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Old,
    New,
}

/// What is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The process says what is no message.
    Garble,
}

/// The process comes to a stage. Returns what it has to do wrong itself, if it survives.
pub(super) fn strike(side: Side, stage: Stage) -> Option<Fault> {
    if !cfg!(debug_assertions) {
        return None;
    }
    let file = std::env::var_os("RINGMESH_FAULT_FILE")?;
    let text = std::fs::read_to_string(file).ok()?;
    let side = match side {
        Side::Old => "old",
        Side::New => "new",
    };
    let at = format!("{side} {}", stage.name());
    let what = text.trim().strip_prefix(&at)?.trim();
    tracing::warn!("the test's fault strikes: {at} {what}");
    let stop = || {
        // This process is there.
        let _ = kill_process(getpid(), Signal::STOP);
    };
    match what {
        "exit" => std::process::exit(7),
        "kill" => drop(kill_process(getpid(), Signal::KILL)),
        "panic" => panic!("the test's fault"),
        "hang" => loop {
            std::thread::park();
        },
        "stop" => stop(),
        "garble" => return Some(Fault::Garble),
        _ => {}
    }
    None
}
