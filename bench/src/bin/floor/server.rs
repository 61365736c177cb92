//! The bare server: it knows how long a request and a delivery are, and nothing else.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use clap::{Args, ValueEnum};
use rustix::event::epoll;

use crate::uring::BatchedSends;

/// What a request sets off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// One delivery to every other connection.
    FanOut,
    /// One delivery to the connection that was accepted before or after: 0 and 1 are a pair.
    Relay,
    /// One delivery to the connection itself, once for each: the answer to a connect.
    Answer,
}

/// How deliveries are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sending {
    /// One `send` for each delivery.
    Each,
    /// One `send` for each socket and turn.
    Coalesced,
    /// The same, submitted in batches through io_uring.
    Uring,
}

/// See the top of this file.
#[derive(Args, Clone, Debug)]
pub struct FloorServer {
    /// What a request sets off.
    #[arg(long)]
    pub work: Work,
    /// How deliveries are sent.
    #[arg(long)]
    pub sending: Sending,
    /// Length of a request.
    #[arg(long)]
    pub request_bytes: usize,
    /// Length of a delivery.
    #[arg(long)]
    pub delivery_bytes: usize,
}

const LISTENER: u64 = u64::MAX;

struct Connection {
    socket: TcpStream,
    /// Bytes of a request that is not complete.
    partial_bytes: usize,
}

struct Running<'a> {
    options: &'a FloorServer,
    epoll: OwnedFd,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    deliveries: Vec<u8>,
    uring: BatchedSends,
}

impl FloorServer {
    /// This server as arguments of this program.
    pub fn arguments(&self) -> Vec<String> {
        let name = |value: &dyn Fn() -> Option<clap::builder::PossibleValue>| {
            value().map_or_else(String::new, |value| value.get_name().to_owned())
        };
        vec![
            "serve-floor".into(),
            format!("--work={}", name(&|| self.work.to_possible_value())),
            format!("--sending={}", name(&|| self.sending.to_possible_value())),
            format!("--request-bytes={}", self.request_bytes),
            format!("--delivery-bytes={}", self.delivery_bytes),
        ]
    }

    /// Serves until killed, or until the load goes away.
    pub fn serve(&self) -> io::Result<()> {
        match self.serve_load() {
            Err(error) if is_load_gone(&error) => Ok(()),
            outcome => outcome,
        }
    }

    fn serve_load(&self) -> io::Result<()> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        socket.listen(4_096)?;
        let listener = TcpListener::from(socket);
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(LISTENER);
        epoll::add(&epoll, &listener, data, epoll::EventFlags::IN)?;
        println!("{}", listener.local_addr()?);
        let mut running = Running {
            options: self,
            epoll,
            connections: Vec::new(),
            free: Vec::new(),
            deliveries: Vec::new(),
            uring: BatchedSends::new()?,
        };
        let mut events = Vec::with_capacity(1_024);
        let mut scratch = vec![0; 64 * 1_024];
        loop {
            events.clear();
            let spare = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&running.epoll, spare, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                match event.data.u64() {
                    LISTENER => running.accept(&listener)?,
                    at => running.readable(at as usize, &mut scratch)?,
                }
            }
        }
    }
}

fn is_load_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    )
}

impl Running<'_> {
    fn accept(&mut self, listener: &TcpListener) -> io::Result<()> {
        loop {
            let socket = match listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            let at = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let data = epoll::EventData::new_u64(at as u64);
            epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN)?;
            self.connections[at] = Some(Connection {
                socket,
                partial_bytes: 0,
            });
        }
    }

    fn readable(&mut self, at: usize, scratch: &mut [u8]) -> io::Result<()> {
        let Some(connection) = &mut self.connections[at] else {
            return Ok(());
        };
        let count = match connection.socket.read(scratch) {
            Ok(0) => {
                self.connections[at] = None;
                self.free.push(at);
                return Ok(());
            }
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            // A client that resets is gone too.
            Err(_) => 0,
        };
        let whole = connection.partial_bytes + count;
        connection.partial_bytes = whole % self.options.request_bytes;
        let requests = whole / self.options.request_bytes;
        if requests == 0 {
            return Ok(());
        }
        match self.options.work {
            Work::FanOut => self.fan_out(at, requests),
            Work::Relay => self.send(at ^ 1, requests),
            Work::Answer => self.send(at, requests),
        }
    }

    fn fan_out(&mut self, publisher: usize, requests: usize) -> io::Result<()> {
        match self.options.sending {
            Sending::Each => {
                for _ in 0..requests {
                    for at in (0..self.connections.len()).filter(|at| *at != publisher) {
                        self.send(at, 1)?;
                    }
                }
                Ok(())
            }
            Sending::Coalesced => {
                for at in (0..self.connections.len()).filter(|at| *at != publisher) {
                    self.send(at, requests)?;
                }
                Ok(())
            }
            Sending::Uring => {
                let bytes = requests * self.options.delivery_bytes;
                self.deliveries.resize(bytes, b'x');
                let sockets = self.connections.iter().enumerate();
                let others = sockets
                    .filter(|(at, _)| *at != publisher)
                    .filter_map(|(_, connection)| Some(&connection.as_ref()?.socket));
                self.uring.send_to_all(others, &self.deliveries)
            }
        }
    }

    fn send(&mut self, at: usize, deliveries: usize) -> io::Result<()> {
        self.deliveries
            .resize(deliveries * self.options.delivery_bytes, b'x');
        match self.connections.get_mut(at) {
            // A full socket is an error here: the load never lets it come to that.
            Some(Some(connection)) => connection.socket.write_all(&self.deliveries),
            _ => Ok(()),
        }
    }
}
