//! A non-blocking byte stream to the server: TCP, with or without TLS.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, bind, connect, recv,
    send, shutdown, socket_with, sockopt,
};
use rustls::{ClientConfig, ClientConnection, HandshakeKind};
use socket2::SockRef;

use crate::client::arrival;
use crate::client::target::Target;
use crate::failure::Failure;

/// Connections from one loopback address before the next is used: below the usual number of
/// ephemeral ports (28,232).
const CONNECTIONS_PER_SOURCE: u32 = 25_000;

/// What is unusual about a connection: nothing, by default.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Shape {
    /// Bytes of the receive buffer, so that the peer soon has to wait (`SO_RCVBUF`).
    pub receive_bytes: Option<usize>,
    /// Largest segment in bytes (`TCP_MAXSEG`). The kernel sizes send buffers in segments, and
    /// those of loopback have 64 KB: with the size of an ethernet the peer's kernel buffers as
    /// little as it would on a real network.
    pub segment_bytes: Option<u32>,
    /// Address to connect from.
    pub source: Option<IpAddr>,
    /// The kernel notes when bytes arrive: [`Transport::arrived_ns`].
    pub is_stamped: bool,
}

/// A connected or connecting stream.
pub(crate) enum Transport {
    /// TCP.
    Plain(Tcp),
    /// TLS over TCP.
    Tls(Box<TlsStream>),
}

/// A TCP socket.
pub(crate) struct Tcp {
    fd: OwnedFd,
    is_stamped: bool,
    /// When the last bytes that were read had arrived, where the kernel was asked for it.
    arrived_ns: Option<u64>,
}

/// TLS state beside its socket.
pub(crate) struct TlsStream {
    socket: Tcp,
    session: ClientConnection,
    /// The last read of the socket left nothing in it.
    is_drained: bool,
}

impl Tcp {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !self.is_stamped {
            return Ok(recv(&self.fd, into, RecvFlags::empty()).map(|(bytes, _)| bytes)?);
        }
        let (bytes, arrived_ns) = arrival::receive(&self.fd, into)?;
        self.arrived_ns = arrived_ns.or(self.arrived_ns);
        Ok(bytes)
    }
}

impl Transport {
    /// Begins to connect. `number` counts the connections of the whole run, to spread very many
    /// over several loopback source addresses.
    ///
    /// # Errors
    /// [`Failure::Unreachable`] with the system's reason, [`Failure::Tls`].
    pub(crate) fn connect(target: &Target, number: u32) -> Result<Transport, Failure> {
        let shape = Shape {
            source: source_address(target.address.ip(), number),
            ..Shape::default()
        };
        Transport::connect_shaped(target, &shape, None)
    }

