//! Which server a command is for, so that nobody has to copy addresses and tokens.
//!
//! The first hit wins: arguments, the environment, a named context, the server that runs in
//! `./ringmesh-data`, the context in use, the server of `/etc/ringmesh/ringmesh.toml`. A
//! directory goes before the context in use: to act on a development server by mistake is
//! harmless, and on another one it is not. A token of the environment goes before the one that is
//! found with a server, unless the server is that of a context.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::address;
use super::common::Common;
use super::contexts::{self, Context, Contexts};
use super::failure::Failure;
use crate::bounded_file::{self, SECRET_BYTES_MAX};
use crate::config::{Environment, data_dir_of};
use crate::run_file::{Live, NotLive, RunFile};

const URL_VARIABLE: &str = "RINGMESH_ADMIN_URL";
const TOKEN_VARIABLE: &str = "RINGMESH_ADMIN_TOKEN";
const TOKEN_FILE_VARIABLE: &str = "RINGMESH_ADMIN_TOKEN_FILE";
const CONTEXT_VARIABLE: &str = "RINGMESH_CONTEXT";
/// Where a token that is given without an address belongs to.
const URL_DEFAULT: &str = "http://127.0.0.1:7464";

/// A server, and how to talk to it. Not `Debug`: it has a secret.
pub(crate) struct Found {
    /// Of its admin listener, without a slash at its end.
    pub url: String,
    /// The admin token, or what to do about its absence.
    pub token: Result<Zeroizing<String>, String>,
    /// Certificates to trust; `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// Where its clients connect, if that is known.
    pub public_url: Option<String>,
    /// The name of the context, if it has one.
    pub context: Option<String>,
    /// What led here, for people.
    pub origin: String,
}

/// Where servers are looked for.
pub(crate) struct Places {
    /// Data directory of `ringmesh dev`.
    pub working: PathBuf,
    /// File of the contexts.
    pub contexts: Option<PathBuf>,
    /// Configuration of the machine's server.
    pub system: PathBuf,
}

impl Places {
    pub(crate) fn of_process(environment: &Environment) -> Self {
        Self {
            working: "./ringmesh-data".into(),
            contexts: contexts::file(environment),
            system: "/etc/ringmesh/ringmesh.toml".into(),
        }
    }
}

/// Finds the server that a command is for.
///
/// # Errors
/// There is none, or what names it cannot be used.
pub(crate) fn find(
    common: &Common,
    environment: &Environment,
    places: &Places,
) -> Result<Found, Failure> {
    let search = Search {
        common,
        environment,
        places,
    };
    let mut found = search.run()?;
    if common.ca.is_some() {
        found.ca.clone_from(&common.ca);
    }
    if let Some(given) = search.argument_token() {
        found.token = Ok(given.map_err(Failure::usage)?);
    }
    // A context names a file of its own. What a server has left for its neighbours in `run.json`
    // is a default, and goes behind what somebody has set.
    if (found.context.is_none() || found.token.is_err())
        && search.argument_token().is_none()
        && let Some(given) = search.environment_token()
    {
        found.token = given;
    }
    Ok(found)
}

type Token = Result<Zeroizing<String>, String>;

struct Search<'s> {
    common: &'s Common,
    environment: &'s Environment,
    places: &'s Places,
}

