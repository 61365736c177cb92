//! Reading of connections that have a transport: handshakes one after the other, what is encrypted
//! as it comes.

use super::measure;
use super::net::Net;
use super::reading::Reading;
use crate::domain::throttle::Throttle;
use crate::domain::time::Now;
use crate::ids::ConnectionId;
use crate::limits::READS_PER_TURN_MAX;
use crate::runtime::sockets::{Socket, Sockets, Transfer};
use crate::runtime::transport::{Gate, Next, Received, Transport, TransportFault};
use crate::shard::effect::Urgency;
use crate::shard::input::{HandshakeStep, Input};
use crate::shard::state::Shard;
use crate::tls::TlsFault;

/// Connections of trusted proxies that did not begin with a header.
static WITHOUT_HEADER: Throttle = Throttle::new();
/// Headers that came where TLS was expected.
static UNEXPECTED_HEADER: Throttle = Throttle::new();

/// A proxy that is set up otherwise than this server takes everybody's connections down.
fn warn_of_proxy(cause: &TransportFault, now: Now) {
    match cause {
        TransportFault::Proxy(address, cause) => {
            if let Some(connections) = WITHOUT_HEADER.pass(now.mono_ms) {
                tracing::warn!(
                    %address,
                    %cause,
                    connections,
                    "connections from a trusted proxy did not begin with a PROXY protocol \
                     header: have it send one (version 1 or 2), or turn server.proxy_protocol off"
                );
            }
        }
        TransportFault::Tls(TlsFault::ProxyHeader) => {
            if let Some(connections) = UNEXPECTED_HEADER.pass(now.mono_ms) {
                tracing::warn!(
                    connections,
                    "a PROXY protocol header came instead of TLS: turn server.proxy_protocol on, \
                     and name the proxy in server.trusted_proxies"
                );
            }
        }
        TransportFault::Tls(_) => {}
    }
}

/// How far a transport was before it got something.
#[derive(Clone, Copy)]
struct Before {
    has_begun: bool,
    unsent: usize,
}

impl Before {
    fn of(transport: &Transport) -> Self {
        Self {
            has_begun: transport.has_begun(),
            unsent: transport.unsent.len(),
        }
    }
}

impl Reading {
    /// A step of a handshake costs a hundred times what a message does, so each turn makes one.
    /// What comes for established connections meanwhile is read and written before the next one,
    /// and however much that is, handshakes keep a share of the core.
    pub(super) fn shake_hands(&mut self, net: &mut Net, shard: &mut Shard, now: Now) {
        for _ in 0..READS_PER_TURN_MAX.min(self.handshakes.len()) {
            let Some(id) = self.handshakes.pop() else {
                break;
            };
            if net.sockets.get(id).is_some_and(Socket::is_given_up) {
                shard.effects_mut().abort.push(id);
                continue;
            }
            if self.read_transported(id, net, shard, now) > 0 {
                break;
            }
        }
        let is_under_way = |id| {
            let socket = net.sockets.get(id);
            socket.is_some_and(|it| it.is_shaking_hands() && !it.closing)
        };
        let slowest = self.handshakes.give_way(now.mono_ms, is_under_way);
        shard.effects_mut().abort.extend(slowest);
    }

    /// The transport of a connection that was opening has dealt with what the peer sent.
    fn step_taken(
        &mut self,
        id: ConnectionId,
        before: Before,
        sockets: &Sockets,
        shard: &mut Shard,
        now: Now,
    ) {
        let Some(socket) = sockets.get(id) else {
            return;
        };
        let has_begun = socket.is_shaking_hands();
        let transport = socket.transport.as_ref();
        let is_open = transport.is_none_or(|it| it.gate() == Gate::Open);
        let has_spoken = transport.is_some_and(|it| it.unsent.len() > before.unsent);
        match (before.has_begun, has_begun) {
            (false, true) => self.handshakes.begin(id, now.mono_ms),
            (true, false) => self.handshakes.end(),
            _ => {}
        }
        let answered = is_open || has_spoken;
        let step = HandshakeStep::Taken { answered };
        let connection = id;
        shard.handle(Input::Handshake { connection, step }, now);
    }

