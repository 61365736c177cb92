//! What stands between a socket's bytes and the shard's: a proxy's header, TLS, or both.
//!
//! A plain connection has no transport at all. Others own one from accept to close, or until a
//! plain connection's proxy has spoken. What is to be sent on a connection is gathered in a
//! buffer that all share, so that it leaves in one write; what finds no room stays with the
//! connection, at most a record's worth beside a handshake's messages, and leaves first.

use std::fmt;
use std::net::IpAddr;

use minicbor::bytes::ByteVec;

use crate::proto::forwarded::TrustedProxies;
use crate::proto::proxy_protocol::{self, ProxyHeaderError};
use crate::runtime::handover::SocketRecord;
use crate::tls::{Progress, RECORD_PLAINTEXT_BYTES_MAX, TlsConfig, TlsFault, TlsSession};

/// Which transport the connections of one shard get, and the buffers that they share.
#[derive(Debug)]
pub(super) struct Transports {
    /// `None`: all listeners speak plain HTTP.
    tls: Option<TlsConfig>,
    /// Peers whose connections begin with a PROXY header.
    proxies: TrustedProxies,
    /// What the last [`Transport::receive`] decrypted.
    pub plaintext: Vec<u8>,
    /// What is to be sent on the connection that is being flushed.
    gathered: Vec<u8>,
}

impl Transports {
    /// Transports for listeners of which some may speak TLS, behind proxies or not.
    #[must_use]
    pub(super) fn new(tls: Option<TlsConfig>, proxies: TrustedProxies) -> Self {
        Self {
            tls,
            proxies,
            plaintext: Vec::new(),
            gathered: Vec::new(),
        }
    }

    /// New connections from these, and no others, begin with a PROXY header.
    pub(super) fn switch_proxies(&mut self, proxies: TrustedProxies) {
        self.proxies = proxies;
    }

    /// New connections get that certificate. Listeners without TLS stay without.
    pub(super) fn switch_tls(&mut self, config: TlsConfig) {
        if let Some(tls) = &mut self.tls {
            *tls = config;
        }
    }

    /// The transport of a connection from that address to a listener that speaks TLS or not;
    /// `None` for a plain one.
    ///
    /// # Errors
    /// None that a configuration can cause, see [`TlsSession::new`].
    pub(super) fn accept(
        &self,
        remote: IpAddr,
        is_tls: bool,
    ) -> Result<Option<Box<Transport>>, TlsFault> {
        let is_proxied = self.proxies.contains(remote);
        let tls = self.tls.as_ref().filter(|_| is_tls);
        if !is_proxied && tls.is_none() {
            return Ok(None);
        }
        Ok(Some(Box::new(Transport {
            proxy: is_proxied.then(|| {
                Box::new(Proxy {
                    address: remote,
                    header: Vec::new(),
                })
            }),
            tls: tls.map(TlsSession::new).transpose()?,
            unsent: Vec::new(),
            refused: false,
            has_begun: false,
        })))
    }

    /// The transport that another process has handed over: without TLS, which stays where it is.
    pub(super) fn adopt(record: SocketRecord) -> Option<Box<Transport>> {
        let SocketRecord {
            proxy,
            unsent,
            is_refused,
        } = record;
        let refused = is_refused.unwrap_or(false);
        let unsent = unsent.map_or_else(Vec::new, Vec::from);
        if proxy.is_none() && unsent.is_empty() && !refused {
            return None;
        }
        let proxy = proxy.map(|(address, header)| {
            let header = Vec::from(header);
            Box::new(Proxy { address, header })
        });
        Some(Box::new(Transport {
            proxy,
            tls: None,
            unsent,
            refused,
            has_begun: false,
        }))
    }

    /// Begins with what is unsent on that connection.
    pub(super) fn gather_unsent(&mut self, transport: &mut Transport) {
        self.gathered.clear();
        self.gathered.extend_from_slice(&transport.unsent);
        transport.unsent = Vec::new();
    }

    /// Adds the first bytes of `plaintext`, encrypted, as one record. Returns how many were taken:
    /// none once there is a record's worth.
    ///
    /// # Errors
    /// Nothing more can be sent on that connection.
    pub(super) fn gather(
        &mut self,
        transport: &mut Transport,
        plaintext: &[u8],
    ) -> Result<usize, TlsFault> {
        let room = RECORD_PLAINTEXT_BYTES_MAX.saturating_sub(self.gathered.len());
        let taken = plaintext.len().min(room);
        if let Some(tls) = &mut transport.tls
            && taken > 0
        {
            tls.encrypt(&plaintext[..taken], &mut self.gathered)?;
        }
        Ok(taken)
    }

    /// Adds the end of the encrypted stream, if it has not been said.
    pub(super) fn gather_end(&mut self, transport: &mut Transport) {
        if let Some(tls) = &mut transport.tls {
            tls.close(&mut self.gathered);
        }
    }

    /// Whether there is a record's worth.
    #[must_use]
    pub(super) fn is_full(&self) -> bool {
        self.gathered.len() >= RECORD_PLAINTEXT_BYTES_MAX
    }

    /// What was gathered has been sent, or is kept.
    pub(super) fn forget_gathered(&mut self) {
        self.gathered.clear();
    }

    /// Returns the bytes to send.
    #[must_use]
    pub(super) fn gathered(&self) -> &[u8] {
        &self.gathered
    }