impl Search<'_> {
    fn run(&self) -> Result<Found, Failure> {
        if let Some(url) = &self.common.admin_url {
            return self.at_url(url, "--admin-url");
        }
        if let Some(name) = &self.common.context {
            return self.in_context(name, "--context");
        }
        if let Some(url) = self.variable(URL_VARIABLE) {
            return self.at_url(&url, URL_VARIABLE);
        }
        if let Some(name) = self.variable(CONTEXT_VARIABLE) {
            return self.in_context(&name, CONTEXT_VARIABLE);
        }
        let in_working = match self.in_data_dir(&self.places.working) {
            Ok(found) => return Ok(found),
            Err(why) => why,
        };
        let contexts = self.contexts()?;
        if let Some(name) = &contexts.current {
            let context = contexts.named(name)?;
            return Ok(of_context(name, context, "the context in use"));
        }
        let in_system = match self.in_system() {
            Ok(found) => return Ok(found),
            Err(why) => why,
        };
        if self.argument_token().is_some() || self.environment_token().is_some() {
            return self.at_url(URL_DEFAULT, "the default address");
        }
        let number = match contexts.contexts.len() {
            0 => "none",
            _ => "none in use",
        };
        Err(Failure::no_server(format_args!(
            "no server found: looked in {} ({in_working}), contexts ({number}), {} ({in_system}); \
             start one with ringmesh dev, or give --admin-url",
            self.places.working.display(),
            self.places.system.display(),
        )))
    }

    fn variable(&self, name: &str) -> Option<String> {
        let value = self.environment.get(name)?.to_str()?;
        (!value.is_empty()).then(|| value.to_owned())
    }

    fn contexts(&self) -> Result<Contexts, Failure> {
        let path = self.places.contexts.as_deref();
        path.map_or_else(|| Ok(Contexts::default()), Contexts::load)
    }

    fn in_context(&self, name: &str, origin: &str) -> Result<Found, Failure> {
        let contexts = self.contexts()?;
        Ok(of_context(name, contexts.named(name)?, origin))
    }

    /// The server at a given address. Its token may be known, where a server that is found in
    /// another way has the same address.
    fn at_url(&self, url: &str, origin: &str) -> Result<Found, Failure> {
        let url = address::admin_url(url)
            .map_err(|text| Failure::usage(format_args!("{origin}: {text}")))?;
        let contexts = self.contexts().unwrap_or_default();
        let of_contexts = contexts.contexts.iter();
        let of_contexts = of_contexts.map(|(name, context)| of_context(name, context, origin));
        let known = [
            self.in_data_dir(&self.places.working).ok(),
            self.in_system().ok(),
        ];
        let mut known = known.into_iter().flatten().chain(of_contexts);
        match known.find(|found| found.url == url) {
            Some(found) => Ok(Found {
                origin: origin.to_owned(),
                ..found
            }),
            None => Ok(Found {
                url,
                token: Err("there is no admin token".to_owned()),
                ca: None,
                public_url: None,
                context: None,
                origin: origin.to_owned(),
            }),
        }
    }

    fn in_data_dir(&self, data_dir: &Path) -> Result<Found, String> {
        let live = RunFile::of_live_server(data_dir).map_err(|why| match why {
            NotLive::Absent => "none".to_owned(),
            NotLive::Ended => "its server has ended".to_owned(),
            NotLive::Unusable(why) => why,
        })?;
        of_live(&live, &data_dir.join("run.json"))
    }

    fn in_system(&self) -> Result<Found, String> {
        let none = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => "none".to_owned(),
            _ => error.to_string(),
        };
        let data_dir = data_dir_of(&self.places.system, self.environment).map_err(none)?;
        self.in_data_dir(&data_dir)
            .map_err(|why| format!("{why} in {}", data_dir.display()))
    }

    /// The token of an argument.
    fn argument_token(&self) -> Option<Token> {
        if let Some(token) = &self.common.admin_token {
            return Some(Ok(Zeroizing::new(token.clone())));
        }
        let file = self.common.admin_token_file.as_deref();
        file.map(|file| token_in(file, "--admin-token-file"))
    }

    fn environment_token(&self) -> Option<Token> {
        if let Some(token) = self.environment.get(TOKEN_VARIABLE) {
            let text = token.to_str().map(|token| Zeroizing::new(token.to_owned()));
            return Some(text.ok_or_else(|| format!("{TOKEN_VARIABLE}: not UTF-8")));
        }
        let file = self.variable(TOKEN_FILE_VARIABLE)?;
        Some(token_in(Path::new(&file), TOKEN_FILE_VARIABLE))
    }
}

fn of_context(name: &str, context: &Context, origin: &str) -> Found {
    let file = context.admin_token_file.as_deref();
    Found {
        url: context.admin_url.clone(),
        token: file.map_or_else(
            || Err(format!("context {name} names no file with a token")),
            |file| token_in(file, &format!("context {name}")),
        ),
        ca: context.ca.clone(),
        public_url: context.url.clone(),
        context: Some(name.to_owned()),
        origin: format!("context {name}, {origin}"),
    }
}

/// A server that was found by its data directory.
///
/// # Errors
/// It has no admin listener.
pub(super) fn of_live(live: &Live, path: &Path) -> Result<Found, String> {
    let run = &live.run;
    let Some(url) = run.admin_url.clone() else {
        return Err(format!("pid {} has no admin listener", run.pid));
    };
    let token = live.token().map_err(|error| unreadable(run, &error));
    Ok(Found {
        url,
        token,
        ca: None,
        public_url: run.public_urls.first().cloned(),
        context: None,
        origin: format!("{}, pid {}", path.display(), run.pid),
    })
}

fn unreadable(run: &RunFile, error: &dyn Display) -> String {
    format!("{}: {error}", run.token_file.display())
}

