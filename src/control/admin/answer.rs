//! Bodies in and out: JSON objects within a size and a time, and errors with the documented
//! body for every status.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;

use super::once;
use crate::control::error::ControlError;
use crate::control::merge::Object;

/// Bytes of a body: 100 patterns of 256 bytes, escaped, and room.
pub(super) const BODY_BYTES_MAX: usize = 256 * 1_024;
/// How long a body may take to arrive.
const BODY_TIME_MAX: Duration = Duration::from_secs(5);

/// The response to a request that failed.
pub(super) struct Failure {
    status: StatusCode,
    code: &'static str,
    message: String,
}

#[derive(Serialize)]
struct FailureBody<'a> {
    error: &'a str,
    message: &'a str,
}

impl Failure {
    /// A fault of the request.
    pub(super) fn invalid(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            code: "invalid_request",
            message: message.into(),
        }
    }

    /// 401, the same for every cause.
    pub(super) fn unauthorized() -> Self {
        let message = "the admin token is needed: Authorization: Bearer <token>".into();
        Self {
            status: StatusCode::UNAUTHORIZED,
            code: "unauthorized",
            message,
        }
    }

    /// 401 for a feed, the same for every cause.
    pub(super) fn no_feed_credential() -> Self {
        let message = "the admin token is needed, or an API secret of the app: \
                       Authorization: Bearer <credential>";
        Self::not_signed_in(message)
    }

    /// The code and what is said.
    pub(super) fn told(&self) -> (&'static str, &str) {
        (self.code, &self.message)
    }

    /// 401 for a sign-in.
    pub(super) fn not_signed_in(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            ..Self::unauthorized()
        }
    }

    /// 403: whoever asks may not.
    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            code: "forbidden",
            message: message.into(),
        }
    }

    /// 404 for a path.
    pub(super) fn no_path() -> Self {
        let message = "there is nothing at this path".into();
        Self {
            status: StatusCode::NOT_FOUND,
            code: "not_found",
            message,
        }
    }

    /// 404 for what is not there.
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        ControlError::NotFound(message.into()).into()
    }

    /// 410: what was asked for was there, and is not kept any more.
    pub(super) fn history_lost(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::GONE,
            code: "history_lost",
            message: message.into(),
        }
    }

    /// 429, with `Retry-After`.
    pub(super) fn busy(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            code: "busy",
            message: message.into(),
        }
    }

    /// 503, with `Retry-After`.
    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        ControlError::Unavailable(message.into()).into()
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        let status =
            StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self {
            status,
            code: error.code(),
            message: error.to_string(),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = FailureBody {
            error: self.code,
            message: &self.message,
        };
        let mut response = (self.status, Json(body)).into_response();
        if matches!(
            self.status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
        ) {
            response.headers_mut().insert(RETRY_AFTER, 1.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, bearer);
        }
        response
    }
}

/// The JSON object in a request's body.
///
/// # Errors
/// 415 for another content type, 413 for too much of it (judged by its length before reading),
/// 408 when it does not arrive, 400 when it is no JSON object.
pub(super) async fn object_of(request: Request) -> Result<Object, Failure> {
    parse(&body_of(request).await?)
}

/// Like [`object_of`], with no body meaning the empty object.
///
/// # Errors
/// As [`object_of`].
pub(super) async fn optional_object_of(request: Request) -> Result<Object, Failure> {
    let bytes = body_of(request).await?;
    if bytes.is_empty() {
        Ok(Object::new())
    } else {
        parse(&bytes)
    }
}

fn parse(bytes: &[u8]) -> Result<Object, Failure> {
    let fault = |text: String| Failure::invalid(StatusCode::BAD_REQUEST, text);
    match once::check(bytes).and_then(|()| serde_json::from_slice(bytes)) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(fault("the body must be a JSON object".into())),
        Err(error) if error.is_data() => Err(fault(format!("the body: {error}"))),
        Err(error) => Err(fault(format!("the body is not JSON: {error}"))),
    }
}

/// The bytes of a request's body.
///
/// # Errors
/// As [`object_of`], but for what it says.
pub(super) async fn body_of(request: Request) -> Result<Bytes, Failure> {
    check_content_type(request.headers())?;
    let length = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    if length
        .and_then(|length| length.parse().ok())
        .is_some_and(|n: usize| n > BODY_BYTES_MAX)
    {
        return Err(too_large());
    }
    let body = Bytes::from_request(request, &());
    match tokio::time::timeout(BODY_TIME_MAX, body).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Err(too_large())
        }
        Ok(Err(_)) => Err(Failure::invalid(
            StatusCode::BAD_REQUEST,
            "the body is broken off or malformed",
        )),
        Err(_) => Err(Failure::invalid(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not arrive in time",
        )),
    }
}

fn too_large() -> Failure {
    let text = format!("the body has more than {BODY_BYTES_MAX} bytes");
    Failure::invalid(StatusCode::PAYLOAD_TOO_LARGE, text)
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Failure> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let essence = value
        .to_str()
        .unwrap_or("")
        .split(';')
        .next()
        .unwrap_or("")
        .trim();
    let json = essence.eq_ignore_ascii_case("application/json")
        || essence.eq_ignore_ascii_case("application/merge-patch+json");
    if json {
        return Ok(());
    }
    let text = "the body must be application/json";
    Err(Failure::invalid(StatusCode::UNSUPPORTED_MEDIA_TYPE, text))
}
