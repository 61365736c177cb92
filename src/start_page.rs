//! The page that people get who open `/` of a public listener in a browser: what this is, and where
//! to go. It tells nothing that is not the same for every server, but in `dev`.

use std::fmt::Write as _;
use std::net::SocketAddr;

/// Where `dev` has more to show.
pub(crate) struct Showcase {
    /// The admin listener, as browsers of this machine reach it.
    pub admin: SocketAddr,
    /// The path of the demo there.
    pub demo: &'static str,
    /// Whether the console is there.
    pub has_console: bool,
}

/// The page, with what only `dev` tells.
pub(crate) fn html(showcase: Option<&Showcase>) -> String {
    let mut own = String::new();
    if let Some(Showcase { admin, demo, .. }) = showcase {
        let _ = write!(
            own,
            "\n<li>The <a href=\"http://{admin}{demo}\">demo</a> is a chat with calls: open it in \
             two tabs."
        );
    }
    if let Some(Showcase { admin, .. }) = showcase.filter(|it| it.has_console) {
        let _ = write!(
            own,
            "\n<li>The <a href=\"http://{admin}/\">console</a> shows who is connected; \
             <code>ringmesh console</code> prints a link that signs in."
        );
    }
    format!(
        r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>ringmesh</title>
<h1>ringmesh</h1>
<p>A realtime messaging server: channels, presence and direct messages over WebSocket.
<ul>{own}
<li>Clients connect to <code>/v1</code>, with a key or a token; one for JavaScript is
<a href="/v1/client.js">/v1/client.js</a>.
<li>Backends use <a href="/v1/openapi.json">REST</a>, with a secret key.
<li>Probes ask <a href="/healthz">/healthz</a>.
</ul>
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dev_tells_where_else_to_go() {
        let plain = html(None);
        assert!(
            plain.contains("/v1/openapi.json") && !plain.contains("://"),
            "{plain}"
        );
        for has_console in [true, false] {
            let page = html(Some(&Showcase {
                admin: ([127, 0, 0, 1], 7464).into(),
                demo: "/demo",
                has_console,
            }));
            assert!(
                page.contains("href=\"http://127.0.0.1:7464/demo\""),
                "{page}"
            );
            let console = page.contains("href=\"http://127.0.0.1:7464/\"");
            assert_eq!(console, has_console, "{page}");
        }
    }
}
