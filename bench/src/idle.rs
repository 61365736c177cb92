//! What an idle connection with one subscription costs in memory.
//!
//! Opens connections to a server, subscribes each to one of some channels, lets everything
//! settle, and divides what the server's resident memory and the kernel's slabs have grown by.
//! Both ends are on this machine: half of the kernel's part is the client's.

use std::fs;
use std::io;
use std::net::TcpStream;
use std::time::Duration;

use crate::machine::{resident_bytes, unreclaimable_slab_bytes};

/// Descriptors that a process has open beside its connections.
const OTHER_DESCRIPTORS: u64 = 100;
/// How long a server may take to get over the first connection.
const FIRST_SETTLE: Duration = Duration::from_millis(200);
/// And over all of them: it looks each second whether it has become quiet, over a second.
const SETTLE: Duration = Duration::from_secs(4);

/// Memory of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// How many there were.
    pub connections: u64,
    /// Bytes of the server's process (`VmRSS`).
    pub process: u64,
    /// Bytes of kernel slabs of both ends (`SUnreclaim`).
    pub kernel: u64,
}

/// How many connections to one port a process can have open with that limit on open files.
#[must_use]
pub fn connections_max(descriptors: u64) -> u64 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let ports = range.ok().and_then(|range| {
        let mut ends = range
            .split_whitespace()
            .map_while(|it| it.parse::<u64>().ok());
        let (first, last) = (ends.next()?, ends.next()?);
        Some(last.saturating_sub(first))
    });
    let by_descriptors = descriptors.saturating_sub(OTHER_DESCRIPTORS);
    by_descriptors.min(ports.unwrap_or(u64::MAX))
}

/// Measures a server with so many connections; `connect` makes one that has subscribed, by number.
///
/// # Errors
/// Those of `connect`.
pub fn measure(
    pid: u32,
    connections: usize,
    connect: impl Fn(usize) -> io::Result<TcpStream>,
) -> io::Result<Memory> {
    // What the first connections set up is not theirs.
    drop(connect(0)?);
    std::thread::sleep(FIRST_SETTLE);
    let before = (resident_bytes(pid), unreclaimable_slab_bytes());
    let sockets = (0..connections)
        .map(connect)
        .collect::<io::Result<Vec<_>>>()?;
    std::thread::sleep(SETTLE);
    let count = sockets.len().max(1) as u64;
    Ok(Memory {
        connections: count,
        process: resident_bytes(pid).saturating_sub(before.0) / count,
        kernel: unreclaimable_slab_bytes().saturating_sub(before.1) / count,
    })
}
