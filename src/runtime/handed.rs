//! Listeners that the service manager has opened, and hands over at the start: sd_listen_fds(3),
//! as socket units of systemd have it.
//!
//! They are matched with the configuration by their address, so that one address is the service
//! manager's and another the server's own, as the operator likes.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::net::sockopt::socket_acceptconn;
use socket2::{Socket, Type};

/// Descriptors are taken once: then they are somebody's.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// A listener that was handed over.
#[derive(Debug)]
pub(super) struct Handed {
    /// The socket. It listens already.
    pub socket: Socket,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Why the server cannot start with what it was handed.
#[derive(Debug)]
pub(super) enum HandedError {
    /// The environment does not say how many there are, or they are not open.
    Unreadable(std::io::Error),
    /// No TCP socket that listens: the descriptor of that number.
    NoListener(usize),
    /// The configuration does not have its address.
    Unlisted(SocketAddr),
    /// It is that of the admin listener, which is never handed over.
    Admin(SocketAddr),
}

impl fmt::Display for HandedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(
                f,
                "cannot take over listeners of the service manager: {error}; start the server \
                 with its unit, or unset LISTEN_FDS"
            ),
            Self::NoListener(number) => write!(
                f,
                "descriptor {number} of the service manager is no TCP socket that listens; a \
                 socket unit for this server has ListenStream=ADDRESS:PORT and no Accept=yes"
            ),
            Self::Admin(address) => write!(
                f,
                "the service manager listens on {address}, which is admin.listen: the server \
                 opens its admin listener itself; take that ListenStream= out of the socket unit"
            ),
            Self::Unlisted(address) => write!(
                f,
                "the service manager listens on {address} for this server, and neither \
                 server.listen nor tls.listen has it; make them and ListenStream= of the socket \
                 unit agree"
            ),
        }
    }
}

/// Takes what was handed to this process, all of which must be at one of `addresses`. There is
/// nothing more the second time.
///
/// # Errors
/// See [`HandedError`].
pub(super) fn take(addresses: &[SocketAddr]) -> Result<Vec<Handed>, HandedError> {
    let handed = all()?;
    match handed.iter().find(|it| !addresses.contains(&it.address)) {
        Some(other) => Err(HandedError::Unlisted(other.address)),
        None => Ok(handed),
    }
}

/// Why the admin listener could not be opened: the service manager has opened one there. What was
/// handed over is given up, so this is for a start that has failed.
pub(super) fn in_place_of_admin(admin: SocketAddr) -> Option<HandedError> {
    let handed = all().unwrap_or_default();
    let is_there = handed.iter().any(|it| it.address == admin);
    is_there.then_some(HandedError::Admin(admin))
}

fn all() -> Result<Vec<Handed>, HandedError> {
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let numbers = sd_notify::listen_fds().map_err(HandedError::Unreadable)?;
    let take_one = |number| {
        // SAFETY: the service manager opened it for this process, `listen_fds` has seen that it
        // is open, and nobody else takes it, as `TAKEN` shows.
        let fd = unsafe { OwnedFd::from_raw_fd(number) };
        listener(number as usize, fd.into())
    };
    numbers.map(take_one).collect()
}

fn listener(number: usize, socket: Socket) -> Result<Handed, HandedError> {
    let listens =
        socket_acceptconn(&socket).unwrap_or(false) && socket.r#type().ok() == Some(Type::STREAM);
    let address = socket.local_addr().ok().and_then(|it| it.as_socket());
    match address.filter(|_| listens) {
        Some(address) => Ok(Handed { socket, address }),
        None => Err(HandedError::NoListener(number)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_listens_for_tcp_is_taken_and_nothing_else_is() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let connected = TcpStream::connect(address).unwrap();
        assert_eq!(listener(3, tcp.into()).unwrap().address, address);
        let directory = tempfile::tempdir().unwrap();
        let unix = UnixListener::bind(directory.path().join("socket")).unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let others: [Socket; 3] = [connected.into(), udp.into(), OwnedFd::from(unix).into()];
        for socket in others {
            let text = listener(7, socket).unwrap_err().to_string();
            assert!(
                text.starts_with("descriptor 7 ") && text.contains("; "),
                "{text}"
            );
        }
    }
}
