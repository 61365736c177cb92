//! What `ringmesh init` is going to make.

use std::path::{Path, PathBuf};

use crate::cli::{Failure, InitArgs};
use crate::config::template;

/// The server's own directory of certificates, which its user may read.
const TLS_DIR: &str = "/etc/ringmesh/tls";
/// Where certbot keeps what it has.
const LETSENCRYPT: &str = "/etc/letsencrypt";
const UNIT_FILE: &str = "/etc/systemd/system/ringmesh.service";
const HOOK_FILE: &str = "/etc/letsencrypt/renewal-hooks/deploy/ringmesh";
/// The unit, which names a file of its own choice.
const UNIT: &str = include_str!("../../tuning/ringmesh.service");

/// Certificate and key.
type Pair = [PathBuf; 2];

/// What is going to be made.
pub(super) struct Plan {
    /// The configuration.
    pub config: PathBuf,
    /// Directory of the store.
    pub data_dir: PathBuf,
    /// Id of the first app.
    pub app: String,
    dir: PathBuf,
    is_system: bool,
    url: Option<String>,
    /// Path, mode and content; the configuration first.
    files: Vec<(PathBuf, u32, String)>,
    /// What is copied to where the server may read it.
    copied: Option<(Pair, Pair)>,
}

impl Plan {
    /// Decides what to make.
    ///
    /// # Errors
    /// The arguments contradict each other.
    pub(super) fn new(args: &InitArgs) -> Result<Self, Failure> {
        let at_root = |path: &str| match &args.root {
            Some(root) => root.join(path.trim_start_matches('/')),
            None => PathBuf::from(path),
        };
        let tls = certificate(args)?;
        let of_certbot = |pair: &Pair| pair[0].starts_with(LETSENCRYPT);
        let is_copied = args.system && tls.as_ref().is_some_and(of_certbot);
        let copies = ["fullchain.pem", "privkey.pem"].map(|name| Path::new(TLS_DIR).join(name));
        let mut values = Vec::new();
        let listen = args.listen.clone();
        let default = match (&tls, args.system) {
            (Some(_), true) => Some("0.0.0.0:443".to_owned()),
            (Some(_), false) => Some("0.0.0.0:8443".to_owned()),
            (None, _) => None,
        };
        let mut port: Option<u16> = None;
        if let Some(listen) = listen.or(default) {
            values.push(("server", "listen", format!("[{listen:?}]")));
            port = listen.rsplit(':').next().and_then(|port| port.parse().ok());
        }
        let url = url_of(args.domain.as_deref(), tls.is_some(), port);
        if let Some(url) = &url {
            values.push(("server", "public_url", format!("{url:?}")));
        }
        if let Some([cert, key]) = if is_copied {
            Some(&copies)
        } else {
            tls.as_ref()
        } {
            values.push(("tls", "cert", format!("{cert:?}")));
            values.push(("tls", "key", format!("{key:?}")));
        }
        if !args.system {
            values.push(("store", "data_dir", "\"ringmesh-data\"".to_owned()));
        }
        let (dir, data_dir) = match args.system {
            true => (at_root("/etc/ringmesh"), at_root("/var/lib/ringmesh")),
            false => (args.dir.clone(), args.dir.join("ringmesh-data")),
        };
        let config = dir.join("ringmesh.toml");
        let mode = if args.system { 0o640 } else { 0o644 };
        let mut files = vec![(config.clone(), mode, template(&values))];
        if args.system {
            files.push((at_root(UNIT_FILE), 0o644, UNIT.to_owned()));
        }
        let copied = tls.clone().filter(|_| is_copied);
        let copied = copied.map(|from| {
            files.push((at_root(HOOK_FILE), 0o755, hook(&from, &copies)));
            (
                from,
                copies.clone().map(|path| at_root(&path.to_string_lossy())),
            )
        });
        Ok(Self {
            config,
            data_dir,
            app: args.app.clone(),
            dir,
            is_system: args.system,
            url,
            files,
            copied,
        })
    }

    /// Directory of the configuration.
    pub(super) fn config_dir(&self) -> PathBuf {
        self.dir.clone()
    }

    /// Path, mode and content of each file; the configuration first.
    pub(super) fn files(&self) -> &[(PathBuf, u32, String)] {
        &self.files
    }

    /// Certificate and key, from where and to where.
    pub(super) fn certificate(&self) -> Option<([&Path; 2], [&Path; 2])> {
        let (from, to) = self.copied.as_ref()?;
        let paths = |pair| -> [&Path; 2] {
            let [cert, key]: &Pair = pair;
            [cert, key]
        };
        Some((paths(from), paths(to)))
    }

    /// Where clients connect, if that is known.
    pub(super) fn url(&self) -> Option<String> {
        self.url.clone()
    }

