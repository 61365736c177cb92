//! Listening sockets: one for each address and shard, so that the kernel spreads connects over
//! the shards and no shard hands a connection to another.
//!
//! The kernel takes the socket by a hash of the addresses. If shards follow the queues of the
//! network card, it takes the one of the core that the connect has come in on, if there is one.
//! Where the service manager has opened fewer sockets than there are shards, shards share them:
//! each connect wakes all that share, and the first of them has it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::set_socket_incoming_cpu;
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{Domain, Protocol, Socket, Type};

use crate::runtime::handed::Handed;

/// Handshakes that wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;

/// A killed predecessor's port is free only when the kernel has taken its rings down, which it
/// does after the process has ended: 0.1 s were seen. So a taken port is tried again for a second.
const PROBE_ATTEMPTS: u32 = 20;
const PROBE_PAUSE: Duration = Duration::from_millis(50);

/// Bytes that the kernel takes for a peer beyond what is on its way to it.
///
/// A socket has room again when half of it has left. By default that is a third of the send
/// buffer, which grows to megabytes: who reads 50 KB/s would be seen to read something every
/// half a minute, and all that time be taken for a peer that reads nothing. Fast peers are not
/// slowed by it, because what is on its way does not count.
const UNSENT_BYTES_MAX: libc::c_int = 64 * 1_024;

/// A public address, and what is spoken there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address; with port 0 the kernel chooses one.
    pub address: SocketAddr,
    /// Whether its connections begin with a TLS handshake.
    pub tls: bool,
}

/// A socket that listens for one shard.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    /// See [`Endpoint::tls`].
    pub tls: bool,
    /// Whoever waits there already is accepted, and nobody else.
    pub is_retired: bool,
}

impl Listener {
    /// Returns the descriptor, for the ring to watch.
    #[must_use]
    pub fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Returns a copy of the descriptor, for another process.
    ///
    /// # Errors
    /// There is no descriptor to be had.
    pub(super) fn copy(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }

    /// Takes over a socket that others may have as well.
    fn share(socket: &Socket, tls: bool) -> io::Result<Self> {
        Ok(Self {
            fd: socket.try_clone()?.into(),
            tls,
            is_retired: false,
        })
    }

    /// Has the kernel prefer this listener for connects whose packets come in on that core.
    fn prefer(&self, core: usize) -> io::Result<()> {
        let core = u32::try_from(core).map_err(io::Error::other)?;
        set_socket_incoming_cpu(&self.fd, core).map_err(Into::into)
    }

    /// Accepts a connection, if there is one. Returns its socket and the peer's address.
    ///
    /// # Errors
    /// Those of `accept4(2)`: `EAGAIN` when there is none.
    pub fn accept(&self) -> rustix::io::Result<(OwnedFd, IpAddr)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (socket, address) = acceptfrom_with(&self.fd, flags)?;
        // A peer that has already gone has none any more.
        let address = address.and_then(|any| SocketAddr::try_from(any).ok());
        let unknown = IpAddr::from([0; 4]);
        Ok((socket, address.map_or(unknown, |it| it.ip().to_canonical())))
    }
}

/// The listeners of one shard.
pub type Listeners = Vec<Listener>;

/// How listeners come about.
#[derive(Debug)]
pub(super) struct Binding<'b> {
    /// All public addresses.
    pub endpoints: &'b [Endpoint],
    /// Shards that need listeners.
    pub shard_count: u16,
    /// What the service manager has opened, each at one of those addresses.
    pub handed: Vec<Handed>,
    /// Listeners of the process before at addresses that are not configured any more.
    pub retired: Vec<Socket>,
    /// The core of each shard in turn, where connects go to the shard of the core that they come
    /// in on.
    pub cores: Option<&'b [usize]>,
}