    /// Of what was gathered only the first `count` bytes have been sent: the rest stays unsent.
    pub(super) fn keep_from(&self, count: usize, transport: &mut Transport) {
        transport.unsent.extend_from_slice(&self.gathered[count..]);
    }
}

/// What stands between one connection's socket and the shard.
#[derive(Debug)]
pub(super) struct Transport {
    /// Until its header is whole; `None` from then on, or where none is due.
    proxy: Option<Box<Proxy>>,
    tls: Option<TlsSession>,
    /// Bytes to be sent before all others.
    pub unsent: Vec<u8>,
    refused: bool,
    /// The server has made its first step of the handshake.
    has_begun: bool,
}

/// A proxy whose header has not been read whole.
#[derive(Debug)]
struct Proxy {
    address: IpAddr,
    /// What has come of its header.
    header: Vec<u8>,
}

/// What a transport lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Its own bytes only: a header or a handshake is still to come.
    Opening,
    /// The shard's bytes too.
    Open,
    /// Its last bytes only; what the peer sends is ignored.
    Refused,
}

/// What came of received bytes.
#[derive(Debug)]
pub(super) struct Received {
    /// The client's address, once, by the word of a proxy.
    pub client: Option<IpAddr>,
    /// How the connection goes on.
    pub next: Next,
}

/// How a connection goes on.
#[derive(Debug)]
pub(super) enum Next {
    /// As before.
    Same,
    /// Without a transport, which has done its part.
    Plain,
    /// The peer will send no more.
    Ended,
    /// It ends: the peer broke a rule. The bytes that tell it so are unsent.
    Refused(TransportFault),
}

/// The rule that a peer broke, for the log.
#[derive(Debug)]
pub(super) enum TransportFault {
    /// The proxy at that address sent no proper header.
    Proxy(IpAddr, ProxyHeaderError),
    /// It does not speak TLS, or not properly.
    Tls(TlsFault),
}

impl fmt::Display for TransportFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proxy(_, error) => error.fmt(f),
            Self::Tls(fault) => fault.fmt(f),
        }
    }
}

impl Transport {
    /// What it is to another process; `None`: it is encrypted.
    #[must_use]
    pub(super) fn record(&self) -> Option<SocketRecord> {
        let Self {
            proxy,
            tls,
            unsent,
            refused,
            // Of a handshake.
            has_begun: _,
        } = self;
        if tls.is_some() {
            return None;
        }
        let proxy = proxy.as_deref();
        Some(SocketRecord {
            proxy: proxy.map(|it| (it.address, ByteVec::from(it.header.clone()))),
            unsent: (!unsent.is_empty()).then(|| ByteVec::from(unsent.clone())),
            is_refused: refused.then_some(true),
        })
    }

    /// What it lets through.
    #[must_use]
    pub(super) fn gate(&self) -> Gate {
        let is_handshaking = |tls: &TlsSession| tls.progress() == Progress::Handshaking;
        if self.refused {
            Gate::Refused
        } else if self.proxy.is_some() || self.tls.as_ref().is_some_and(is_handshaking) {
            Gate::Opening
        } else {
            Gate::Open
        }
    }

    /// Whether the server has made its first step of a TLS handshake, and waits for the peer's.
    #[must_use]
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun && self.gate() == Gate::Opening
    }

    /// Whether the peer has to say something before the server's first step of a TLS handshake.
    #[must_use]
    pub(super) fn is_untouched(&self) -> bool {
        self.tls.is_some() && self.proxy.is_none() && !self.has_begun
    }

    /// Bytes that belong in front of the next input: the caller copies them there.
    #[must_use]
    pub(super) fn held(&self) -> &[u8] {
        match (&self.proxy, &self.tls) {
            (Some(proxy), _) => &proxy.header,
            (None, Some(tls)) => tls.held(),
            (None, None) => &[],
        }
    }

    /// Takes what came, with [`held`](Self::held) in front of it. What is for the shard is
    /// appended to `plaintext`.
    pub(super) fn receive(&mut self, mut input: &mut [u8], plaintext: &mut Vec<u8>) -> Received {
        let mut client = None;
        let received = |client, next| Received { client, next };
        if self.refused {
            return received(None, Next::Same);
        }
        if let Some(proxy) = &mut self.proxy {
            match proxy_protocol::parse(input) {
                Ok(Some(header)) => {
                    client = header.source;
                    input = &mut input[header.bytes..];
                    self.proxy = None;
                }
                Ok(None) => {
                    proxy.header.clear();
                    proxy.header.extend_from_slice(input);
                    return received(None, Next::Same);
                }
                Err(error) => {
                    self.refused = true;
                    let refusal = TransportFault::Proxy(proxy.address, error);
                    return received(None, Next::Refused(refusal));
                }
            }
        }
        let Some(tls) = &mut self.tls else {
            plaintext.extend_from_slice(input);
            return received(client, Next::Plain);
        };
        match tls.receive(input, plaintext, &mut self.unsent) {
            Ok(Progress::Handshaking | Progress::Open) => {
                self.has_begun |= !self.unsent.is_empty();
                received(client, Next::Same)
            }
            Ok(Progress::PeerClosed) => received(client, Next::Ended),
            Err(fault) => {
                self.refused = true;
                received(client, Next::Refused(TransportFault::Tls(fault)))
            }
        }
    }
}
