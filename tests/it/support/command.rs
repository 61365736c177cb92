//! Commands of the executable: what they print, how they fail, and those that go on.

use std::process::{Child, Command, Output, Stdio};

use super::lines::Lines;

/// What a command that succeeds prints.
#[track_caller]
pub(crate) fn told(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The command failed with this code, and one line that has this part.
#[track_caller]
pub(crate) fn check_failure(output: &Output, exit_code: i32, part: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit_code), "{text}");
    assert!(
        text.starts_with("ringmesh: ") && text.contains(part),
        "{part:?} is not in {text}"
    );
    assert_eq!(text.lines().count(), 1, "{text}");
}

/// A command that goes on until it is told to end. It is killed with this.
pub(crate) struct Following {
    pub(crate) child: Child,
    pub(crate) lines: Lines,
    pub(crate) notes: Lines,
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Following {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            lines: Lines::of(child.stdout.take().unwrap()),
            notes: Lines::of(child.stderr.take().unwrap()),
            child,
        }
    }

    /// Waits for its end: the exit code, and what it printed.
    pub(crate) fn ended(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap();
        (status.code(), self.lines.all())
    }
}