impl Binding<'_> {
    /// Opens every endpoint for each shard, before any shard runs: a failure is one error, and
    /// port 0 becomes the same port for all. `[::]` takes IPv4 too, unless `0.0.0.0` is there
    /// with the same port.
    ///
    /// # Errors
    /// The address that could not be bound, and why.
    pub(super) fn open(mut self) -> Result<(Vec<Listeners>, Vec<Endpoint>), (Endpoint, io::Error)> {
        let mut by_shard: Vec<Listeners> = (0..self.shard_count).map(|_| Vec::new()).collect();
        let mut bound = Vec::with_capacity(self.endpoints.len());
        for endpoint in self.endpoints.iter().copied() {
            let is_here = |handed: &mut Handed| handed.address == endpoint.address;
            let handed: Vec<_> = self.handed.extract_if(.., is_here).collect();
            let opened = match handed.is_empty() {
                true => self.bind(endpoint, &mut by_shard),
                false => self.take_over(endpoint, &handed, &mut by_shard),
            };
            bound.push(opened.map_err(|error| (endpoint, error))?);
        }
        for (socket, shard) in self.retired.drain(..).zip((0..by_shard.len()).cycle()) {
            by_shard[shard].push(Listener {
                fd: socket.into(),
                tls: false,
                is_retired: true,
            });
        }
        Ok((by_shard, bound))
    }

    /// Gives each shard a socket of its own.
    fn bind(&self, endpoint: Endpoint, by_shard: &mut [Listeners]) -> io::Result<Endpoint> {
        let Endpoint { mut address, tls } = endpoint;
        let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
        let v6_only = address.port() != 0 && self.endpoints.iter().any(|it| it.address == v4);
        // Without SO_REUSEPORT first: another server's listener must be an error, also one
        // that is of the same user and shares its port.
        probe(address, v6_only)?;
        for (shard, listeners) in by_shard.iter_mut().enumerate() {
            let socket = bind(address, v6_only)?;
            if let Some(local) = socket.local_addr()?.as_socket() {
                address = local;
            }
            let fd = socket.into();
            let listener = Listener {
                fd,
                tls,
                is_retired: false,
            };
            listeners.push(self.placed(listener, shard)?);
        }
        Ok(Endpoint { address, tls })
    }

    /// Deals sockets out. Every shard gets one, and every socket gets a shard, or clients that the
    /// kernel gives to it would wait for ever.
    fn take_over(
        &self,
        endpoint: Endpoint,
        handed: &[Handed],
        by_shard: &mut [Listeners],
    ) -> io::Result<Endpoint> {
        let shards = by_shard.len();
        for Handed { socket, .. } in handed {
            prepare(socket)?;
            // The service manager's own length of the queue may be another.
            socket.listen(BACKLOG)?;
        }
        for turn in 0..handed.len().max(shards) {
            let socket = &handed[turn % handed.len()].socket;
            let mut listener = Listener::share(socket, endpoint.tls)?;
            if handed.len() >= shards {
                listener = self.placed(listener, turn % shards)?;
            }
            by_shard[turn % shards].push(listener);
        }
        // A process before this one may have let the system choose the port.
        let address = handed[0].socket.local_addr()?.as_socket();
        Ok(Endpoint {
            address: address.unwrap_or(endpoint.address),
            ..endpoint
        })
    }

    /// The listener, with its shard's core if shards follow those.
    fn placed(&self, listener: Listener, shard: usize) -> io::Result<Listener> {
        if let Some(cores) = self.cores.filter(|cores| !cores.is_empty()) {
            listener.prefer(cores[shard % cores.len()])?;
        }
        Ok(listener)
    }
}

fn probe(address: SocketAddr, v6_only: bool) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let mut attempts_left = PROBE_ATTEMPTS;
    loop {
        match open(address, v6_only)?.bind(&address.into()) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts_left > 0 => {
                attempts_left -= 1;
                thread::sleep(PROBE_PAUSE);
            }
            outcome => return outcome,
        }
    }
}

fn open(address: SocketAddr, v6_only: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(v6_only && address.ip().is_unspecified())?;
    }
    Ok(socket)
}

fn bind(address: SocketAddr, v6_only: bool) -> io::Result<Socket> {
    let socket = open(address, v6_only)?;
    socket.set_reuse_port(true)?;
    prepare(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Sets what a listener needs, and what accepted sockets inherit.
fn prepare(socket: &Socket) -> io::Result<()> {
    // Every write is a whole turn's, there is nothing to wait for.
    socket.set_tcp_nodelay(true)?;
    limit_unsent(socket)?;
    socket.set_nonblocking(true)
}

/// Limits what is not on its way yet, on accepted sockets too.
fn limit_unsent(socket: &Socket) -> io::Result<()> {
    let bytes = UNSENT_BYTES_MAX;
    // SAFETY: the option is an integer, and the pointer and length describe one that lives.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            (&raw const bytes).cast(),
            size_of_val(&bytes) as libc::socklen_t,
        )
    };
    match outcome {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
