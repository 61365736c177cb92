//! How a command ends that could not do what it was asked to.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// One line for standard error, and the exit code.
#[derive(Debug)]
pub struct Failure {
    /// 1 for a failure, 2 for bad usage or configuration.
    pub exit_code: u8,
    /// Cause and remedy, on one line, without a full stop.
    pub message: String,
}

impl Failure {
    /// The machine, the network or another program stood in the way.
    #[must_use]
    pub fn failed(message: impl fmt::Display) -> Self {
        Self {
            exit_code: 1,
            message: message.to_string(),
        }
    }

    /// Usage or configuration is wrong.
    #[must_use]
    pub fn usage(message: impl fmt::Display) -> Self {
        Self {
            exit_code: 2,
            message: message.to_string(),
        }
    }

    /// Writes the line to standard error. Returns the exit code of the process.
    #[must_use]
    pub fn report(&self) -> ExitCode {
        // Nobody is left to be told when standard error is closed.
        let _ = writeln!(io::stderr().lock(), "ringmesh: {self}");
        ExitCode::from(self.exit_code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
