//! The table of REST operations: what is routed is what the OpenAPI document lists.

use crate::metrics::label::Route;
use crate::proto::http::error::ApiError;
use crate::proto::http::response::ResponseHeader;
use crate::shard::connection::refusal::Refusal;

/// Paths at and below which nothing is told without a good credential, not even whether there
/// is such a path.
const GUARDED: [&str; 4] = ["/v1/tokens", "/v1/channels", "/v1/peers", "/v1/usage"];

/// Stands in a path for a name: everything between what stands before and after it, slashes
/// included.
const NAME: &str = "{id}";

/// What a channel keeps, to be read and to be forgotten.
const HISTORY: &str = "/v1/channels/{id}/history";

/// The path of the page for people, which is no operation.
const START_PAGE: &str = "/";

/// The methods that operations have. A HEAD is a GET whose answer has no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Method {
    Get,
    Post,
    Delete,
}

/// What anybody may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum OpenRoute {
    Health,
    OpenApi,
}

/// What a secret key may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum KeyRoute {
    MintToken,
    ListPeers,
    ReadHistory,
    ForgetHistory,
    Publish,
    KickPeer,
    ReadUsage,
}

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Access {
    Open(OpenRoute),
    Key(KeyRoute),
}

/// One row of the table.
#[derive(Debug)]
pub(in crate::shard) struct Operation {
    pub method: Method,
    pub path: &'static str,
    pub access: Access,
}

/// Every operation. No two of them have the same path and method.
pub(in crate::shard) const OPERATIONS: [Operation; 9] = [
    operation(
        Method::Post,
        "/v1/channels/{id}/publish",
        Access::Key(KeyRoute::Publish),
    ),
    operation(
        Method::Get,
        "/v1/channels/{id}/peers",
        Access::Key(KeyRoute::ListPeers),
    ),
    operation(Method::Get, HISTORY, Access::Key(KeyRoute::ReadHistory)),
    operation(
        Method::Delete,
        HISTORY,
        Access::Key(KeyRoute::ForgetHistory),
    ),
    operation(Method::Post, "/v1/tokens", Access::Key(KeyRoute::MintToken)),
    operation(
        Method::Delete,
        "/v1/peers/{id}",
        Access::Key(KeyRoute::KickPeer),
    ),
    operation(Method::Get, "/v1/usage", Access::Key(KeyRoute::ReadUsage)),
    operation(
        Method::Get,
        "/v1/openapi.json",
        Access::Open(OpenRoute::OpenApi),
    ),
    operation(Method::Get, "/healthz", Access::Open(OpenRoute::Health)),
];

const fn operation(method: Method, path: &'static str, access: Access) -> Operation {
    Operation {
        method,
        path,
        access,
    }
}

impl Method {
    /// The name, as OpenAPI writes it.
    pub(in crate::shard) const fn lower_case(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Delete => "delete",
        }
    }

    fn takes(self, method: &str) -> bool {
        match self {
            Self::Get => matches!(method, "GET" | "HEAD"),
            Self::Post => method == "POST",
            Self::Delete => method == "DELETE",
        }
    }

    const fn allow(self) -> &'static str {
        match self {
            Self::Get => "GET, HEAD",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }

    const fn refusal(self) -> &'static str {
        match self {
            Self::Get => "this path answers GET and HEAD",
            Self::Post => "this path answers POST",
            Self::Delete => "this path answers DELETE",
        }
    }
}

impl Operation {
    /// The raw name in a path of this operation, empty where it has none.
    fn capture<'p>(&self, path: &'p str) -> Option<&'p str> {
        match self.path.split_once(NAME) {
            None => (path == self.path).then_some(""),
            Some((before, behind)) => path.strip_prefix(before)?.strip_suffix(behind),
        }
    }
}

