//! What was typed becomes what it means: the TOML file, the environment over it, and a default
//! for every key, resolved once into a read-only [`Config`].
//!
//! An unknown key, a wrong type or an impossible value is refused with file, line and key (or
//! the variable's name); nothing is ever guessed or quietly adjusted. Resolving reads the
//! secrets that declared apps name, and looks whether a certificate has its key; it binds no
//! address and opens no store, so a configuration can be checked beside a running server.
//!
//! `example.toml` beside this file shows every key with its default; a test compares the two.

mod addresses;
mod apps;
mod declared;
mod difference;
mod document;
mod error;
mod faults;
mod given;
mod history;
mod limits;
mod load;
mod model;
mod naming;
mod overrides;
mod public_url;
mod ranges;
mod secret;
mod section;
mod settings;
mod template;
#[cfg(test)]
mod tests;

pub(crate) use declared::declared_differences;
pub(crate) use difference::{Difference, differences, needs_restart};
pub(crate) use error::ConfigError;
pub(crate) use faults::faults;
pub(crate) use load::{data_dir_of, default_file};
pub(crate) use model::{
    Config, DevOptions, EventsAddresses, EventsPeers, HandoverConfig, LimitsConfig, LogConfig,
    LogEvents, LogFormat, RejectWith, ShutdownConfig, TlsConfig, UnreadVariable,
};
pub(crate) use naming::in_words_of_dev;
pub(crate) use overrides::Environment;
pub(crate) use public_url::PublicUrl;
pub(crate) use template::template;
