//! The two error tables of HTTP: what a request can do wrong, and what an answer can say.
//!
//! A [`RequestError`] is a peer's fault found in the bytes of one request. An [`ApiError`] is a
//! row of the public error table, `error` code and status, that connects and the REST API share;
//! every [`RequestError`] maps to one.
//!
//! It does not decide credentials, rights or quotas: those layers name an [`ApiError`] themselves.
//!
//! All texts are static, so that an error costs no allocation and echoes nothing a peer sent.

use std::error::Error;
use std::fmt;

use super::response::Status;

/// A row of the error table: one `error` code with one status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ApiError {
    /// 401: the credential is missing or not good; one answer for every cause.
    Unauthorized,
    /// 404: unknown path, app or key.
    NotFound,
    /// 400: malformed HTTP or JSON, or a value that is not allowed.
    InvalidRequest,
    /// 405: known path, wrong method; goes with [`ResponseHeader::Allow`].
    ///
    /// [`ResponseHeader::Allow`]: super::response::ResponseHeader::Allow
    MethodNotAllowed,
    /// 408: the request did not arrive in time.
    RequestTimeout,
    /// 413: the body is over its limit.
    BodyTooLarge,
    /// 415: a body whose content type is given and is not JSON.
    UnsupportedMediaType,
    /// 417: an expectation other than `100-continue`.
    ExpectationFailed,
    /// 426: the path wants a WebSocket handshake of version 13.
    UpgradeRequired,
    /// 431: the request head is over its limit.
    HeadTooLarge,
    /// 400: the channel's prefix is reserved.
    ChannelReserved,
    /// 403: the channel or pattern is outside the key's patterns.
    ChannelNotAuthorized,
    /// 403: the key lacks the action.
    ActionNotPermitted,
    /// 410: what a channel kept is gone.
    HistoryLost,
    /// 429: an address or key is over its rate.
    RateLimited,
    /// 429: the app's period quota is used up.
    OverMessageQuota,
    /// 503: the server cannot decide or cannot serve now.
    InternalError,
}

impl ApiError {
    /// Every row of the table.
    pub const ALL: [Self; 17] = [
        Self::Unauthorized,
        Self::NotFound,
        Self::InvalidRequest,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::ExpectationFailed,
        Self::UpgradeRequired,
        Self::HeadTooLarge,
        Self::ChannelReserved,
        Self::ChannelNotAuthorized,
        Self::ActionNotPermitted,
        Self::HistoryLost,
        Self::RateLimited,
        Self::OverMessageQuota,
        Self::InternalError,
    ];

    /// The `error` field of the answer's body.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not_found",
            Self::InvalidRequest
            | Self::MethodNotAllowed
            | Self::RequestTimeout
            | Self::BodyTooLarge
            | Self::UnsupportedMediaType
            | Self::ExpectationFailed
            | Self::UpgradeRequired
            | Self::HeadTooLarge => "invalid_request",
            Self::ChannelReserved => "channel_reserved",
            Self::ChannelNotAuthorized => "channel_not_authorized",
            Self::ActionNotPermitted => "action_not_permitted",
            Self::HistoryLost => "history_lost",
            Self::RateLimited => "rate_limited",
            Self::OverMessageQuota => "over_message_quota",
            Self::InternalError => "internal_error",
        }
    }

    /// The status of the answer.
    #[must_use]
    pub const fn status(self) -> Status {
        match self {
            Self::Unauthorized => Status::Unauthorized,
            Self::NotFound => Status::NotFound,
            Self::InvalidRequest | Self::ChannelReserved => Status::BadRequest,
            Self::MethodNotAllowed => Status::MethodNotAllowed,
            Self::RequestTimeout => Status::RequestTimeout,
            Self::BodyTooLarge => Status::ContentTooLarge,
            Self::UnsupportedMediaType => Status::UnsupportedMediaType,
            Self::ExpectationFailed => Status::ExpectationFailed,
            Self::UpgradeRequired => Status::UpgradeRequired,
            Self::HeadTooLarge => Status::RequestHeaderFieldsTooLarge,
            Self::ChannelNotAuthorized | Self::ActionNotPermitted => Status::Forbidden,
            Self::HistoryLost => Status::Gone,
            Self::RateLimited | Self::OverMessageQuota => Status::TooManyRequests,
            Self::InternalError => Status::ServiceUnavailable,
        }
    }
}

