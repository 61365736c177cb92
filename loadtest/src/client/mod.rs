//! The client side of the protocol, bytes in and values out: handshake, frames, recognition of
//! messages, transport. Shares no code with the server, so that it cannot share its mistakes.

pub(crate) mod arrival;
pub(crate) mod frame;
pub(crate) mod handshake;
pub(crate) mod http;
pub(crate) mod message;
pub(crate) mod recall;
pub(crate) mod target;
pub(crate) mod tls;
pub(crate) mod token;
pub(crate) mod transport;
