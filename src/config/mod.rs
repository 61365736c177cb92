//! What was typed becomes what it means: the TOML file, the environment over it, and a default
//! for every key, resolved once into a read-only [`Config`].
//!
//! An unknown key, a wrong type or an impossible value is refused with file, line and key (or
//! the variable's name); nothing is ever guessed or quietly adjusted. Resolving reads the
//! secrets that declared apps name, and nothing else: it binds no address and opens no store,
//! so a configuration can be checked beside a running server.
//!
//! `example.toml` beside this file shows every key with its default; a test compares the two.

mod addresses;
mod apps;
mod difference;
mod document;
mod error;
mod given;
mod limits;
mod load;
mod model;
mod overrides;
mod ranges;
mod secret;
mod section;
mod settings;
#[cfg(test)]
mod tests;

pub use difference::{Difference, differences};
pub use error::ConfigError;
pub use model::{
    Config, DevOptions, LimitsConfig, LogConfig, LogFormat, RejectWith, ShutdownConfig, TlsConfig,
    UnreadVariable,
};
pub use overrides::Environment;
