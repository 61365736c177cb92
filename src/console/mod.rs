//! The console: what a browser gets at `/` of the admin listener.
//!
//! The files beside this one, as they are: no build step, no request to anywhere else. They hold
//! no secret, and tell nothing of the server but its name: what the console shows it asks the
//! admin API for, with a session. The page names its files below [`FILES_AT`]; they are served
//! below a path with the hash of all of them, so that browsers keep them for as long as they like,
//! and in gzip, which is a third of what they are.

use std::borrow::Cow;
use std::net::SocketAddr;

use aws_lc_rs::digest::{Context, SHA256};
use axum::http::HeaderValue;

use crate::control::Page;
pub(crate) use crate::control::Site;

/// Where the page says that its files are.
const FILES_AT: &str = "/console/files/";
/// Characters of the hash in their path.
const HASH_CHARS: usize = 16;

const PAGE: &str = include_str!("index.html");

/// The files of the page, each with its media type.
macro_rules! files {
    ($($content_type:literal: [$($name:literal),* $(,)?])*) => {
        &[$($(($name, $content_type, include_str!($name))),*),*]
    };
}

/// Name, media type, content. Every file beside this one is here.
const FILES: &[(&str, &str, &str)] = files! {
    "text/css; charset=utf-8": ["style.css"]
    "text/javascript; charset=utf-8": [
        "api.js", "app.js", "chart.js", "dom.js", "format.js", "keys.js", "where.js", "widgets.js",
        "views/apps.js", "views/channels.js", "views/console.js", "views/event_rows.js",
        "views/events.js", "views/node.js", "views/overview.js", "views/pane.js", "views/peers.js",
        "views/sign_in.js", "views/socket.js", "views/token.js",
    ]
    "image/svg+xml": ["icon.svg"]
};

/// The console of a server that listens there for clients, who know it under those origins too.
#[must_use]
pub(crate) fn site(listeners: &[Listener], origins: &[String]) -> Site {
    let hash = hash();
    let at = format!("/console/{hash}/");
    let mut pages = vec![Page {
        path: "/".into(),
        content_type: "text/html; charset=utf-8",
        body: Cow::Owned(PAGE.replace(FILES_AT, &at).into_bytes()),
        is_immutable: false,
    }];
    pages.extend(FILES.iter().map(|&(name, content_type, text)| Page {
        path: format!("{at}{name}").into(),
        content_type,
        body: Cow::Borrowed(text.as_bytes()),
        is_immutable: true,
    }));
    Site {
        prefix: "/",
        security_policy: security_policy(listeners, origins),
        pages,
    }
}

/// Where clients connect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listener {
    /// The address listened on.
    pub address: SocketAddr,
    /// Whether clients speak TLS there.
    pub tls: bool,
}

impl Listener {
    /// What a page may connect to: the address itself, or the port on the page's own host where
    /// it is every address, or one that a policy cannot name.
    fn sources(self) -> String {
        let (http, ws) = if self.tls {
            ("https", "wss")
        } else {
            ("http", "ws")
        };
        let port = self.address.port();
        let host = match self.address {
            SocketAddr::V4(v4) if !v4.ip().is_unspecified() => v4.ip().to_string(),
            _ => "{host}".to_owned(),
        };
        format!(" {http}://{host}:{port} {ws}://{host}:{port}")
    }
}

/// Nothing but our own files, and where clients connect.
fn security_policy(listeners: &[Listener], origins: &[String]) -> HeaderValue {
    let mut sources: String = listeners.iter().map(|it| it.sources()).collect();
    for origin in origins {
        sources += &format!(" {origin}");
    }
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
         connect-src 'self'{sources}; frame-ancestors 'none'; base-uri 'none'; \
         form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    );
    // Letters, digits and punctuation are what header values are made of.
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