/// What a request got wrong. The peer's fault, always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestError {
    /// The head does not end within the limit.
    HeadTooLarge,
    /// More headers than [`HEADER_COUNT_MAX`](super::head::HEADER_COUNT_MAX).
    TooManyHeaders,
    /// Method or target are not what RFC 9112, section 3, allows, or nothing but empty lines.
    MalformedRequestLine,
    /// A proxy sends the PROXY protocol where it is not expected.
    ProxyHeader,
    /// A version other than HTTP/1.0 and HTTP/1.1, the HTTP/2 preface included.
    UnsupportedVersion,
    /// A header line that is not `name: value`, obsolete line folding included.
    MalformedHeader,
    /// A line that ends in LF without CR.
    BareLineFeed,
    /// HTTP/1.1 without `Host` (RFC 9112, section 3.2).
    MissingHost,
    /// A `Host` that no host and port can be (RFC 9112, section 3.2).
    InvalidHost,
    /// A header that may occur once occurs again.
    RepeatedHeader,
    /// `Content-Length` beside `Transfer-Encoding` (RFC 9112, section 6.3).
    ConflictingFraming,
    /// `Content-Length` repeated, not all digits, or above 2^64 - 1.
    InvalidContentLength,
    /// A `Transfer-Encoding` other than one `chunked`, or one on HTTP/1.0.
    UnsupportedTransferEncoding,
    /// The body is over its limit, announced or counted.
    BodyTooLarge,
    /// An `Expect` other than `100-continue`.
    ExpectationFailed,
    /// The chunked coding is broken, or pads its lines beyond reason.
    MalformedChunk,
    /// A target that is neither a path nor an absolute `http` URI.
    UnsupportedTarget,
    /// A `%` that starts no valid escape, or escapes that decode to something not UTF-8.
    InvalidPercentEncoding,
    /// A query parameter that may occur once occurs again.
    RepeatedQueryParameter,
    /// No `Upgrade: websocket` where one is needed.
    NotAnUpgrade,
    /// A handshake of another version than 13.
    WrongWebSocketVersion,
    /// A handshake with another method than GET.
    UpgradeMethod,
    /// A handshake over HTTP/1.0.
    UpgradeHttpVersion,
    /// A handshake whose `Connection` does not name `upgrade`.
    UpgradeConnection,
    /// A `Sec-WebSocket-Key` that is missing, repeated, or not the base64 of 16 bytes.
    UpgradeKey,
    /// A handshake that announces a body.
    UpgradeBody,
}

impl RequestError {
    /// Returns the row of the error table that the client is told.
    #[must_use]
    pub const fn api_error(self) -> ApiError {
        match self {
            Self::HeadTooLarge | Self::TooManyHeaders => ApiError::HeadTooLarge,
            Self::BodyTooLarge => ApiError::BodyTooLarge,
            Self::ExpectationFailed => ApiError::ExpectationFailed,
            Self::NotAnUpgrade | Self::WrongWebSocketVersion => ApiError::UpgradeRequired,
            _ => ApiError::InvalidRequest,
        }
    }

    /// Whether the connection has to end with the answer.
    ///
    /// It may go on only where it is certain that the next request begins behind this one: not
    /// where head or body are broken, and not after a refused handshake, because a proxy that
    /// took it for accepted would pass a stranger's bytes on to this connection.
    #[must_use]
    pub const fn must_close(self) -> bool {
        !matches!(
            self,
            Self::UnsupportedTarget
                | Self::InvalidPercentEncoding
                | Self::RepeatedQueryParameter
                | Self::NotAnUpgrade
        )
    }

