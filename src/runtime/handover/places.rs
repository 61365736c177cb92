//! Where each listener and each connection goes that was handed over.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use socket2::Socket;

use crate::ids::{ConnectionId, ConnectionRef, ShardId};
use crate::runtime::handed::Handed;
use crate::runtime::listener::Endpoint;
use crate::shard::handover::Handed as HandedState;

/// Generation of connections that get other numbers.
const FIRST_GENERATION: u32 = 1;

/// A listener of the process before.
#[derive(Debug)]
pub(in crate::runtime) struct Inherited {
    pub socket: Socket,
    /// Its address as that process was configured: the port may have been left to the system.
    pub configured: SocketAddr,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Inherited {
    /// The listener of that descriptor.
    ///
    /// # Errors
    /// It has no address.
    pub(super) fn new(fd: OwnedFd, configured: &str) -> Result<Self, String> {
        let socket = Socket::from(fd);
        let address = socket.local_addr().ok().and_then(|it| it.as_socket());
        Ok(Self {
            socket,
            configured: configured.parse().map_err(|_| "a listener's address")?,
            address: address.ok_or("a listener without an address")?,
        })
    }
}

/// Deals inherited listeners out to the endpoints of this process, at whose addresses they are
/// from now on. Returns also those that it has no endpoint for.
pub(in crate::runtime) fn matched(
    inherited: Vec<Inherited>,
    endpoints: &[Endpoint],
) -> (Vec<Handed>, Vec<Inherited>) {
    let (mut taken, mut rest) = (Vec::new(), inherited);
    for endpoint in endpoints {
        let mut its = rest.iter();
        let is_its = |it: &&Inherited| it.address == endpoint.address;
        let exact = its.clone().find(is_its);
        let found = exact.or_else(|| its.find(|it| it.configured == endpoint.address));
        let Some(address) = found.map(|it| it.address) else {
            continue;
        };
        let of_address = |it: &mut Inherited| it.address == address;
        taken.extend(rest.extract_if(.., of_address).map(|it| Handed {
            socket: it.socket,
            address: endpoint.address,
        }));
    }
    (taken, rest)
}

/// Where each connection is from now on, in the order in which they were handed over: where it
/// was, or dealt out if there are more shards or fewer.
pub(super) fn places(handed: &HandedState, before: u16, now: u16) -> Vec<ConnectionRef> {
    let count = u32::from(now);
    let place = |(number, (shard, connection)): (u32, (ShardId, ConnectionId))| {
        if before == now {
            let home = shard.into();
            return ConnectionRef { home, connection };
        }
        ConnectionRef {
            home: ShardId((number % count) as u16).into(),
            connection: ConnectionId {
                slot: number / count,
                generation: FIRST_GENERATION,
            },
        }
    };
    (0..).zip(handed.connections()).map(place).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn inherited(configured: &str) -> Inherited {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Inherited::new(OwnedFd::from(listener), configured).unwrap()
    }

    #[test]
    fn listeners_go_to_their_address_or_to_whoever_leaves_the_port_open_as_before() {
        let listeners = vec![
            inherited("127.0.0.1:0"),
            inherited("0.0.0.0:0"),
            inherited("127.0.0.1:0"),
        ];
        let exact = listeners[2].address;
        let endpoint = |address| Endpoint {
            address,
            tls: false,
        };
        let open = "127.0.0.1:0".parse().unwrap();
        let added = "127.0.0.1:1".parse().unwrap();
        let endpoints = [endpoint(exact), endpoint(added), endpoint(open)];
        let (taken, rest) = matched(listeners, &endpoints);
        let addresses: Vec<_> = taken.iter().map(|it| it.address).collect();
        assert_eq!(addresses, [exact, open]);
        assert_eq!(rest.len(), 1);
        assert_eq!(rest[0].configured, "0.0.0.0:0".parse().unwrap());
    }
}
