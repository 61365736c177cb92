//! One connection's TLS: ciphertext in, plaintext out, and back.
//!
//! Records are decrypted where they lie; what is not yet whole is kept and put in front of what
//! comes next. An idle connection keeps nothing but rustls' own state. What a peer can make a
//! session hold is bounded by [`TLS_HELD_BYTES_MAX`], whatever it sends.
//!
//! Always true: after a fault, nothing more is asked of rustls.

use std::fmt;

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError};

use super::config::TlsConfig;
use super::error::TlsFault;
use crate::limits::TLS_HELD_BYTES_MAX;
use crate::proto::proxy_protocol;

/// Plaintext of one record (RFC 8446, section 5.1).
pub const RECORD_PLAINTEXT_BYTES_MAX: usize = 1 << 14;
/// Room for what one call of [`TlsSession::encrypt`] puts out beside its plaintext: a record's
/// header, nonce and tag, and a key update with its own in front.
const SEAL_BYTES_MAX: usize = 256;
/// The alert that a message cannot be read, fatal (RFC 8446, section 6.2), in a record of its own.
const DECODE_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 50];
/// First byte of every TLS connection: a handshake record (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 22;
/// How plain HTTP requests begin, each distinct from TLS in the first byte.
const METHODS: [&[u8]; 9] = [
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"PATCH ",
    b"DELETE ",
    b"OPTIONS ",
    b"CONNECT ",
    b"TRACE ",
];
/// The response to a client that speaks plain HTTP to this port.
const PLAIN_HTTP_RESPONSE: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 83\r\n\
    Connection: close\r\n\
    \r\n\
    The client sent an HTTP request to an HTTPS port: the URL needs https:// or wss://\n";

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The handshake is not complete: nothing can be encrypted.
    Handshaking,
    /// Both directions are open.
    Open,
    /// The peer will send no more; it may still be written to.
    PeerClosed,
}

/// See the top of this file.
pub struct TlsSession {
    connection: UnbufferedServerConnection,
    /// Input that is not whole, partly decrypted in place. Owns no memory when empty.
    held: Vec<u8>,
    recognized: bool,
    progress: Progress,
    /// No more is sent: `close_notify` has been, or an alert.
    write_closed: bool,
}

impl fmt::Debug for TlsSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSession")
            .field("progress", &self.progress)
            .field("held", &self.held.len())
            .finish_non_exhaustive()
    }
}