/// Whether a path is told about only to holders of a key.
pub(in crate::shard) fn is_guarded(path: &str) -> bool {
    GUARDED.iter().any(|guarded| {
        path.strip_prefix(guarded)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Whether a request is for the page that people get.
pub(in crate::shard) fn is_start_page(method: &str, path: &str) -> bool {
    path == START_PAGE && Method::Get.takes(method)
}

/// What requests for a path are counted as.
pub(in crate::shard) fn label(path: &str) -> Route {
    let mut rows = OPERATIONS.iter();
    let row = rows.find(|row| row.capture(path).is_some());
    row.map_or(Route::Other, |row| match row.access {
        Access::Open(OpenRoute::Health) => Route::Health,
        Access::Open(OpenRoute::OpenApi) => Route::OpenApi,
        Access::Key(KeyRoute::MintToken) => Route::MintToken,
        Access::Key(KeyRoute::ListPeers) => Route::ListPeers,
        Access::Key(KeyRoute::ReadHistory | KeyRoute::ForgetHistory) => Route::History,
        Access::Key(KeyRoute::Publish) => Route::Publish,
        Access::Key(KeyRoute::KickPeer) => Route::KickPeer,
        Access::Key(KeyRoute::ReadUsage) => Route::ReadUsage,
    })
}

/// Finds what is asked for, and the raw name in the path.
pub(in crate::shard) fn find<'p>(
    method: &str,
    path: &'p str,
) -> Result<(Access, &'p str), Refusal> {
    let rows = OPERATIONS.iter();
    let mut of_path = rows.filter_map(|row| Some((row, row.capture(path)?)));
    if let Some((row, name)) = of_path.clone().find(|(row, _)| row.method.takes(method)) {
        return Ok((row.access, name));
    }
    let methods = (of_path.next(), of_path.next());
    let (allow, message) = match methods {
        (None, _) => return Err(Refusal::new(ApiError::NotFound, "no such path")),
        (Some((row, _)), None) => (row.method.allow(), row.method.refusal()),
        // The only path with two operations.
        (Some(_), Some(_)) => (
            "GET, HEAD, DELETE",
            "this path answers GET, HEAD and DELETE",
        ),
    };
    Err(Refusal {
        header: Some(ResponseHeader::Allow(allow)),
        ..Refusal::new(ApiError::MethodNotAllowed, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(method: &str, path: &str, expected: Result<(Access, &str), u16>) {
        let found = find(method, path).map_err(|refusal| refusal.error.status().code());
        assert_eq!(found, expected, "{method} {path}");
    }

    #[test]
    fn names_reach_to_the_last_ending_and_are_not_decoded() {
        let publish = Access::Key(KeyRoute::Publish);
        let peers = Access::Key(KeyRoute::ListPeers);
        let kick = Access::Key(KeyRoute::KickPeer);
        for name in ["a", "a/b", "a%2Fb", "", "a/peers", "a/publish", "..", "%zz"] {
            let path = format!("/v1/channels/{name}/publish");
            check("POST", &path, Ok((publish, name)));
            let path = format!("/v1/channels/{name}/peers");
            check("GET", &path, Ok((peers, name)));
            check("HEAD", &path, Ok((peers, name)));
            check("DELETE", &format!("/v1/peers/{name}"), Ok((kick, name)));
            let path = format!("/v1/channels/{name}/history");
            check("GET", &path, Ok((Access::Key(KeyRoute::ReadHistory), name)));
            let forget = Access::Key(KeyRoute::ForgetHistory);
            check("DELETE", &path, Ok((forget, name)));
            check("POST", &path, Err(405));
        }
    }

    #[test]
    fn paths_mean_themselves() {
        for path in [
            "/",
            "/v1/",
            "/v1/tokens/",
            "/v1/Tokens",
            "/v1/channels/a",
            "/v1/channels/peers",
            "/v1/peers",
            "/v1/../healthz",
            "//healthz",
            "/healthz/",
        ] {
            check("GET", path, Err(404));
        }
        check("GET", "/healthz", Ok((Access::Open(OpenRoute::Health), "")));
        for (method, path) in [
            ("POST", "/healthz"),
            ("GET", "/v1/tokens"),
            ("get", "/v1/usage"),
            ("HEAD", "/v1/peers/a"),
            ("GET", "/v1/channels/a/publish"),
            ("OPTIONS", "/v1/openapi.json"),
        ] {
            check(method, path, Err(405));
        }
    }

    #[test]
    fn an_operation_is_counted_under_its_path() {
        for row in &OPERATIONS {
            assert_eq!(label(row.path).as_str(), row.path);
        }
        assert_eq!(label("/v1/tokens/x"), Route::Other);
    }

    #[test]
    fn every_operation_with_a_key_is_guarded() {
        for row in &OPERATIONS {
            let with_key = matches!(row.access, Access::Key(_));
            assert_eq!(is_guarded(row.path), with_key, "{}", row.path);
        }
        for path in ["/v1/tokens/x", "/v1/channels", "/v1/peers", "/v1/usage/"] {
            assert!(is_guarded(path), "{path}");
        }
        for path in ["/v1/tokensx", "/v1/usag", "/v1/openapi.json", "/v1"] {
            assert!(!is_guarded(path), "{path}");
        }
    }
}
