//! How a command ends that could not do what it was asked to.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use super::printable::told;

/// One line for standard error, and the exit code.
#[derive(Debug)]
pub struct Failure {
    /// 1: failed; 2: bad usage or configuration; 3: no server; 4: the server says no.
    pub exit_code: u8,
    /// Cause and remedy, on one line, without a full stop.
    pub message: String,
}

impl Failure {
    /// The machine, the network or another program stood in the way.
    #[must_use]
    pub fn failed(message: impl fmt::Display) -> Self {
        Self::new(1, message)
    }

    /// Usage or configuration is wrong.
    #[must_use]
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(2, message)
    }

    /// No server was found, or none answers.
    #[must_use]
    pub fn no_server(message: impl fmt::Display) -> Self {
        Self::new(3, message)
    }

    /// The server says no: to the credential, or to what was asked.
    #[must_use]
    pub fn refused(message: impl fmt::Display) -> Self {
        Self::new(4, message)
    }

    fn new(exit_code: u8, message: impl fmt::Display) -> Self {
        Self {
            exit_code,
            message: message.to_string(),
        }
    }

    /// Writes the line to standard error. Returns the exit code of the process.
    #[must_use]
    pub fn report(&self) -> ExitCode {
        // An empty one has been told in full already.
        if !self.message.is_empty() {
            // Nobody is left to be told when standard error is closed.
            let _ = writeln!(io::stderr().lock(), "ringmesh: {}", told(&self.message));
        }
        ExitCode::from(self.exit_code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