    /// Reads one socket once. Returns how many bytes there were.
    pub(super) fn read_transported(
        &mut self,
        id: ConnectionId,
        net: &mut Net,
        shard: &mut Shard,
        now: Now,
    ) -> usize {
        let Some(socket) = net.sockets.get_mut(id) else {
            return 0;
        };
        socket.queued_to_read = false;
        let Some(transport) = &socket.transport else {
            return 0;
        };
        let is_open = transport.gate() == Gate::Open;
        if socket.closing || socket.broken || socket.departing || is_open && !shard.wants_input(id)
        {
            socket.skipped = true;
            return 0;
        }
        self.read_ns = measure::begin_read(shard, &self.clock, socket.ready_ns);
        let before = Before::of(transport);
        let held = transport.held().len();
        self.scratch[..held].copy_from_slice(transport.held());
        let room = self.scratch.len() - held;
        match socket.receive(&mut self.scratch[held..]) {
            Transfer::Bytes(count) => {
                let more = socket.has_more(count, room);
                self.received_transported(id, held + count, net, shard, now);
                if more {
                    self.push(id, &mut net.sockets, shard, now);
                }
                measure::end_spans(shard, &self.clock);
                shard.metrics().counters.bytes_received += count as u64;
                count
            }
            Transfer::WouldBlock => {
                if !is_open {
                    self.step_taken(id, before, &net.sockets, shard, now);
                }
                0
            }
            Transfer::Ended => {
                self.ended(id, &mut net.sockets, shard, now);
                0
            }
            Transfer::Broken(errno) => {
                self.broken(id, errno, &mut net.sockets, shard, now);
                0
            }
        }
    }

    /// The scratch begins with that many bytes for the connection's transport.
    fn received_transported(
        &mut self,
        id: ConnectionId,
        count: usize,
        net: &mut Net,
        shard: &mut Shard,
        now: Now,
    ) {
        let Some(socket) = net.sockets.get_mut(id) else {
            return;
        };
        if socket.is_open() {
            socket.note_used(now);
        }
        let Some(transport) = &mut socket.transport else {
            return;
        };
        let was_open = transport.gate() == Gate::Open;
        let before = Before::of(transport);
        let plaintext = &mut net.transports.plaintext;
        let Received { client, next } = transport.receive(&mut self.scratch[..count], plaintext);
        if !transport.unsent.is_empty() || matches!(next, Next::Refused(_)) {
            shard.effects_mut().dirty.push(id, Urgency::Reply);
        }
        if matches!(next, Next::Plain) {
            socket.transport = None;
        }
        if !was_open {
            self.step_taken(id, before, &net.sockets, shard, now);
        }
        let connection = id;
        if let Some(client) = client {
            shard.handle(Input::Proxied { connection, client }, now);
        }
        let bytes = &mut net.transports.plaintext[..];
        if !bytes.is_empty() {
            shard.handle(Input::Received { connection, bytes }, now);
            net.transports.plaintext.clear();
        }
        match next {
            Next::Same | Next::Plain => {}
            Next::Ended => shard.handle(Input::Ended { connection }, now),
            Next::Refused(cause) => refused(connection, &cause, was_open, shard, now),
        }
    }
}

/// A peer did what it may not: the connection goes no further.
fn refused(
    connection: ConnectionId,
    cause: &TransportFault,
    was_open: bool,
    shard: &mut Shard,
    now: Now,
) {
    tracing::debug!(shard = shard.number(), %cause, "connection refused");
    warn_of_proxy(cause, now);
    if was_open {
        shard.transport_failed(connection);
        return shard.handle(Input::Ended { connection }, now);
    }
    shard.transport_refused(connection, matches!(cause, TransportFault::Tls(_)));
}