impl TlsSession {
    /// A session that awaits the client's first bytes.
    ///
    /// # Errors
    /// None that a [`TlsConfig`] can cause; they are rustls' own.
    pub fn new(config: &TlsConfig) -> Result<Self, TlsFault> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(config.server.clone())?,
            held: Vec::new(),
            recognized: false,
            progress: Progress::Handshaking,
            write_closed: false,
        })
    }

    /// Returns how far the connection has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Returns the bytes that belong in front of the next input: the caller copies them there.
    #[must_use]
    pub fn held(&self) -> &[u8] {
        &self.held
    }

    /// Takes what came, with [`held`](Self::held) in front of it. Plaintext and what is to be
    /// sent are appended, the former never more than there was input.
    ///
    /// # Errors
    /// The connection cannot go on: send what was appended, then end it.
    pub fn receive(
        &mut self,
        input: &mut [u8],
        plaintext: &mut Vec<u8>,
        output: &mut Vec<u8>,
    ) -> Result<Progress, TlsFault> {
        if !self.recognized && !self.recognize(input, output)? {
            self.keep(input)?;
            return Ok(self.progress);
        }
        let said = output.len();
        let mut used = 0;
        loop {
            let rest = &mut input[used..];
            let status = self.connection.process_tls_records(rest);
            let discard = status.discard;
            let progress = match status.state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        plaintext.extend_from_slice(record?.payload);
                    }
                    None
                }
                Ok(ConnectionState::EncodeTlsData(data)) => {
                    encode(data, output);
                    None
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(ConnectionState::WriteTraffic(_)) => Some(Progress::Open),
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    Some(Progress::PeerClosed)
                }
                // Early data is never offered, so it is refused, not read.
                Ok(_) => Some(Progress::Handshaking),
                Err(error) => {
                    self.write_closed = true;
                    self.alert(rest, output);
                    if output.len() == said {
                        self.alert_undecoded(output);
                    }
                    return Err(self.fault(error, input));
                }
            };
            used += discard;
            if let Some(progress) = progress {
                self.progress = self.progress.later(progress);
                break;
            }
        }
        let rest = match self.progress {
            Progress::PeerClosed => &[],
            Progress::Handshaking | Progress::Open => &input[used..],
        };
        if let Err(fault) = self.keep(rest) {
            self.alert_undecoded(output);
            return Err(fault);
        }
        Ok(self.progress)
    }

    /// Appends what rustls still has to say after a fault. The alert is the last of it: a
    /// ServerHello may stand before it.
    fn alert(&mut self, rest: &mut [u8], output: &mut Vec<u8>) {
        while self.connection.wants_write()
            && let Ok(ConnectionState::EncodeTlsData(data)) =
                self.connection.process_tls_records(rest).state
        {
            encode(data, output);
        }
    }

    /// Appends the alert that rustls leaves out for some messages, while nothing is encrypted.
    fn alert_undecoded(&self, output: &mut Vec<u8>) {
        if self.connection.protocol_version().is_none() {
            output.extend_from_slice(&DECODE_ERROR);
        }
    }

    fn fault(&self, error: rustls::Error, input: &[u8]) -> TlsFault {
        if self.progress == Progress::Handshaking && proxy_protocol::is_likely(input) {
            return TlsFault::ProxyHeader;
        }
        error.into()
    }

    /// Encrypts at most [`RECORD_PLAINTEXT_BYTES_MAX`] into one record, and appends what is to be
    /// sent next of all.
    ///
    /// # Errors
    /// The handshake is not complete, the writing side is closed, or the keys are used up.
    pub fn encrypt(&mut self, plaintext: &[u8], output: &mut Vec<u8>) -> Result<(), TlsFault> {
        debug_assert!(plaintext.len() <= RECORD_PLAINTEXT_BYTES_MAX);
        let room = plaintext.len() + SEAL_BYTES_MAX;
        self.seal(room, output, |traffic, into| {
            traffic.encrypt(plaintext, into)
        })
    }

    /// Appends `close_notify`, which says that nothing more will be sent. Appends nothing if it has
    /// been said already, or if the handshake was never completed.
    pub fn close(&mut self, output: &mut Vec<u8>) {
        // A peer that cannot be told need not be.
        let _ = self.seal(SEAL_BYTES_MAX, output, |traffic, into| {
            traffic.queue_close_notify(into)
        });
        self.write_closed = true;
    }

    /// Encrypts and appends. rustls must be given the held input with it: it looks for records
    /// there, and remembers how much of them it has seen.
    fn seal(
        &mut self,
        room: usize,
        output: &mut Vec<u8>,
        put: impl FnOnce(&mut Traffic<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), TlsFault> {
        if self.progress == Progress::Handshaking || self.write_closed {
            return Err(rustls::Error::HandshakeNotComplete.into());
        }
        let start = output.len();
        let put = match self.connection.process_tls_records(&mut self.held).state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                output.resize(start + room, 0);
                put(&mut traffic, &mut output[start..])
                    .map_err(|_| rustls::Error::EncryptError.into())
            }
            Ok(_) => Err(rustls::Error::EncryptError.into()),
            Err(error) => Err(error.into()),
        };
        output.truncate(start + put.as_ref().copied().unwrap_or(0));
        put.map(drop)
    }

    /// Returns whether the input is for rustls: false as long as it may become an HTTP method.
    fn recognize(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<bool, TlsFault> {
        if input.is_empty() {
            return Ok(false);
        }
        if input[0] != HANDSHAKE_RECORD {
            if METHODS.iter().any(|method| input.starts_with(method)) {
                self.write_closed = true;
                output.extend_from_slice(PLAIN_HTTP_RESPONSE);
                return Err(TlsFault::PlainHttp);
            }
            if METHODS.iter().any(|method| method.starts_with(input)) {
                return Ok(false);
            }
        }
        self.recognized = true;
        Ok(true)
    }

    fn keep(&mut self, rest: &[u8]) -> Result<(), TlsFault> {
        if rest.len() > TLS_HELD_BYTES_MAX {
            self.write_closed = true;
            return Err(TlsFault::TooLarge);
        }
        if rest.is_empty() {
            self.held = Vec::new();
        } else {
            self.held.clear();
            self.held.extend_from_slice(rest);
        }
        Ok(())
    }
}

type Traffic<'c> = rustls::unbuffered::WriteTraffic<'c, rustls::server::ServerConnectionData>;

impl Progress {
    /// The peer's end is told once by rustls, and holds from then on.
    fn later(self, next: Self) -> Self {
        if self == Self::PeerClosed { self } else { next }
    }
}

/// Appends a handshake record or an alert.
fn encode<Data>(mut data: EncodeTlsData<'_, Data>, output: &mut Vec<u8>) {
    let start = output.len();
    // An encoder that has no room says how much it needs, and can be asked again.
    while let Err(EncodeError::InsufficientSize(needed)) = data.encode(&mut output[start..]) {
        output.resize(start + needed.required_size, 0);
    }
}
