//! `ringmesh console`: a link that signs in to the console, once.
//!
//! The code stands behind the `#` of the link: browsers send that to nobody, so no log has it.

use std::process::{Command, Stdio};

use clap::Args;

use super::client::Request;
use super::failure::Failure;
use super::operate::asked;
use super::session::Session;
use super::terminal::{print, printable, printable_json};

/// What opens a link in the browser that somebody uses (freedesktop.org's xdg-utils).
const OPENER: &str = "xdg-open";

/// Arguments of `ringmesh console`.
#[derive(Args)]
pub struct ConsoleArgs {
    /// Print the link only
    #[arg(long)]
    pub print: bool,
}

/// The path of the console with a code that signs in.
#[must_use]
pub(crate) fn path(code: &str) -> String {
    format!("/#login={code}")
}

/// Carries `ringmesh console` out: prints a link, and opens it where there is a browser.
///
/// # Errors
/// What the server or the way to it did not allow.
pub(crate) fn run(args: &ConsoleArgs, session: &Session) -> Result<(), Failure> {
    let found = session.found()?;
    let answer = asked(&Request::of_sign_in_code(), &session.client()?)?;
    if session.terminal.json {
        return print(printable_json(&format!("{answer}\n")));
    }
    let code = answer["code"].as_str().unwrap_or_default();
    let link = format!("{}{}", found.url, path(&printable(code)));
    print(format!("{link}\n"))?;
    session.terminal.note("the link is good once, for a minute");
    if !args.print {
        let mut opener = Command::new(OPENER);
        let quiet = || Stdio::null();
        let opener = opener.arg(&link).stdin(quiet()).stdout(quiet());
        // Where there is no browser the link has been printed.
        let _ = opener.stderr(quiet()).spawn();
    }
    Ok(())
}
