//! The bare server: it knows how long a request and a delivery are, and nothing else.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::ops::Range;
use std::os::fd::OwnedFd;

use clap::{Args, ValueEnum};
use rustix::event::epoll;

use crate::greeting::Step;
use crate::uring::BatchedSends;

/// Events in one turn.
const EVENTS_PER_TURN: usize = 1_024;

/// What a request sets off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Work {
    /// One delivery to every other connection of the group.
    FanOut,
    /// One delivery to the connection that was accepted before or after: 0 and 1 are a pair.
    Relay,
    /// One delivery to the connection itself.
    Answer,
}

/// How deliveries are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sending {
    /// One `send` for each delivery.
    Each,
    /// One `send` for each socket and turn.
    Coalesced,
    /// The same, submitted in batches through io_uring.
    Uring,
}

/// See the top of this file.
#[derive(Args, Clone, Debug)]
pub(crate) struct FloorServer {
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
    /// What every connection begins with, in order.
    #[arg(long)]
    pub greeting: Vec<Step>,
    /// Connections in each group, in the order in which they are accepted. The last size repeats;
    /// without any there is one group.
    #[arg(long)]
    pub group: Vec<usize>,
}

const LISTENER: u64 = u64::MAX;

struct Connection {
    socket: TcpStream,
    /// Steps of the greeting that are done.
    greeted: usize,
    /// Bytes of a request that is not complete.
    partial_bytes: usize,
}

struct Running<'a> {
    options: &'a FloorServer,
    epoll: OwnedFd,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Deliveries that each connection gets at the end of the turn.
    owed: Vec<usize>,
    /// Which ones get any.
    indebted: Vec<usize>,
    /// What is sent.
    deliveries: Vec<u8>,
    uring: BatchedSends,
}

impl FloorServer {
    /// With one group, no greeting, and a `send` for each delivery.
    pub(crate) fn new(work: Work, request_bytes: usize, delivery_bytes: usize) -> Self {
        Self {
            work,
            sending: Sending::Each,
            request_bytes,
            delivery_bytes,
            greeting: Vec::new(),
            group: Vec::new(),
        }
    }

