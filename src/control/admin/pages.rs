//! Pages beside the admin API: static, for anybody who reaches the listener, shown on request
//! of the process itself. `ringmesh dev` has some; a server in production has none.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use axum::http::header::{HeaderName, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// A file that browsers may ask for.
#[derive(Debug)]
pub struct Page {
    /// The whole path of its URL.
    pub path: &'static str,
    /// Media type of the content.
    pub content_type: &'static str,
    /// The content.
    pub body: Cow<'static, [u8]>,
}

/// Pages that belong together, and what browsers let them do.
#[derive(Debug)]
pub struct Site {
    /// `Content-Security-Policy` of all of them.
    pub security_policy: HeaderValue,
    /// The pages of the site.
    pub pages: Vec<Page>,
}

/// The place for one site, which is filled after the admin listener has started.
#[derive(Clone, Debug, Default)]
pub struct Showcase(Arc<OnceLock<Site>>);

impl Showcase {
    /// Shows a site from now on. The first one stays.
    pub fn show(&self, site: Site) {
        // A second site would be a mistake of ours that harms nobody.
        let _ = self.0.set(site);
    }
}

/// Serves the pages, and leaves all other requests to the routes behind it.
pub async fn serve(State(showcase): State<Showcase>, request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let site = showcase.0.get().filter(|_| reads);
    let found = site.and_then(|site| {
        let path = request.uri().path();
        let page = site.pages.iter().find(|page| page.path == path)?;
        Some(answer(site, page))
    });
    match found {
        Some(response) => response,
        None => next.run(request).await,
    }
}

fn answer(site: &Site, page: &Page) -> Response {
    let fixed = HeaderValue::from_static;
    let headers: [(HeaderName, HeaderValue); 5] = [
        (CONTENT_TYPE, fixed(page.content_type)),
        (CONTENT_SECURITY_POLICY, site.security_policy.clone()),
        (CACHE_CONTROL, fixed("no-store")),
        (REFERRER_POLICY, fixed("no-referrer")),
        (X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
    ];
    (headers, page.body.to_vec()).into_response()
}
