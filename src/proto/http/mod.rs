//! HTTP/1.1 as the server speaks it before, and instead of, a WebSocket (RFC 9110, RFC 9112).
//!
//! It stands between a connection's byte buffer and the routes: [`head`] finds and reads a
//! request head, [`body`] decides how its body is framed, [`target`] takes its path and query
//! apart, [`upgrade`] checks a WebSocket handshake, [`response`] appends what goes back.
//!
//! The caller owns the buffer, the deadlines and the limits. A head is borrowed from that buffer
//! and parsed again, rather than kept, when its body took further reads: that costs less than a
//! microsecond and no allocation. A request goes like this:
//!
//! 1. [`head::find_head_end`] after every read until it knows where the head ends;
//! 2. [`head::parse_head`], [`body::BodyFraming::of`], [`body::expects_continue`];
//! 3. [`body::BodyDecoder::decode`] on what lies behind the head, until it is done;
//! 4. route and answer; the next request begins behind the body.
//!
//! Whatever two HTTP implementations could read differently is refused, never repaired, and no
//! bytes of a peer make any function of this module panic.

pub mod body;
pub mod chunked;
pub(crate) mod encoding;
pub mod error;
pub mod head;
pub mod response;
pub mod target;
pub mod upgrade;

#[cfg(test)]
mod tests;

pub use body::{BodyDecoder, BodyFraming, BodyProgress, expects_continue};
pub use error::{ApiError, RequestError};
pub use head::{Authorization, RequestHead, Version, find_head_end, parse_head};
pub use response::{ResponseContext, ResponseHeader, Status};
pub use target::Target;
pub use upgrade::{WebSocketKey, check_upgrade};
