//! WebSocket frames and messages (RFC 6455, no extensions), for both ends of a connection.
//!
//! It stands between the bytes of a connection after the upgrade and the text messages of the
//! protocol: [`message`] takes a peer's bytes apart, [`frame`] writes our own, [`mask`] does the
//! masking of both, and [`close`] knows why and how a connection ends. It does not answer pings,
//! run the close handshake or decide what a message means: the session does.
//!
//! No byte of a peer panics here, and a decoder holds memory only while a fragmented message is
//! open.

pub mod close;
mod collected;
mod fragments;
pub mod frame;
mod header;
pub mod mask;
pub mod message;

#[cfg(test)]
mod interop;
#[cfg(test)]
mod testing;
