//! What one run of a command works with: its common arguments, its terminal, and the server that
//! it is for.

use super::client::AdminClient;
use super::common::Common;
use super::failure::Failure;
use super::find::{self, Found, Places};
use super::terminal::Terminal;
use crate::config::Environment;

/// One run of a command.
pub(crate) struct Session {
    pub common: Common,
    pub environment: Environment,
    pub terminal: Terminal,
}

impl Session {
    pub(crate) fn new(common: Common, environment: Environment) -> Self {
        Self {
            terminal: Terminal::of_process(&common, &environment),
            common,
            environment,
        }
    }

    /// Finds the server. Nothing is sent yet.
    ///
    /// # Errors
    /// There is none, or what names it cannot be used.
    pub(crate) fn found(&self) -> Result<Found, Failure> {
        let places = Places::of_process(&self.environment);
        let found = find::find(&self.common, &self.environment, &places)?;
        self.terminal
            .detail(&format!("server {}, by {}", found.url, found.origin));
        if let Some(url) = &found.public_url {
            self.terminal
                .detail(&format!("its clients connect to {url}"));
        }
        Ok(found)
    }

    /// Finds the server, and returns a client of its admin API. Nothing is sent yet.
    ///
    /// # Errors
    /// There is none, or what names it cannot be used.
    pub(super) fn client(&self) -> Result<AdminClient, Failure> {
        Ok(AdminClient::new(&self.found()?, self.terminal)?)
    }
}
