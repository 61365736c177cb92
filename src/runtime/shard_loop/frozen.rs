//! A shard between two processes: what it hands over while nobody is served, and how a new one
//! goes on with that before it serves anybody.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use super::net::Net;
use crate::domain::time::Now;
use crate::ids::ConnectionRef;
use crate::runtime::command::Exported;
use crate::runtime::handover::{Counts, SocketRecord};
use crate::runtime::sockets::Adopted;
use crate::shard::handover::Handed;
use crate::shard::input::Input;
use crate::shard::state::Shard;

/// What a new shard goes on with.
#[derive(Debug)]
pub(in crate::runtime) struct Adoption {
    /// What all shards of the other process have handed over.
    pub handed: Arc<Handed>,
    /// Where each of the connections is from now on.
    pub places: Arc<[ConnectionRef]>,
    /// The sockets of this shard.
    pub sockets: Vec<Adopted>,
    /// Hears what came of it.
    pub answer: flume::Sender<Result<Counts, String>>,
    /// Says since when nobody was served, on the monotonic clock, once the shard may begin.
    pub begin: flume::Receiver<u64>,
}

/// What a frozen and quiet shard hands over. It can go on all the same.
///
/// # Errors
/// Something cannot be handed over: what, and what to do.
pub(super) fn export(shard: &mut Shard, net: &Net, now: Now) -> Result<Exported, String> {
    shard.handle(Input::Usage, now);
    let usage = std::mem::take(&mut shard.effects_mut().usage);
    let exported = shard.export();
    let mut records = Vec::with_capacity(exported.connections.len());
    let mut sockets = Vec::with_capacity(exported.connections.len());
    let mut outbox_bytes = 0;
    for id in &exported.connections {
        let socket = net.sockets.get(*id).filter(|it| !it.closing);
        let socket = socket.ok_or("a connection has no socket")?;
        let record = match &socket.transport {
            None => SocketRecord::default(),
            Some(transport) => transport.record().ok_or(
                "a TLS connection is open, which cannot be handed over: end TLS in front of the \
                 server, or restart it",
            )?,
        };
        records.push(record);
        sockets.push(socket.raw());
        outbox_bytes += shard.waiting_bytes(*id) as u64;
    }
    let before = minicbor::to_vec(&records).map_err(|error| error.to_string())?;
    Ok(Exported {
        shard: shard.number(),
        state: exported.state,
        before,
        counts: Counts {
            connections: sockets.len() as u64,
            memberships: shard.subscriptions(),
            outbox_bytes,
        },
        sockets,
        usage,
    })
}

/// Goes on with what was handed over: a shard that has handled nothing. The sockets are watched,
/// and neither read nor written.
///
/// # Errors
/// What was handed over cannot be: this process is of no use then.
pub(super) fn adopt(
    shard: &mut Shard,
    net: &mut Net,
    (handed, places, sockets): (&Handed, &[ConnectionRef], Vec<Adopted>),
    now: Now,
) -> Result<Counts, String> {
    let imported = shard.import(handed, places, now);
    imported.map_err(|error| error.to_string())?;
    let watched: Vec<_> = sockets
        .iter()
        .map(|it| (it.connection, it.fd.as_raw_fd()))
        .collect();
    if !net.sockets.adopt(sockets) {
        return Err("the numbers of connections cannot be".to_owned());
    }
    let failed = |error: io::Error| format!("a socket cannot be watched: {error}");
    for (connection, fd) in &watched {
        net.ring.watch(*connection, *fd).map_err(failed)?;
    }
    let waiting = watched.iter().map(|(id, _)| shard.waiting_bytes(*id));
    Ok(Counts {
        connections: watched.len() as u64,
        memberships: shard.subscriptions(),
        outbox_bytes: waiting.sum::<usize>() as u64,
    })
}
