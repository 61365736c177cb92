//! Pages beside the admin API: static, for anybody who reaches the listener, shown on request
//! of the process itself. A site is all pages at or below one path.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY};
use axum::http::header::{CONTENT_TYPE, HOST, VARY};
use axum::http::header::{HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use flate2::Compression;

use super::gzip::{self, GZIP};

/// Stands in a policy for the name by which the page's own host was asked.
const OWN_HOST: &str = "{host}";
/// What a page may be kept for whose path changes with its content: a year.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// A file that browsers may ask for.
#[derive(Debug)]
pub struct Page {
    /// The whole path of its URL.
    pub path: Cow<'static, str>,
    /// Media type of the content.
    pub content_type: &'static str,
    /// The content.
    pub body: Cow<'static, [u8]>,
    /// Whether the path has another content never: it has the hash of the content in it.
    pub is_immutable: bool,
}

/// Pages that belong together, and what browsers let them do.
#[derive(Debug)]
pub struct Site {
    /// The path at or below which all of them are. The longest one that fits decides.
    pub prefix: &'static str,
    /// `Content-Security-Policy` of all of them. `{host}` in it stands for the name of the host
    /// that a page was asked of.
    pub security_policy: HeaderValue,
    /// The pages of the site.
    pub pages: Vec<Page>,
}

/// The sites, which are shown after the admin listener has started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Showcase(Arc<RwLock<Vec<Arc<Shown>>>>);

/// A site that is shown.
#[derive(Debug)]
struct Shown {
    site: Site,
    /// The pages in gzip, each since somebody has asked for it; `None` where it is of no use.
    compressed: Vec<OnceLock<Option<Bytes>>>,
}

impl Shown {
    fn new(site: Site) -> Self {
        let compressed = site.pages.iter().map(|_| OnceLock::new());
        Self {
            compressed: compressed.collect(),
            site,
        }
    }

    /// A page in gzip, where that is shorter.
    fn compressed(&self, at: usize) -> Option<Bytes> {
        let body = &self.site.pages[at].body;
        let compressed = self.compressed[at].get_or_init(|| {
            let small = gzip::compressed(body, Compression::best());
            small.filter(|small| small.len() < body.len())
        });
        compressed.clone()
    }
}

impl Showcase {
    /// Shows a site from now on.
    pub(crate) fn show(&self, site: Site) {
        let mut sites = self.0.write().unwrap_or_else(PoisonError::into_inner);
        sites.push(Arc::new(Shown::new(site)));
    }

    /// The site that a path belongs to.
    fn site(&self, path: &str) -> Option<Arc<Shown>> {
        let sites = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let fitting = sites.iter().filter(|shown| shown.site.has(path));
        fitting.max_by_key(|shown| shown.site.prefix.len()).cloned()
    }
}

impl Site {
    fn has(&self, path: &str) -> bool {
        let rest = path.strip_prefix(self.prefix);
        rest.is_some_and(|it| it.is_empty() || it.starts_with('/') || self.prefix.ends_with('/'))
    }
}

/// Serves the pages, and leaves all other requests to the routes behind it.
pub(crate) async fn serve(
    State(showcase): State<Showcase>,
    request: Request,
    next: Next,
) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let path = request.uri().path();
    let site = if reads { showcase.site(path) } else { None };
    let found = site.as_ref().and_then(|shown| {
        let mut pages = shown.site.pages.iter();
        let at = pages.position(|page| page.path == path)?;
        Some(answer(shown, at, request.headers()))
    });
    match found {
        Some(response) => response,
        None => next.run(request).await,
    }
}

