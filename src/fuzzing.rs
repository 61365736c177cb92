//! What the fuzz targets need of parts that nobody else outside uses: the configuration, and what
//! the store holds. Not for servers.

use std::path::Path;

use crate::config::{Config, Environment};
pub use crate::control::fuzzing::{
    APP_ROW, KEY_ROW, USAGE_ROW, believe_rows, make_store, read_store,
};

/// Reads the text of a configuration as `serve` does, without an environment, and returns it in
/// one comparable text.
///
/// # Errors
/// The line that `serve` would print.
pub fn read_configuration(text: &str) -> Result<String, String> {
    match Config::from_text(Path::new("ringmesh.toml"), text, &Environment::default()) {
        Ok(config) => Ok(format!("{config:?}")),
        Err(error) => Err(error.to_string()),
    }
}
