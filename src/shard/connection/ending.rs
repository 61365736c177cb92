//! Why a connection ends, and what is kept of it until its socket is gone.

use crate::domain::peer::SharedPeer;
use crate::events::kind::{By, Cause};
use crate::events::record::SocketEnd;
use crate::ids::{AppIndex, KeyIndex};
use crate::proto::ws::close::CloseCode;

/// There was no close frame (RFC 6455, section 7.1.5).
const ABNORMAL: u16 = 1_006;

/// What a connection has done so far. Packed: with words of four bytes it fills a gap of
/// [`Connection`](super::connections::Connection).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, packed(4))]
pub(in crate::shard) struct Account {
    /// Bytes that came.
    pub bytes_in: u64,
    /// Bytes that its socket took.
    pub bytes_out: u64,
    /// When it was opened, in milliseconds on the monotonic clock.
    pub opened_ms: u64,
    /// Messages that came.
    pub messages_in: u32,
}

/// Why a session ends.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct Why {
    pub cause: Cause,
    pub by: By,
    /// The close code.
    pub code: u16,
}

/// What a connection is closed with, and why.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct Goodbye<'a> {
    pub cause: Cause,
    pub code: CloseCode,
    /// What stands in the close frame.
    pub reason: &'a str,
}

impl Goodbye<'static> {
    /// With the code's own reason.
    pub(in crate::shard) const fn of(cause: Cause, code: CloseCode) -> Self {
        Self {
            cause,
            code,
            reason: code.reason(),
        }
    }
}

impl Goodbye<'_> {
    pub(in crate::shard) const fn why(&self) -> Why {
        Why::server(self.cause, self.code)
    }
}

impl Why {
    /// The peer has ended the stream without a close frame.
    pub(in crate::shard) const GONE: Self = Self::without_frame(Cause::ClientGone, By::Client);
    /// The peer gave no sign of life.
    pub(in crate::shard) const NO_SIGN: Self = Self::without_frame(Cause::PingTimeout, By::Server);

    /// The server closes it.
    pub(in crate::shard) const fn server(cause: Cause, code: CloseCode) -> Self {
        Self {
            cause,
            by: By::Server,
            code: code.get(),
        }
    }

    /// The client has sent a close frame, which is answered with that code.
    pub(in crate::shard) const fn client(code: CloseCode) -> Self {
        Self {
            cause: Cause::ClientClose,
            by: By::Client,
            code: code.get(),
        }
    }

    const fn without_frame(cause: Cause, by: By) -> Self {
        Self {
            cause,
            by,
            code: ABNORMAL,
        }
    }
}

/// What a socket has failed with, or its peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::shard) enum Failed {
    /// Nothing.
    #[default]
    No,
    /// The peer does not end a connection that is being closed.
    CloseTimeout,
    /// Reading failed; the number of the system's error, 0 if it is not known.
    Reading(u8),
    /// Writing failed.
    Writing(u8),
    /// TLS broke.
    Tls,
}

impl Failed {
    pub(in crate::shard) fn why(self) -> Why {
        let cause = match self {
            Self::No | Self::CloseTimeout | Self::Reading(_) => Cause::Reset,
            Self::Writing(_) => Cause::WriteFailed,
            Self::Tls => Cause::Tls,
        };
        Why::without_frame(cause, By::Network)
    }

    pub(in crate::shard) const fn socket_end(self) -> SocketEnd {
        match self {
            Self::No | Self::Tls => SocketEnd::Orderly,
            Self::CloseTimeout => SocketEnd::CloseTimeout,
            Self::Reading(_) => SocketEnd::Reset,
            Self::Writing(_) => SocketEnd::WriteFailed,
        }
    }

    pub(in crate::shard) const fn errno(self) -> u8 {
        match self {
            Self::Reading(errno) | Self::Writing(errno) => errno,
            _ => 0,
        }
    }
}

/// A session that has ended, until its socket is gone.
#[derive(Debug)]
pub(in crate::shard) struct Ending {
    pub why: Why,
    pub app: AppIndex,
    pub key: KeyIndex,
    pub peer: SharedPeer,
    /// Bytes that waited when the end was decided.
    pub queued_bytes: u64,
    pub channels: u32,
}