fn answer(shown: &Shown, at: usize, asked: &HeaderMap) -> Response {
    let (site, page) = (&shown.site, &shown.site.pages[at]);
    let fixed = HeaderValue::from_static;
    let kept = if page.is_immutable {
        FOR_EVER
    } else {
        "no-store"
    };
    let headers: [(HeaderName, HeaderValue); 8] = [
        (CONTENT_TYPE, fixed(page.content_type)),
        (
            CONTENT_SECURITY_POLICY,
            policy(&site.security_policy, asked),
        ),
        (CACHE_CONTROL, fixed(kept)),
        (VARY, fixed("accept-encoding")),
        (REFERRER_POLICY, fixed("no-referrer")),
        (X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            fixed("same-origin"),
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            fixed("same-origin"),
        ),
    ];
    let compressed = match gzip::is_taken(asked) {
        true => shown.compressed(at),
        false => None,
    };
    match compressed {
        Some(body) => (headers, [(CONTENT_ENCODING, fixed(GZIP))], body).into_response(),
        None => (headers, page.body.to_vec()).into_response(),
    }
}

/// The policy for whoever asked. A policy can name no IPv6 address: any host stands for one.
fn policy(policy: &HeaderValue, asked: &HeaderMap) -> HeaderValue {
    let Some(text) = policy.to_str().ok().filter(|text| text.contains(OWN_HOST)) else {
        return policy.clone();
    };
    let host = asked.get(HOST).and_then(|host| host.to_str().ok());
    let name = host.and_then(|host| host.split(':').next()).filter(|name| {
        let can_be_named = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
        !name.is_empty() && name.bytes().all(can_be_named)
    });
    let text = text.replace(OWN_HOST, name.unwrap_or("*"));
    // Of visible ASCII, as both parts are.
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(prefix: &'static str) -> Site {
        Site {
            prefix,
            security_policy: HeaderValue::from_static("connect-src ws://{host}:80"),
            pages: Vec::new(),
        }
    }

    #[test]
    fn the_longest_prefix_that_fits_decides() {
        let showcase = Showcase::default();
        assert!(showcase.site("/").is_none());
        for prefix in ["/", "/demo"] {
            showcase.show(site(prefix));
        }
        for (path, prefix) in [
            ("/", "/"),
            ("/console/x.js", "/"),
            ("/demo", "/demo"),
            ("/demo/app.js", "/demo"),
            ("/demonstration", "/"),
        ] {
            assert_eq!(showcase.site(path).unwrap().site.prefix, prefix, "{path}");
        }
    }

    #[test]
    fn a_page_is_sent_in_fewer_bytes_to_whoever_takes_gzip() {
        fn page(path: &'static str, body: &str) -> Page {
            Page {
                path: path.into(),
                content_type: "text/plain",
                body: body.as_bytes().to_vec().into(),
                is_immutable: true,
            }
        }
        let long = "as long as it is monotonous, ".repeat(20);
        let shown = Shown::new(Site {
            pages: vec![page("/long", &long), page("/short", "ok")],
            ..site("/")
        });
        let mut takes = HeaderMap::new();
        takes.insert("accept-encoding", HeaderValue::from_static("gzip, br"));
        for (at, asked, encoding) in [
            (0, &takes, Some("gzip")),
            (0, &HeaderMap::new(), None),
            (1, &takes, None),
        ] {
            let answer = answer(&shown, at, asked);
            let given = answer.headers().get(CONTENT_ENCODING);
            assert_eq!(given.map(|it| it.to_str().unwrap()), encoding, "{at}");
            assert_eq!(answer.headers()[VARY], "accept-encoding");
        }
        assert!(shown.compressed(0).unwrap().len() < long.len());
    }

    #[test]
    fn a_policy_names_the_host_that_was_asked() {
        let given = site("/").security_policy;
        for (host, named) in [
            (Some("127.0.0.1:7464"), "127.0.0.1"),
            (Some("localhost"), "localhost"),
            (Some("rm-1.example"), "rm-1.example"),
            (Some("[::1]:7464"), "*"),
            (Some("a;script-src *"), "*"),
            (None, "*"),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(host) = host {
                headers.insert(HOST, HeaderValue::from_static(host));
            }
            let expected = format!("connect-src ws://{named}:80");
            assert_eq!(policy(&given, &headers), expected.as_str(), "{host:?}");
        }
    }
}
