//! Where a command prints: colours, width, and notes beside the answer.

use std::io::{self, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

use super::common::Common;
use super::failure::Failure;
pub(super) use super::printable::told;
pub(crate) use super::printable::{json, printable, printable_json};
use crate::config::Environment;

/// How things are shown. A plain value, so that whatever shows something can be tested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Terminal {
    /// Whether standard output gets colours.
    pub color: bool,
    /// Columns that there are; `None`: as many as it takes.
    pub width: Option<usize>,
    /// Whether the answer is printed as JSON.
    pub json: bool,
    /// Whether notes are left out.
    pub quiet: bool,
    /// Whether details are told.
    pub verbose: bool,
}

/// A style of what is good.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// A style of what somebody should look at.
pub(crate) const DOUBTFUL: Style = AnsiColor::Yellow.on_default();
/// A style of what is wrong.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// A style of heads.
pub(crate) const HEAD: Style = Style::new().bold();

impl Terminal {
    /// The terminal of this process. `COLUMNS` goes before the terminal's own width.
    pub(crate) fn of_process(common: &Common, environment: &Environment) -> Self {
        let choice = match common.color.as_str() {
            "always" => ColorChoice::Always,
            "never" => ColorChoice::Never,
            _ => ColorChoice::Auto,
        };
        choice.write_global();
        let color = match AutoStream::choice(&io::stdout()) {
            ColorChoice::Never => false,
            ColorChoice::Auto | ColorChoice::Always | ColorChoice::AlwaysAnsi => true,
        };
        let set = environment.get("COLUMNS").and_then(|it| it.to_str());
        let set = set.and_then(|text| text.parse().ok());
        let own = || {
            let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
            Some(usize::from(size.ws_col))
        };
        Self {
            color,
            width: set.or_else(own).filter(|columns| *columns > 0),
            json: common.json,
            quiet: common.quiet,
            verbose: common.verbose,
        }
    }

    /// Returns the text in a style, where there are colours.
    pub(crate) fn styled(&self, style: Style, text: &str) -> String {
        if self.color {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }

    /// Prints a note beside the answer, on standard error.
    pub(crate) fn note(&self, text: &str) {
        self.note_in_colour(&told(text));
    }

    /// Prints a note that has colours in it, and nothing of others that is not printable.
    pub(crate) fn note_in_colour(&self, text: &str) {
        if !self.quiet {
            // Nobody is left to be told when standard error is closed.
            let _ = writeln!(io::stderr().lock(), "{text}");
        }
    }

    /// Prints what only somebody who looks for a fault wants to know.
    pub(crate) fn detail(&self, text: &str) {
        if self.verbose {
            let _ = writeln!(io::stderr().lock(), "{}", told(text));
        }
    }
}

/// Prints to standard output. A reader who has gone has had enough: that is no failure.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn print(text: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    written(out.write_all(text.as_ref()).and_then(|()| out.flush())).map(|_| ())
}

/// Prints a text with colours to standard output, without them where there are none.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn print_adapted(text: &str) -> Result<(), Failure> {
    let mut out = AutoStream::auto(io::stdout().lock());
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush())).map(|_| ())
}

/// Returns whether somebody still reads what was written.
///
/// # Errors
/// It could not be written for another reason.
pub(crate) fn written(outcome: io::Result<()>) -> Result<bool, Failure> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::failed(error)),
    }
}