    /// Refuses to touch what is there.
    ///
    /// # Errors
    /// Something is, and `force` was not given.
    pub(super) fn check_free(&self, force: bool) -> Result<(), Failure> {
        let files = self.files.iter().map(|(path, ..)| path);
        let mut all = files.chain([&self.data_dir]);
        match all.find(|path| !force && path.exists()) {
            Some(path) => Err(Failure::usage(format_args!(
                "{} is there already; choose another directory, or give --force, which moves \
                 files aside and keeps the store",
                path.display()
            ))),
            None => Ok(()),
        }
    }

    /// Refuses a file for the secrets that is there, or is one of what is made.
    ///
    /// # Errors
    /// It is. With `force` a file that is there is moved aside, and nothing else is.
    pub(super) fn check_env(&self, path: &Path, force: bool) -> Result<(), Failure> {
        let shown = path.display();
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let place = absolute(path);
        let is_made = self.files.iter().any(|(made, ..)| absolute(made) == place)
            || place.starts_with(absolute(&self.data_dir));
        if is_made {
            return Err(Failure::usage(format_args!(
                "--env {shown}: that is a part of the server; name a file outside of it"
            )));
        }
        match path.symlink_metadata() {
            Err(_) => Ok(()),
            Ok(there) if !there.is_file() => Err(Failure::usage(format_args!(
                "--env {shown}: that is no file; name another one"
            ))),
            Ok(_) if !force => Err(Failure::usage(format_args!(
                "--env {shown} is there already; name another file, or give --force, which moves \
                 it aside"
            ))),
            Ok(_) => Ok(()),
        }
    }

    /// All that would be made, for people.
    pub(super) fn described(&self) -> String {
        let mut text = String::new();
        for (path, mode, content) in &self.files {
            text += &format!(
                "# would make {} (mode {mode:04o}):\n{content}\n",
                path.display()
            );
        }
        if let Some((from, to)) = self.certificate() {
            for (from, to) in from.iter().zip(to) {
                let (from, to) = (from.display(), to.display());
                text += &format!("# would copy {from} to {to} (mode 0640)\n");
            }
        }
        let data_dir = self.data_dir.display();
        text += &format!(
            "# would make {data_dir} (mode 0700) with a store, a master key, app {} and two keys\n",
            self.app
        );
        if self.is_system {
            text += "# would make the user ringmesh, who owns it\n";
        }
        text
    }

    /// What to type next.
    pub(super) fn next_commands(&self) -> [String; 3] {
        if self.is_system {
            return [
                "sudo systemctl enable --now ringmesh".to_owned(),
                "sudo ringmesh check".to_owned(),
                "sudo ringmesh token mint alice".to_owned(),
            ];
        }
        let dir = self.dir.display().to_string();
        let cd = match dir.as_str() {
            "." | "" => String::new(),
            _ => format!("cd {dir} && "),
        };
        ["check", "serve", "token mint alice"].map(|words| format!("{cd}ringmesh {words}"))
    }
}

/// Where clients of a domain connect. Without TLS and a port, a proxy is before the server.
fn url_of(domain: Option<&str>, has_tls: bool, port: Option<u16>) -> Option<String> {
    let (scheme, default) = if has_tls { ("wss", 443) } else { ("ws", 80) };
    let port = port.filter(|port| *port != default);
    let port = port.map_or(String::new(), |port| format!(":{port}"));
    Some(format!("{scheme}://{}{port}", domain?))
}

/// Certificate and key: those that were named, or those that certbot has of the domain.
fn certificate(args: &InitArgs) -> Result<Option<Pair>, Failure> {
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    match (&args.cert, &args.key, &args.domain) {
        (Some(cert), Some(key), _) => Ok(Some([cert, key].map(absolute))),
        (Some(_), None, _) => Err(Failure::usage("--key is missing: that of the certificate")),
        (None, Some(_), _) => Err(Failure::usage("--cert is missing: that of the key")),
        (None, None, Some(domain)) => {
            let live = Path::new(LETSENCRYPT).join("live").join(domain);
            let pair = ["fullchain.pem", "privkey.pem"].map(|name| live.join(name));
            Ok(pair[0].exists().then_some(pair))
        }
        (None, None, None) => Ok(None),
    }
}

/// What certbot runs after a renewal.
fn hook(from: &Pair, to: &Pair) -> String {
    let install = |at: usize| {
        let (from, to) = (from[at].display(), to[at].display());
        format!("install -o root -g ringmesh -m 0640 '{from}' '{to}'\n")
    };
    format!(
        "#!/bin/sh\n# Made by ringmesh init. Puts a renewed certificate where ringmesh may read \
         it; the server\n# takes it up by itself.\nset -eu\n{}{}",
        install(0),
        install(1)
    )
}
