//! The demo page: what a browser gets at `/demo` of the admin listener of `ringmesh dev`.
//!
//! The files beside this one, as they are: no build step, no request to anywhere else. What the
//! page has to know of the server (a publishable key, where clients connect) is in
//! `config.json`; it holds no secret. The page is a client like any other.

use std::borrow::Cow;
use std::net::SocketAddr;

use axum::http::HeaderValue;
use serde_json::{Value, json};

use crate::control::{Page, Site};

/// Where the page is.
pub(crate) const PATH: &str = "/demo";

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// The files of the page: path, media type, content.
const FILES: &[(&str, &str, &str)] = &[
    (PATH, "text/html; charset=utf-8", include_str!("page.html")),
    (
        "/demo/style.css",
        "text/css; charset=utf-8",
        include_str!("style.css"),
    ),
    ("/demo/icon.svg", "image/svg+xml", include_str!("icon.svg")),
    ("/demo/app.js", JAVASCRIPT, include_str!("app.js")),
    ("/demo/call.js", JAVASCRIPT, include_str!("call.js")),
    ("/demo/burst.js", JAVASCRIPT, include_str!("burst.js")),
    (
        "/demo/chart.js",
        JAVASCRIPT,
        include_str!("../console/chart.js"),
    ),
    (
        "/demo/dom.js",
        JAVASCRIPT,
        include_str!("../console/dom.js"),
    ),
    ("/demo/link.js", JAVASCRIPT, include_str!("link.js")),
    (
        "/demo/client.js",
        JAVASCRIPT,
        include_str!("../client/client.js"),
    ),
    (
        "/demo/connection.js",
        JAVASCRIPT,
        include_str!("../client/connection.js"),
    ),
    (
        "/demo/subscription.js",
        JAVASCRIPT,
        include_str!("../client/subscription.js"),
    ),
    (
        "/demo/basics.js",
        JAVASCRIPT,
        include_str!("../client/basics.js"),
    ),
    ("/demo/people.js", JAVASCRIPT, include_str!("people.js")),
    ("/demo/view.js", JAVASCRIPT, include_str!("view.js")),
];

/// What the page connects to, and how.
pub(crate) struct Backend<'a> {
    /// Where clients connect.
    pub address: SocketAddr,
    /// Whether clients speak TLS there.
    pub tls: bool,
    /// `pk_live_…`
    pub publishable_key: &'a str,
}

/// The page for a server.
#[must_use]
pub(crate) fn site(backend: &Backend<'_>) -> Site {
    let mut pages: Vec<Page> = FILES
        .iter()
        .map(|&(path, content_type, text)| Page {
            path: path.into(),
            content_type,
            body: Cow::Borrowed(text.as_bytes()),
            is_immutable: false,
        })
        .collect();
    pages.push(Page {
        path: "/demo/config.json".into(),
        content_type: "application/json",
        body: Cow::Owned(config(backend).to_string().into_bytes()),
        is_immutable: false,
    });
    Site {
        prefix: PATH,
        security_policy: security_policy(backend),
        pages,
    }
}

/// Without `host` the page takes the host that it was loaded from.
fn config(backend: &Backend<'_>) -> Value {
    let ip = backend.address.ip();
    let host = match backend.address {
        _ if ip.is_unspecified() => None,
        SocketAddr::V4(_) => Some(ip.to_string()),
        SocketAddr::V6(_) => Some(format!("[{ip}]")),
    };
    json!({
        "scheme": scheme(backend),
        "host": host,
        "port": backend.address.port(),
        "key": backend.publishable_key,
    })
}

/// Nothing but our own files, and one WebSocket.
fn security_policy(backend: &Backend<'_>) -> HeaderValue {
    let (ip, port) = (backend.address.ip(), backend.address.port());
    // A policy can name neither an IPv6 address nor "whatever host the page came from".
    let host = match backend.address {
        SocketAddr::V4(_) if !ip.is_unspecified() => ip.to_string(),
        _ => "*".to_owned(),
    };
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         media-src 'self' blob:; connect-src 'self' {}://{host}:{port}; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        scheme(backend)
    );
    // Letters, digits and punctuation are what header values are made of.
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

fn scheme(backend: &Backend<'_>) -> &'static str {
    if backend.tls { "wss" } else { "ws" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_may_connect_to_where_it_is_told_to() {
        for (address, tls, host, source) in [
            (
                "127.0.0.1:8080",
                false,
                json!("127.0.0.1"),
                "ws://127.0.0.1:8080;",
            ),
            (
                "192.0.2.7:1",
                true,
                json!("192.0.2.7"),
                "wss://192.0.2.7:1;",
            ),
            ("0.0.0.0:8080", false, Value::Null, "ws://*:8080;"),
            ("[::]:8080", false, Value::Null, "ws://*:8080;"),
            ("[::1]:8080", false, json!("[::1]"), "ws://*:8080;"),
        ] {
            let backend = Backend {
                address: address.parse().unwrap(),
                tls,
                publishable_key: "pk_live_a",
            };
            let site = site(&backend);
            let policy = site.security_policy.to_str().unwrap();
            assert!(policy.contains(source), "{address}: {policy}");
            let page = site
                .pages
                .iter()
                .find(|page| page.path == "/demo/config.json");
            let config: Value = serde_json::from_slice(&page.unwrap().body).unwrap();
            assert_eq!(config["host"], host, "{address}");
            assert_eq!(config["key"], "pk_live_a", "{address}");
        }
    }

    #[test]
    fn the_page_names_only_files_that_are_there() {
        let paths: Vec<&str> = FILES.iter().map(|(path, _, _)| *path).collect();
        for (file, _, text) in FILES {
            for quoted in text.split('"').filter(|it| it.starts_with("/demo/")) {
                let known = quoted == "/demo/config.json" || paths.contains(&quoted);
                assert!(known, "{file} names {quoted}");
            }
            for foreign in ["http://", "https://", "//cdn"] {
                let allowed = text.replace("http://www.w3.org/2000/svg", "");
                assert!(!allowed.contains(foreign), "{file} names {foreign}");
            }
        }
    }
}
