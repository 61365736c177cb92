//! A refused request: a row of the error table and what to tell the client.

use std::borrow::Cow;

use crate::proto::http::error::{ApiError, RequestError};
use crate::proto::http::response::ResponseHeader;
use crate::shard::connection::credential::CredentialFault;

/// Why a request gets no success. Of what a peer sent nothing is echoed but the name of an
/// unknown field, if it is a short word.
#[derive(Clone, Debug)]
pub(in crate::shard) struct Refusal {
    /// The row of the error table.
    pub error: ApiError,
    /// For humans; names the field, where it is about one.
    pub message: Cow<'static, str>,
    /// What goes with it.
    pub header: Option<ResponseHeader>,
    /// The connection is not worth being kept.
    pub ends_connection: bool,
}

impl Refusal {
    /// The one answer to every credential that is not good.
    pub(in crate::shard) const UNAUTHORIZED: Self = {
        let (error, message) = CredentialFault::UnknownKey.answer();
        Self::new(error, message)
    };

    /// Another part of the server has not said what the answer needs.
    pub(in crate::shard) const UNANSWERED: Self = Self::new(
        ApiError::InternalError,
        "the server could not complete the request in time; try again",
    );

    pub(in crate::shard) const fn new(error: ApiError, message: &'static str) -> Self {
        Self {
            error,
            message: Cow::Borrowed(message),
            header: None,
            ends_connection: false,
        }
    }

    pub(in crate::shard) const fn invalid(message: &'static str) -> Self {
        Self::new(ApiError::InvalidRequest, message)
    }

    pub(in crate::shard) fn rate_limited(message: &'static str, retry_after_ms: u64) -> Self {
        let seconds = retry_after_ms.div_ceil(1_000);
        Self {
            header: Some(ResponseHeader::RetryAfterSec(seconds)),
            ..Self::new(ApiError::RateLimited, message)
        }
    }
}

impl From<&CredentialFault> for Refusal {
    fn from(fault: &CredentialFault) -> Self {
        let (error, message) = fault.answer();
        Self::new(error, message)
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        Self::new(error.api_error(), error.message())
    }
}