/// The beginning of the hash of all files.
fn hash() -> String {
    let mut hash = Context::new(&SHA256);
    for (name, _, text) in FILES {
        for part in [name, text] {
            hash.update(&part.len().to_le_bytes());
            hash.update(part.as_bytes());
        }
    }
    let hash = hash.finish();
    let hex = hash.as_ref().iter().map(|byte| format!("{byte:02x}"));
    hex.collect::<String>().chars().take(HASH_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::path::Path;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// What a browser may be sent until the first view is there, answers included.
    const FIRST_VIEW_BYTES_MAX: usize = 150 * 1_024;

    fn policy_of(address: &str, tls: bool) -> String {
        let address = address.parse().unwrap();
        let site = site(&[Listener { address, tls }], &[]);
        site.security_policy.to_str().unwrap().to_owned()
    }

    #[test]
    fn the_page_may_connect_to_itself_and_to_where_clients_do() {
        for (address, tls, sources) in [
            (
                "127.0.0.1:8080",
                false,
                "http://127.0.0.1:8080 ws://127.0.0.1:8080;",
            ),
            (
                "0.0.0.0:8443",
                true,
                "https://{host}:8443 wss://{host}:8443;",
            ),
            ("[::]:8080", false, "http://{host}:8080 ws://{host}:8080;"),
        ] {
            let policy = policy_of(address, tls);
            assert!(
                policy.contains(&format!("connect-src 'self' {sources}")),
                "{policy}"
            );
        }
    }

    #[test]
    fn the_page_may_connect_to_the_origins_that_clients_know() {
        let origins = ["https://rt.example.com", "wss://rt.example.com"].map(String::from);
        let site = site(&[], &origins);
        let policy = site.security_policy.to_str().unwrap();
        let sources = "connect-src 'self' https://rt.example.com wss://rt.example.com;";
        assert!(policy.contains(sources), "{policy}");
    }

    #[test]
    fn every_file_is_served_below_the_hash_of_all_and_kept_for_ever() {
        let site = site(&[], &[]);
        let at = format!("/console/{}/", hash());
        let text = |page: &Page| String::from_utf8(page.body.to_vec()).unwrap();
        let page = text(&site.pages[0]);
        assert!(page.contains(&format!("{at}app.js")), "{page}");
        assert!(!page.contains(FILES_AT), "{page}");
        for quoted in page.split('"').filter(|it| it.starts_with("/console/")) {
            assert!(
                site.pages.iter().any(|page| page.path == quoted),
                "{quoted}"
            );
        }
        let kept: Vec<_> = site.pages.iter().filter(|page| page.is_immutable).collect();
        assert_eq!(kept.len(), FILES.len());
    }

    #[test]
    fn all_files_together_take_less_than_half_of_what_a_first_view_may() {
        let site = site(&[], &[]);
        let sizes = site.pages.iter().map(|page| {
            let mut small = GzEncoder::new(Vec::new(), Compression::best());
            small.write_all(&page.body).unwrap();
            small.finish().unwrap().len()
        });
        let bytes: usize = sizes.sum();
        assert!(bytes <= FIRST_VIEW_BYTES_MAX / 2, "{bytes} bytes in gzip");
    }

    /// The names of the files of a directory below this one, with it.
    fn names(dir: &Path, above: &str) -> Vec<String> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{above}{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                names.extend(self::names(&entry.path(), &format!("{name}/")));
            } else {
                names.push(name);
            }
        }
        names
    }

    #[test]
    fn the_files_are_all_here_and_name_nothing_elsewhere() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/console");
        for name in names(&dir, "") {
            let is_file = FILES.iter().any(|(it, _, _)| *it == name);
            let others = ["mod.rs", "index.html", "screenshot.png"];
            assert!(is_file || others.contains(&&*name), "{name}");
        }
        for (name, _, text) in FILES.iter().chain(&[("index.html", "", PAGE)]) {
            let text = text.replace("http://www.w3.org/2000/svg", "");
            for foreign in [
                "src=\"http",
                "from \"http",
                "import(\"http",
                "url(http",
                "//cdn",
            ] {
                assert!(!text.contains(foreign), "{name} names {foreign}");
            }
        }
    }
}