fn token_in(file: &Path, origin: &str) -> Token {
    bounded_file::read_text(file, SECRET_BYTES_MAX)
        .map_err(|error| format!("{origin}: {}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Directories with a server in each place, and the locks that make them live.
    struct World {
        dir: tempfile::TempDir,
        places: Places,
        locks: Vec<File>,
    }

    impl World {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let places = Places {
                working: dir.path().join("ringmesh-data"),
                contexts: Some(dir.path().join("contexts.toml")),
                system: dir.path().join("ringmesh.toml"),
            };
            Self {
                dir,
                places,
                locks: Vec::new(),
            }
        }

        fn with_server(mut self, name: &str, port: u16) -> Self {
            let data_dir = self.dir.path().join(name);
            fs::create_dir(&data_dir).unwrap();
            let token_file = data_dir.join("admin.token");
            fs::write(&token_file, format!("token of {name}")).unwrap();
            let run = RunFile {
                pid: 1,
                version: String::new(),
                mode: "dev".into(),
                admin_url: Some(format!("http://127.0.0.1:{port}")),
                token_file,
                public_urls: vec![],
                config_file: None,
            };
            run.write(&data_dir).unwrap();
            let lock = File::open(&data_dir).unwrap();
            lock.lock().unwrap();
            self.locks.push(lock);
            self
        }

        fn with_system(self) -> Self {
            fs::write(&self.places.system, "store.data_dir = \"system\"\n").unwrap();
            self.with_server("system", 3)
        }

        fn with_contexts(self) -> Self {
            let text = "current = \"b\"\n[contexts.a]\nadmin_url = \"http://a:1\"\n\
                        [contexts.b]\nadmin_url = \"http://b:1\"\n";
            let path = self.places.contexts.as_deref().unwrap();
            fs::write(path, text).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
            self
        }

        fn find(&self, common: &Common, variables: &[(&str, &str)]) -> Result<Found, Failure> {
            find(common, &variables.iter().copied().collect(), &self.places)
        }

        #[track_caller]
        fn check(&self, common: &Common, variables: &[(&str, &str)], url: &str, token: &str) {
            let found = self.find(common, variables).ok().unwrap();
            assert_eq!(found.url, url);
            let got = found.token.as_deref().map_or("", String::as_str);
            assert_eq!(got, token, "{url}");
        }
    }

    fn at(url: &str) -> Common {
        Common {
            admin_url: Some(url.into()),
            ..Common::default()
        }
    }

    fn named(name: &str) -> Common {
        Common {
            context: Some(name.into()),
            ..Common::default()
        }
    }

    #[test]
    fn the_first_hit_wins() {
        let world = World::new()
            .with_server("ringmesh-data", 1)
            .with_contexts()
            .with_system();
        let none = Common::default();
        let url = (URL_VARIABLE, "9");
        let context = (CONTEXT_VARIABLE, "a");
        let token = (TOKEN_VARIABLE, "t");
        world.check(&at("8"), &[url, context, token], "http://127.0.0.1:8", "t");
        world.check(&named("a"), &[url, token], "http://a:1", "t");
        world.check(&none, &[url, context], "http://127.0.0.1:9", "");
        world.check(&none, &[context], "http://a:1", "");
        let dev = "token of ringmesh-data";
        world.check(&none, &[], "http://127.0.0.1:1", dev);
        // What was set goes before what the server has left there.
        world.check(&none, &[token], "http://127.0.0.1:1", "t");
        world.check(&at(":1"), &[token], "http://127.0.0.1:1", "t");
        // The same server, by its address.
        world.check(&at(":1"), &[], "http://127.0.0.1:1", dev);
        world.check(&at("3"), &[], "http://127.0.0.1:3", "token of system");

        let world = World::new().with_contexts().with_system();
        world.check(&none, &[], "http://b:1", "");
        let world = World::new().with_system();
        world.check(&none, &[], "http://127.0.0.1:3", "token of system");
        world.check(&none, &[token], "http://127.0.0.1:3", "t");
        let argument = Common {
            admin_token: Some("a".into()),
            ..Common::default()
        };
        world.check(&argument, &[token], "http://127.0.0.1:3", "a");
        let world = World::new();
        world.check(&none, &[token], URL_DEFAULT, "t");
    }

    #[test]
    fn nothing_found_says_where_was_looked() {
        let world = World::new();
        let failure = world.find(&Common::default(), &[]).err().unwrap();
        assert_eq!(failure.exit_code, 3);
        let message = failure.message;
        assert!(
            message.starts_with("no server found: looked in "),
            "{message}"
        );
        assert!(message.contains("contexts (none)"), "{message}");
        let end = "(none); start one with ringmesh dev, or give --admin-url";
        assert!(message.ends_with(end), "{message}");
        let mut world = World::new().with_server("ringmesh-data", 1);
        world.locks.clear();
        let message = world.find(&Common::default(), &[]).err().unwrap().message;
        assert!(message.contains("(its server has ended)"), "{message}");
        let failure = world.find(&named("nobody"), &[]).err().unwrap();
        assert_eq!(failure.exit_code, 2);
    }
}
