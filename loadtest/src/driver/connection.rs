//! One connection: its socket, how far it is, and the bytes that wait on either side.

use crate::client::transport::Transport;

/// What kind of connection a client has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The protocol's endpoint; with a token, under the peer id of this number.
    WebSocket {
        /// Number of the peer in the whole run.
        peer: u32,
    },
    /// Kept-alive HTTP for REST.
    Rest,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No socket.
    Vacant,
    /// TCP (and, for REST, TLS) is being established.
    Connecting,
    /// The upgrade request is out.
    Upgrading,
    /// The upgrade succeeded; `welcome` is awaited.
    Greeting,
    /// In use.
    Open,
    /// Our close frame is out; the end of the stream is awaited.
    Closing,
}

/// State of one client's connection.
pub(crate) struct Connection {
    /// How far it is.
    pub stage: Stage,
    /// Which kind it was opened as.
    pub kind: Kind,
    /// Counts the connections of this client.
    pub generation: u32,
    /// When it should have been opened, ns.
    pub intended_ns: u64,
    /// The socket, unless vacant.
    pub transport: Option<Transport>,
    /// Beginning of an incomplete frame or response.
    pub partial: Vec<u8>,
    /// Fragments of an incomplete message.
    pub fragments: Vec<u8>,
    /// Bytes the socket did not take yet.
    pub pending: Vec<u8>,
    /// The expected `Sec-WebSocket-Accept`.
    pub accept: String,
}

impl Connection {
    /// A client without a connection.
    pub(crate) fn vacant() -> Connection {
        Connection {
            stage: Stage::Vacant,
            kind: Kind::Rest,
            generation: 0,
            intended_ns: 0,
            transport: None,
            partial: Vec::new(),
            fragments: Vec::new(),
            pending: Vec::new(),
            accept: String::new(),
        }
    }

    /// Closes the socket and forgets its bytes.
    pub(crate) fn vacate(&mut self) {
        self.stage = Stage::Vacant;
        self.transport = None;
        self.partial = Vec::new();
        self.fragments = Vec::new();
        self.pending = Vec::new();
    }
}
