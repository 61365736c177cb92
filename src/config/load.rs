//! From a file, the environment and arguments to a [`Config`].

use std::path::{Path, PathBuf};

use super::document::Document;
use super::error::{ConfigError, Fault, Place};
use super::model::{Config, DevOptions};
use super::naming::ARGUMENTS;
use super::overrides::{Environment, Overrides, variable_of};
use super::settings::{self, Defaults};
use crate::bounded_file::{self, CONFIG_BYTES_MAX};

impl Config {
    /// Reads a file for `ringmesh serve`.
    ///
    /// # Errors
    /// The first fault of the file or the environment.
    pub(crate) fn load(path: &Path, environment: &Environment) -> Result<Self, ConfigError> {
        let bytes = bounded_file::read(path, CONFIG_BYTES_MAX).map_err(|cause| {
            ConfigError::new(Place::File(path.to_owned()), Fault::Unreadable(cause))
        })?;
        let text = str::from_utf8(&bytes).map_err(|error| {
            let offset = error.valid_up_to();
            let line = 1 + memchr::memchr_iter(b'\n', &bytes[..offset]).count();
            let path = path.to_owned();
            let byte = bytes[offset];
            let place = Place::Line { path, line, offset };
            ConfigError::new(place, Fault::NotUtf8 { offset, byte })
        })?;
        Self::from_text(path, text, environment)
    }

    /// Resolves the text of a file for `ringmesh serve`; `path` names it in errors, and its
    /// directory is what relative paths start from.
    ///
    /// # Errors
    /// The first fault of the text or the environment.
    pub(crate) fn from_text(
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
    pub(crate) fn for_dev(
        options: &DevOptions,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let mut overrides = Overrides::from_environment(environment)?;
        let given = [
            &options.listen,
            &options.admin,
            &options.shards,
            &options.data_dir,
        ];
        for ((key, argument), text) in ARGUMENTS.into_iter().zip(given) {
            if let Some(text) = text {
                overrides.set(key, argument, text);
            }
        }
        let document = Document::parse(Path::new(""), "", &overrides)?;
        settings::resolve(&document, &Defaults::dev(), environment)
    }
}

/// Returns the data directory that a file for `serve` names, without looking at the rest of the
/// file: for commands that look for the server that runs with it.
///
/// # Errors
/// The file cannot be read, or is not TOML.
pub(crate) fn data_dir_of(path: &Path, environment: &Environment) -> std::io::Result<PathBuf> {
    let text = bounded_file::read_text(path, CONFIG_BYTES_MAX)?;
    let file: toml::Table = toml::from_str(&text).map_err(std::io::Error::other)?;
    let in_file = || file.get("store")?.get("data_dir")?.as_str();
    let set = environment.get(&variable_of("store.data_dir"));
    let named = set.and_then(|it| it.to_str()).or_else(in_file);
    let directory = path.parent().unwrap_or(Path::new(""));
    Ok(directory.join(named.unwrap_or(Defaults::serve().data_dir())))
}

/// Where `serve` and `check` look for their file, in this order.
const FILES: [&str; 2] = ["./ringmesh.toml", "/etc/ringmesh/ringmesh.toml"];

/// Returns the file that `serve` reads when none is named.
///
/// # Errors
/// There is none: what to do about it.
pub(crate) fn default_file() -> Result<PathBuf, String> {
    let mut files = FILES.iter().map(PathBuf::from);
    files.find(|file| file.exists()).ok_or_else(|| {
        format!(
            "no configuration found: looked for {}; make one with ringmesh init, or name one with \
             --config",
            FILES.join(" and ")
        )
    })
}