    /// This server as arguments of this program.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let name = |value: &dyn Fn() -> Option<clap::builder::PossibleValue>| {
            value().map_or_else(String::new, |value| value.get_name().to_owned())
        };
        let mut arguments = vec![
            "serve-floor".into(),
            format!("--work={}", name(&|| self.work.to_possible_value())),
            format!("--sending={}", name(&|| self.sending.to_possible_value())),
            format!("--request-bytes={}", self.request_bytes),
            format!("--delivery-bytes={}", self.delivery_bytes),
        ];
        let steps = self.greeting.iter().map(|it| format!("--greeting={it}"));
        arguments.extend(steps);
        arguments.extend(self.group.iter().map(|it| format!("--group={it}")));
        arguments
    }

    /// Serves until killed, or until the load goes away.
    pub(crate) fn serve(&self) -> io::Result<()> {
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
            owed: Vec::new(),
            indebted: Vec::new(),
            deliveries: Vec::new(),
            uring: BatchedSends::new()?,
        };
        let mut events = Vec::with_capacity(EVENTS_PER_TURN);
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
            running.end_turn()?;
        }
    }

    /// The group of a connection, when there are so many.
    fn group_of(&self, at: usize, connections: usize) -> Range<usize> {
        let mut start = 0;
        let Some((last, others)) = self.group.split_last() else {
            return 0..connections;
        };
        for size in others {
            if at < start + size {
                return start..start + size;
            }
            start += size;
        }
        let size = (*last).max(1);
        start += (at - start) / size * size;
        start..start + size
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
                self.owed.push(0);
                self.connections.len() - 1
            });
            let data = epoll::EventData::new_u64(at as u64);
            epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN)?;
            self.connections[at] = Some(Connection {
                socket,
                greeted: 0,
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
        let mut whole = connection.partial_bytes + count;
        while let Some(step) = self.options.greeting.get(connection.greeted)
            && whole >= step.request_bytes
        {
            whole -= step.request_bytes;
            connection.greeted += 1;
            connection
                .socket
                .write_all(&vec![b'x'; step.answer_bytes])?;
        }
        if connection.greeted < self.options.greeting.len() {
            connection.partial_bytes = whole;
            return Ok(());
        }
        connection.partial_bytes = whole % self.options.request_bytes;
        let requests = whole / self.options.request_bytes;
        match self.options.work {
            _ if requests == 0 => Ok(()),
            Work::FanOut => self.fan_out(at, requests),
            Work::Relay => self.deliver(at ^ 1, requests),
            Work::Answer => self.deliver(at, requests),
        }
    }

    fn fan_out(&mut self, publisher: usize, requests: usize) -> io::Result<()> {
        let connections = self.connections.len();
        let group = self.options.group_of(publisher, connections);
        // Sends of their own are in the order of the requests.
        let (rounds, deliveries) = match self.options.sending {
            Sending::Each => (requests, 1),
            Sending::Coalesced | Sending::Uring => (1, requests),
        };
        for _ in 0..rounds {
            for at in group.clone().filter(|at| *at != publisher) {
                self.deliver(at, deliveries)?;
            }
        }
        Ok(())
    }

    /// Sends now, or at the end of the turn.
    fn deliver(&mut self, at: usize, deliveries: usize) -> io::Result<()> {
        if self.options.sending != Sending::Each {
            if self.owed[at] == 0 {
                self.indebted.push(at);
            }
            self.owed[at] += deliveries;
            return Ok(());
        }
        for _ in 0..deliveries {
            self.send(at, 1)?;
        }
        Ok(())
    }

    fn end_turn(&mut self) -> io::Result<()> {
        let mut indebted = std::mem::take(&mut self.indebted);
        if self.options.sending == Sending::Uring {
            self.send_batched(&indebted)?;
        } else {
            for at in &indebted {
                self.send(*at, self.owed[*at])?;
            }
        }
        for at in indebted.drain(..) {
            self.owed[at] = 0;
        }
        self.indebted = indebted;
        Ok(())
    }

    fn send_batched(&mut self, indebted: &[usize]) -> io::Result<()> {
        let most = indebted.iter().map(|at| self.owed[*at]).max().unwrap_or(0);
        self.make_deliveries(most);
        let sends = indebted.iter().filter_map(|at| {
            let connection = self.connections[*at].as_ref()?;
            let bytes = self.owed[*at] * self.options.delivery_bytes;
            Some((&connection.socket, &self.deliveries[..bytes]))
        });
        self.uring.send_all(sends)
    }

    fn send(&mut self, at: usize, deliveries: usize) -> io::Result<()> {
        self.make_deliveries(deliveries);
        let bytes = deliveries * self.options.delivery_bytes;
        match self.connections.get_mut(at) {
            // A full socket is an error here: the load never lets it come to that.
            Some(Some(connection)) => connection.socket.write_all(&self.deliveries[..bytes]),
            _ => Ok(()),
        }
    }

    fn make_deliveries(&mut self, count: usize) {
        let bytes = count * self.options.delivery_bytes;
        if self.deliveries.len() < bytes {
            self.deliveries.resize(bytes, b'x');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_size_of_a_group_repeats() {
        let with_groups = |group: &[usize]| FloorServer {
            group: group.to_vec(),
            ..FloorServer::new(Work::FanOut, 1, 1)
        };
        assert_eq!(with_groups(&[]).group_of(7, 12), 0..12);
        assert_eq!(with_groups(&[5]).group_of(4, 12), 0..5);
        assert_eq!(with_groups(&[5]).group_of(5, 12), 5..10);
        let wide_and_small = with_groups(&[1_001, 2]);
        assert_eq!(wide_and_small.group_of(1_000, 1_201), 0..1_001);
        assert_eq!(wide_and_small.group_of(1_001, 1_201), 1_001..1_003);
        assert_eq!(wide_and_small.group_of(1_004, 1_201), 1_003..1_005);
    }
}