    /// The same with everything about the socket given, and with the TLS sessions of one client.
    ///
    /// # Errors
    /// As [`Transport::connect`].
    pub(crate) fn connect_shaped(
        target: &Target,
        shape: &Shape,
        sessions: Option<&Arc<ClientConfig>>,
    ) -> Result<Transport, Failure> {
        let unreachable = |error: rustix::io::Errno| Failure::Unreachable {
            address: target.address.to_string(),
            cause: io::Error::from(error).to_string(),
        };
        let family = match target.address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None).map_err(unreachable)?;
        sockopt::set_tcp_nodelay(&socket, true).map_err(unreachable)?;
        if let Some(bytes) = shape.receive_bytes {
            sockopt::set_socket_recv_buffer_size(&socket, bytes).map_err(unreachable)?;
        }
        if let Some(bytes) = shape.segment_bytes {
            let set = SockRef::from(&socket).set_tcp_mss(bytes);
            set.map_err(|error| Failure::Unreachable {
                address: target.address.to_string(),
                cause: error.to_string(),
            })?;
        }
        if let Some(source) = shape.source {
            bind(&socket, &SocketAddr::from((source, 0))).map_err(unreachable)?;
        }
        match connect(&socket, &target.address) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(unreachable(error)),
        }
        let is_stamped = shape.is_stamped && arrival::ask(&socket);
        let socket = Tcp {
            fd: socket,
            is_stamped,
            arrived_ns: None,
        };
        let Some(tls) = &target.tls else {
            return Ok(Transport::Plain(socket));
        };
        let config = sessions.unwrap_or(&tls.config).clone();
        let session = ClientConnection::new(config, tls.server_name.clone())
            .map_err(|error| Failure::Tls(error.to_string()))?;
        let mut stream = Box::new(TlsStream {
            socket,
            session,
            is_drained: false,
        });
        stream.session.set_buffer_limit(None);
        Ok(Transport::Tls(stream))
    }

    /// Reads plaintext into `scratch`; `Ok(0)` is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; anything else ends the connection.
    pub(crate) fn read(&mut self, scratch: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(socket) => socket.read(scratch),
            Transport::Tls(stream) => stream.read(scratch),
        }
    }

    /// Whether its TLS handshake resumed an earlier session.
    pub(crate) fn is_resumed(&self) -> bool {
        match self {
            Transport::Plain(_) => false,
            Transport::Tls(stream) => {
                stream.session.handshake_kind() == Some(HandshakeKind::Resumed)
            }
        }
    }

    /// When the bytes that were read last had arrived at the socket, on the monotonic clock in
    /// nanoseconds: of several segments, the last. `None` unless the kernel was asked for it.
    pub(crate) fn arrived_ns(&self) -> Option<u64> {
        match self {
            Transport::Plain(socket) => socket.arrived_ns,
            Transport::Tls(stream) => stream.socket.arrived_ns,
        }
    }

    /// True when a read of `bytes` into `capacity` has certainly emptied the socket.
    pub(crate) fn is_drained_by(&self, bytes: usize, capacity: usize) -> bool {
        let is_socket_drained = match self {
            Transport::Plain(_) => true,
            Transport::Tls(stream) => stream.is_drained,
        };
        is_socket_drained && bytes < capacity
    }

    /// Writes some of `bytes`. TLS takes all of them and keeps what the socket refuses.
    ///
    /// # Errors
    /// `WouldBlock` when nothing fits; anything else ends the connection.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(socket) => Ok(send(&socket.fd, bytes, SendFlags::NOSIGNAL)?),
            Transport::Tls(stream) => {
                stream.session.writer().write_all(bytes)?;
                stream.flush()?;
                Ok(bytes.len())
            }
        }
    }

    /// Sends what TLS still holds.
    ///
    /// # Errors
    /// Whatever ends the connection; a full socket is no error.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self {
            Transport::Plain(_) => Ok(()),
            Transport::Tls(stream) => stream.flush(),
        }
    }

    /// Whether TLS holds bytes that the socket has refused.
    pub(crate) fn is_unflushed(&self) -> bool {
        match self {
            Transport::Plain(_) => false,
            Transport::Tls(stream) => stream.session.wants_write(),
        }
    }

    /// Writes `bytes` and, over TLS, the `close_notify` in the same segment. Plain streams have no
    /// such thing. Returns how many bytes were taken.
    ///
    /// # Errors
    /// Whatever ends the connection.
    pub(crate) fn write_last(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Transport::Tls(stream) = self else {
            return self.write(bytes);
        };
        stream.session.writer().write_all(bytes)?;
        stream.session.send_close_notify();
        stream.flush()?;
        Ok(bytes.len())
    }

    /// Ends the direction to the server with a FIN.
    ///
    /// # Errors
    /// When the connection has ended already.
    pub(crate) fn end_writing(&self) -> io::Result<()> {
        Ok(shutdown(self.as_fd(), Shutdown::Write)?)
    }

    /// Makes the close of this socket a reset.
    ///
    /// # Errors
    /// Of `setsockopt`.
    pub(crate) fn reset_on_close(&self) -> io::Result<()> {
        Ok(sockopt::set_socket_linger(
            self.as_fd(),
            Some(Duration::ZERO),
        )?)
    }

    /// The result of a non-blocking connect, once the socket is writable.
    ///
    /// # Errors
    /// Why the connect failed.
    pub(crate) fn connect_result(&self) -> io::Result<()> {
        Ok(sockopt::socket_error(self.as_fd())??)
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Transport::Plain(socket) => socket.fd.as_fd(),
            Transport::Tls(stream) => stream.socket.fd.as_fd(),
        }
    }
}

impl TlsStream {
    fn read(&mut self, scratch: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(scratch) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            let mut socket = SocketIo::new(&mut self.socket);
            if self.session.read_tls(&mut socket)? == 0 {
                return Ok(0);
            }
            self.is_drained = socket.read_short;
            let processed = self.session.process_new_packets();
            // Sends handshake answers, or the alert that explains an error.
            self.flush()?;
            processed.map_err(io::Error::other)?;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut SocketIo::new(&mut self.socket)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

struct SocketIo<'a> {
    socket: &'a mut Tcp,
    /// The last read got less than it asked for.
    read_short: bool,
}

impl SocketIo<'_> {
    fn new(socket: &mut Tcp) -> SocketIo<'_> {
        SocketIo {
            socket,
            read_short: false,
        }
    }
}

impl Read for SocketIo<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let asked = buffer.len();
        let bytes = self.socket.read(buffer)?;
        self.read_short = bytes < asked;
        Ok(bytes)
    }
}

impl Write for SocketIo<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(&self.socket.fd, bytes, SendFlags::NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// 127.0.0.2 and on, for connections that no longer find a port on 127.0.0.1.
fn source_address(target: IpAddr, number: u32) -> Option<IpAddr> {
    let group = number / CONNECTIONS_PER_SOURCE;
    let is_loopback = matches!(target, IpAddr::V4(v4) if v4.is_loopback());
    if group == 0 || !is_loopback {
        return None;
    }
    let [.., third, fourth] = (group + 1).to_be_bytes();
    Some(IpAddr::V4(Ipv4Addr::new(127, 0, third, fourth)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn very_many_loopback_connections_use_more_addresses() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(source_address(loopback, 24_999), None);
        let second = source_address(loopback, 25_000).expect("another source");
        assert_eq!(second, IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)));
        assert_eq!(
            source_address(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 25_000),
            None
        );
    }
}
