//! The simplest client that can load a server: non-blocking sockets and one `epoll`.
//!
//! It speaks just enough of the protocol to get going, then it only counts bytes: in a
//! measurement every frame has the same length. Setting up is blocking and not measured.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};

use crate::fixture::{text_frame, upgrade_request};

/// What must answer while a connection is being set up does so within this time.
const SETUP_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens a plain TCP connection.
///
/// # Errors
/// Those of `connect(2)`.
pub fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(SETUP_TIMEOUT))?;
    Ok(socket)
}

/// Opens a WebSocket connection with that credential and waits for `welcome`.
///
/// # Errors
/// Those of the socket, or a refusal.
pub fn open_websocket(address: SocketAddr, query: &str) -> io::Result<TcpStream> {
    let mut socket = open(address)?;
    upgrade(&mut socket, query)?;
    Ok(socket)
}

/// Makes a WebSocket of a connection and waits for `welcome`. Returns how many bytes came.
///
/// # Errors
/// Those of the socket, or a refusal.
pub fn upgrade(socket: &mut TcpStream, query: &str) -> io::Result<usize> {
    socket.write_all(upgrade_request(query).as_bytes())?;
    read_until(socket, b"\"maxMessageSize\":65536}")
}

/// Subscribes and waits for the ack. Returns how many bytes came.
///
/// # Errors
/// Those of the socket.
pub fn subscribe(socket: &mut TcpStream, channel: &str) -> io::Result<usize> {
    let (request, ack) = subscription(channel);
    socket.write_all(&request)?;
    read_until(socket, ack)
}

/// The frame that subscribes, and how the answer ends.
#[must_use]
pub fn subscription(channel: &str) -> (Vec<u8>, &'static [u8]) {
    let json = format!(r#"{{"type":"subscribe","channel":"{channel}","requestId":"1"}}"#);
    (text_frame(&json), br#"{"type":"ack","requestId":"1"}"#)
}

/// Reads until these bytes have come. Returns how many came, with any that came behind them.
///
/// # Errors
/// Those of the socket, or that it ended before.
pub fn read_until(socket: &mut TcpStream, last: &[u8]) -> io::Result<usize> {
    let mut seen = Vec::new();
    let mut buffer = [0; 4_096];
    while !seen.windows(last.len()).any(|it| it == last) {
        let count = socket.read(&mut buffer)?;
        seen.extend_from_slice(&buffer[..count]);
        if count == 0 {
            let text = String::from_utf8_lossy(&seen);
            return Err(io::Error::other(format!("refused: {text}")));
        }
    }
    Ok(seen.len())
}

/// Sockets that have bytes are dealt with in batches of so many.
const BATCH: usize = 1_024;

/// Sockets that are read as bytes come.
pub struct Readers {
    epoll: OwnedFd,
    sockets: Vec<TcpStream>,
    events: Vec<epoll::Event>,
    scratch: Box<[u8]>,
}

impl AsFd for Readers {
    /// Readable while any socket has bytes.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Readers {
    /// Takes sockets over; they are known by their index from here on.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub fn new(sockets: Vec<TcpStream>) -> io::Result<Self> {
        Self::with_batch(sockets, BATCH)
    }

    /// The same, for those who have something else to do after so many sockets.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub fn with_batch(sockets: Vec<TcpStream>, batch: usize) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (at, socket) in sockets.iter().enumerate() {
            socket.set_nonblocking(true)?;
            let data = epoll::EventData::new_u64(at as u64);
            epoll::add(&epoll, socket, data, epoll::EventFlags::IN)?;
        }
        Ok(Self {
            epoll,
            events: Vec::with_capacity(batch),
            sockets,
            scratch: vec![0; 64 * 1_024].into_boxed_slice(),
        })
    }

    /// Waits for bytes, and tells for each socket that has some how many there are.
    ///
    /// # Errors
    /// Those of the sockets, and a closed one.
    pub fn wait(
        &mut self,
        timeout: Duration,
        mut received: impl FnMut(usize, usize),
    ) -> io::Result<()> {
        self.wait_for_bytes(timeout, |at, bytes| received(at, bytes.len()))
    }

    /// The same, and hands the bytes out.
    ///
    /// # Errors
    /// Those of the sockets, and a closed one.
    pub fn wait_for_bytes(
        &mut self,
        timeout: Duration,
        mut received: impl FnMut(usize, &[u8]),
    ) -> io::Result<()> {
        let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
        self.events.clear();
        let spare = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, spare, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &self.events {
            let at = event.data.u64() as usize;
            match (&self.sockets[at]).read(&mut self.scratch) {
                Ok(0) => return Err(io::Error::other("the server closed a connection")),
                Ok(count) => received(at, &self.scratch[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes to one of the sockets.
    ///
    /// # Errors
    /// Those of the socket, a full one included.
    pub fn send(&self, at: usize, bytes: &[u8]) -> io::Result<()> {
        (&self.sockets[at]).write_all(bytes)
    }
}
