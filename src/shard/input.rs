//! Everything that may happen to a shard.

use std::net::IpAddr;
use std::sync::Arc;

use crate::domain::rights::Rights;
use crate::ids::{ConnectionId, ShardId};
use crate::shard::mesh_message::MeshMessage;
use crate::shard::query::Query;
use crate::shard::settings::Settings;

/// How tight the process's memory is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryLevel {
    /// There is enough.
    #[default]
    Normal,
    /// Nobody new is let in.
    Near,
    /// Some is to be given back.
    AtCeiling,
}

/// A step of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeStep {
    /// Bytes of the peer wait for the server.
    Due,
    /// The server has dealt with them: it waits for the peer.
    Taken {
        /// It has said something itself, or the handshake is complete.
        answered: bool,
    },
}

/// Everything that may happen to a shard. Time is told with each input. One about a connection that
/// is gone changes nothing: the driver may still hear of a socket that it has closed.
#[derive(Debug)]
pub enum Input<'a> {
    /// A connection was accepted; the runtime chose its number.
    Accepted {
        /// Its number: the slot is free, the generation was never used with it.
        connection: ConnectionId,
        /// The client's address.
        remote: IpAddr,
    },
    /// There are more connections without a good credential than there may be: an idle one gives
    /// way, if there is any.
    MakeRoom,
    /// A trusted proxy says whose connection it passes on.
    Proxied {
        /// The connection that the proxy has opened.
        connection: ConnectionId,
        /// The client's address.
        client: IpAddr,
    },
    /// A step of what comes before the first request: a TLS handshake, a proxy's header.
    Handshake {
        /// The connection that is shaking hands.
        connection: ConnectionId,
        /// What the peer or the server has done.
        step: HandshakeStep,
    },
    /// Bytes came. They may be changed in place.
    Received {
        /// The connection whose peer has sent them.
        connection: ConnectionId,
        /// In the order of the stream.
        bytes: &'a mut [u8],
    },
    /// The peer has ended its side of the stream: no more bytes will come, and it may still read.
    /// A socket that is broken is closed instead.
    Ended {
        /// The connection whose peer has ended the stream.
        connection: ConnectionId,
    },
    /// The peer has reset the connection: nothing that is sent to it arrives any more. What it has
    /// sent before is read all the same, and then its socket is closed.
    Unreachable {
        /// The connection whose peer is gone.
        connection: ConnectionId,
    },
    /// The socket is closed; the number may be used again with the next generation.
    Closed {
        /// The connection whose socket is closed.
        connection: ConnectionId,
    },
    /// Another shard's message.
    Mesh {
        /// The shard that has sent it.
        from: ShardId,
        /// The message.
        message: MeshMessage,
    },
    /// A mesh link's backlog has passed its limit, or is below it again.
    Link {
        /// The link's other end.
        to: ShardId,
        /// Whether it is over its limit now.
        over_limit: bool,
        /// What waits for it, in bytes.
        backlog_bytes: u64,
    },
    /// Another shard is gone: it answers nothing any more, and what is sent to it is lost.
    Lost {
        /// The shard that is gone.
        shard: ShardId,
    },
    /// The process's memory was measured anew.
    Memory {
        /// How tight it is.
        level: MemoryLevel,
        /// What this shard is to give back, in bytes.
        excess_bytes: usize,
    },
    /// There has been little to do for a while: what is kept for later use is to be given back.
    Quiet,
    /// Rights hold from now on.
    Rights(Arc<Rights>),
    /// These settings hold from now on.
    Settings(Arc<Settings>),
    /// The server is about to end: tell load balancers, by health checks and `Connection: close`.
    ShutdownAnnounced,
    /// The last connections end: those on which nothing is asked now, the others after their
    /// answer.
    EndIdle,
    /// Say goodbye to everybody, then close the connections one after another.
    Drain {
        /// Over how many milliseconds the closes are spread.
        window_ms: u64,
        /// What clients are told to wait before they return, in milliseconds.
        retry_after_ms: u64,
    },
    /// Nobody is served from now on: nothing is read, nobody let in, no deadline looked at. What
    /// is on its way comes to its end, see
    /// [`Shard::is_quiet`](crate::shard::state::Shard::is_quiet).
    Freeze,
    /// All are served again.
    Thaw,
    /// An operator asks something.
    Ask {
        /// What is asked.
        query: Query,
        /// By what the answer is told from others.
        number: u64,
    },
    /// A batch of records of history has been dealt with.
    Stored {
        /// Its number, as the shard was told when it was handed over.
        batch: u64,
        /// Whether all of it is stored as it was to be.
        is_stored: bool,
    },
    /// Hand out what apps have used, however little time has passed: the shard is to end.
    Usage,
    /// Deadlines may be due.
    Time,
    /// All input of this loop turn has been handled; writing comes next.
    EndOfTurn,
}

impl Input<'_> {
    /// Whose socket it is about, if it is about one.
    #[must_use]
    pub fn connection(&self) -> Option<ConnectionId> {
        match self {
            Self::Accepted { connection, .. }
            | Self::Proxied { connection, .. }
            | Self::Handshake { connection, .. }
            | Self::Received { connection, .. }
            | Self::Ended { connection }
            | Self::Unreachable { connection }
            | Self::Closed { connection } => Some(*connection),
            _ => None,
        }
    }
}
