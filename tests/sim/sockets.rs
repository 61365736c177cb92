//! Sockets as bounded byte pipes, written to one by one or many at once.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::io::IoSlice;

use ringmesh::domain::time::Now;
use ringmesh::ids::ConnectionId;
use ringmesh::shard::flush::{Flushed, WriteBatch, Wrote};

/// What stalled clients' sockets take, in one run or another.
pub(crate) const SOCKET_BYTES_MAX: &[usize] = &[2_000, 2_000, 100];

/// Room for a handshake and little more.
const MUTE_BYTES_MAX: usize = 600;

/// One client's socket, both directions.
#[derive(Debug)]
pub(crate) struct Socket {
    /// The home shard.
    pub shard: usize,
    pub id: ConnectionId,
    pub to_server: Vec<u8>,
    pub client_ended: bool,
    /// It has ended its side only.
    pub client_reads: bool,
    pub end_told: bool,
    /// What the server wrote: when, and what.
    pub to_client: VecDeque<(u64, Vec<u8>)>,
    pub unread_bytes: usize,
    /// What it takes while the client is stalled.
    pub bytes_max: usize,
    /// Whether the client leaves what comes in its socket.
    pub stalled: bool,
    /// It is never read from, and takes next to nothing.
    pub is_mute: bool,
    pub to_read: bool,
    pub write_blocked: bool,
    /// There was no room when it was last offered something.
    pub had_no_room: bool,
    /// The server has ended the stream, or closed the socket.
    pub server_ended: bool,
    pub closed: bool,
    /// A digest of all that was ever written to it.
    pub digest: u64,
    /// Bytes of frames other than ping and pong written so far, and of the HTTP response.
    pub data_written: usize,
}

impl Socket {
    /// What the server writes, as far as there is room for it.
    pub(crate) fn take(&mut self, now_ms: u64, bytes: &[IoSlice<'_>]) -> Wrote {
        if !self.client_reads {
            // Nobody reads any more: a reset, at some point.
            return Wrote::Broken(0);
        }
        let room = match self.stalled {
            _ if self.is_mute => MUTE_BYTES_MAX.saturating_sub(self.unread_bytes),
            true => self.bytes_max.saturating_sub(self.unread_bytes),
            false => usize::MAX,
        };
        let bytes = bytes.iter().flat_map(|bytes| bytes.iter().copied());
        let bytes: Vec<u8> = bytes.take(room).collect();
        let count = bytes.len();
        if count == 0 {
            return Wrote::NoRoom;
        }
        for byte in &bytes {
            self.digest = (self.digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        }
        self.to_client.push_back((now_ms, bytes));
        self.unread_bytes += count;
        Wrote::Taken(count)
    }
}

/// Sockets that are written to at once.
pub(crate) struct Pipes<'a> {
    pub sockets: &'a mut [Socket],
    pub slots: &'a [(Option<usize>, u32)],
    pub now: Now,
    /// Of the first bytes.
    pub taken: BTreeMap<ConnectionId, usize>,
    pub outcomes: Vec<(usize, Flushed)>,
}

impl Pipes<'_> {
    fn index(&self, id: ConnectionId) -> usize {
        self.slots[id.slot as usize].0.expect("a socket")
    }
}

impl WriteBatch for Pipes<'_> {
    type Error = Infallible;

    fn send<'a>(
        &mut self,
        first: impl Iterator<Item = (ConnectionId, &'a [u8])>,
    ) -> Result<Now, Infallible> {
        for (id, bytes) in first {
            if let Wrote::Taken(count) = self.write(id, &[IoSlice::new(bytes)]) {
                self.taken.insert(id, count);
            }
        }
        Ok(self.now)
    }

    fn taken(&mut self, id: ConnectionId, _offered: usize) -> usize {
        self.taken.get(&id).copied().unwrap_or(0)
    }

    fn write(&mut self, id: ConnectionId, bytes: &[IoSlice<'_>]) -> Wrote {
        let index = self.index(id);
        self.sockets[index].take(self.now.mono_ms, bytes)
    }

    fn flushed(&mut self, id: ConnectionId, flushed: Flushed) {
        self.outcomes.push((self.index(id), flushed));
    }
}
