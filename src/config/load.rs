//! From a file, the environment and arguments to a [`Config`].

use std::path::Path;

use super::document::Document;
use super::error::{ConfigError, Fault, Place};
use super::model::{Config, DevOptions};
use super::overrides::{Environment, Overrides};
use super::settings::{self, Defaults};

impl Config {
    /// Reads a file for `ringmesh serve`.
    ///
    /// # Errors
    /// The first fault of the file or the environment.
    pub fn load(path: &Path, environment: &Environment) -> Result<Self, ConfigError> {
        let bytes = std::fs::read(path).map_err(|cause| {
            ConfigError::new(Place::File(path.to_owned()), Fault::Unreadable(cause))
        })?;
        let text = str::from_utf8(&bytes).map_err(|error| {
            let offset = error.valid_up_to();
            let line = 1 + memchr::memchr_iter(b'\n', &bytes[..offset]).count();
            let path = path.to_owned();
            let byte = bytes[offset];
            ConfigError::new(Place::Line { path, line }, Fault::NotUtf8 { offset, byte })
        })?;
        Self::from_text(path, text, environment)
    }

    /// Resolves the text of a file for `ringmesh serve`; `path` names it in errors, and its
    /// directory is what relative paths start from.
    ///
    /// # Errors
    /// The first fault of the text or the environment.
    pub fn from_text(
        path: &Path,
        text: &str,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let overrides = Overrides::from_environment(environment)?;
        let document = Document::parse(path, text, &overrides)?;
        let config = settings::resolve(&document, &Defaults::serve(), environment)?;
        Ok(Self {
            file: Some(path.to_owned()),
            ..config
        })
    }

    /// The configuration of `ringmesh dev`: no file, loopback addresses, a store in the working
    /// directory, no limit on connects.
    ///
    /// # Errors
    /// The first fault of the arguments or the environment.
    pub fn for_dev(options: &DevOptions, environment: &Environment) -> Result<Self, ConfigError> {
        let mut overrides = Overrides::from_environment(environment)?;
        for (argument, key, text) in [
            ("--listen", "server.listen", &options.listen),
            ("--admin", "admin.listen", &options.admin),
            ("--shards", "server.shards", &options.shards),
            ("--data-dir", "store.data_dir", &options.data_dir),
        ] {
            if let Some(text) = text {
                overrides.set(key, argument, text);
            }
        }
        let document = Document::parse(Path::new(""), "", &overrides)?;
        settings::resolve(&document, &Defaults::dev(), environment)
    }
}