    /// What to tell the client.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::HeadTooLarge => "the request head is too long",
            Self::TooManyHeaders => "the request has too many headers",
            Self::MalformedRequestLine => "the request line is malformed",
            Self::ProxyHeader => {
                "a PROXY protocol header came before the request: server.proxy_protocol is off, \
                 or server.trusted_proxies does not name this proxy"
            }
            Self::UnsupportedVersion => "only HTTP/1.1 and HTTP/1.0 are spoken here",
            Self::MalformedHeader => "a header line is malformed",
            Self::BareLineFeed => "header lines must end in CR LF",
            Self::MissingHost => "the Host header is missing",
            Self::InvalidHost => "the Host header is not a host and port",
            Self::RepeatedHeader => "a header that may occur once is repeated",
            Self::ConflictingFraming => "Content-Length and Transfer-Encoding exclude each other",
            Self::InvalidContentLength => "Content-Length must be one decimal number",
            Self::UnsupportedTransferEncoding => {
                "Transfer-Encoding must be chunked, on HTTP/1.1 only"
            }
            Self::BodyTooLarge => "the request body is too long",
            Self::ExpectationFailed => "Expect may only be 100-continue",
            Self::MalformedChunk => "the chunked body is malformed",
            Self::UnsupportedTarget => "the request target must be a path",
            Self::InvalidPercentEncoding => "the request target has a bad percent-encoding",
            Self::RepeatedQueryParameter => "a query parameter that may occur once is repeated",
            Self::NotAnUpgrade => "this path takes WebSocket connections",
            Self::WrongWebSocketVersion => "Sec-WebSocket-Version must be 13",
            Self::UpgradeMethod => "a WebSocket handshake must be a GET",
            Self::UpgradeHttpVersion => "a WebSocket handshake needs HTTP/1.1",
            Self::UpgradeConnection => "a WebSocket handshake needs Connection: Upgrade",
            Self::UpgradeKey => "Sec-WebSocket-Key must be one base64 value of 16 bytes",
            Self::UpgradeBody => "a WebSocket handshake must not have a body",
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl Error for RequestError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(error: RequestError, status: u16, must_close: bool) {
        assert_eq!(error.api_error().status().code(), status, "{error}");
        assert_eq!(error.api_error().code(), "invalid_request", "{error}");
        assert_eq!(error.must_close(), must_close, "{error}");
    }

    #[test]
    fn a_request_error_says_its_status_and_whether_the_connection_survives() {
        check(RequestError::HeadTooLarge, 431, true);
        check(RequestError::TooManyHeaders, 431, true);
        check(RequestError::UnsupportedVersion, 400, true);
        check(RequestError::ConflictingFraming, 400, true);
        check(RequestError::UnsupportedTransferEncoding, 400, true);
        check(RequestError::BodyTooLarge, 413, true);
        check(RequestError::ExpectationFailed, 417, true);
        check(RequestError::InvalidPercentEncoding, 400, false);
        check(RequestError::RepeatedQueryParameter, 400, false);
        check(RequestError::NotAnUpgrade, 426, false);
        check(RequestError::WrongWebSocketVersion, 426, true);
        check(RequestError::UpgradeKey, 400, true);
    }

    #[test]
    fn the_table_is_the_published_one() {
        let rows = ApiError::ALL.map(|error| (error.status().code(), error.code()));
        let published = [
            (401, "unauthorized"),
            (404, "not_found"),
            (400, "invalid_request"),
            (405, "invalid_request"),
            (408, "invalid_request"),
            (413, "invalid_request"),
            (415, "invalid_request"),
            (417, "invalid_request"),
            (426, "invalid_request"),
            (431, "invalid_request"),
            (400, "channel_reserved"),
            (403, "channel_not_authorized"),
            (403, "action_not_permitted"),
            (410, "history_lost"),
            (429, "rate_limited"),
            (429, "over_message_quota"),
            (503, "internal_error"),
        ];
        assert_eq!(rows, published);
    }
}
