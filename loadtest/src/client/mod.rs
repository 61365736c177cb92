//! The client side of the protocol, bytes in and values out: handshake, frames, recognition of
//! messages, transport. Shares no code with the server, so that it cannot share its mistakes.

pub mod frame;
pub mod handshake;
pub mod http;
pub mod message;
pub mod recall;
pub mod target;
pub mod tls;
pub mod token;
pub mod transport;
