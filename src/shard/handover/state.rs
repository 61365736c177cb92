//! The records of one shard, one behind the other.
//!
//! Each has a kind, its length in four bytes, the last one first, and its body. A reader skips
//! kinds that it does not know. Tables grow as they are used: a key or a name stands before the
//! first record that refers to it.

use std::fmt;

use ahash::{AHashMap, RandomState};
use minicbor::{Decode, Encode};

use crate::domain::peer::SharedPeer;
use crate::ids::{ConnectionId, ShardId};
use crate::shard::handover::record::{
    ChannelRecord, ConnectionRecord, EndRecord, HeaderRecord, KeyRecord, NameRecord, PeerRecord,
    RatesRecord, StageRecord,
};

/// Counts changes that an older reader would misunderstand. Fields that are added are none.
pub const FORMAT: u32 = 1;

/// Places of one shard, used or not: above what a process may have of descriptors. A shard has a
/// table of them; all else that it has of a record grows with the bytes of that.
const SLOTS_MAX: u32 = 1 << 22;

/// The length of a record, as it is written before it.
const LENGTH_BYTES: usize = 4;

const HEADER: u8 = 1;
const KEY: u8 = 2;
const NAME: u8 = 3;
const CONNECTION: u8 = 4;
const CHANNEL: u8 = 5;
const END: u8 = 6;
const RATES: u8 = 7;

/// Why a state is not taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportError {
    /// It ends too early, or its parts do not follow each other as they should.
    Cut,
    /// It is of that format.
    Format(u32),
    /// A record cannot be read.
    Record(String),
    /// A record says what cannot be.
    Wrong(&'static str),
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut => f.write_str("the state of a shard is not complete"),
            Self::Format(format) => write!(f, "the state is of format {format}, not {FORMAT}"),
            Self::Record(error) => write!(f, "a record cannot be read: {error}"),
            Self::Wrong(what) => write!(f, "a record cannot be: {what}"),
        }
    }
}

impl std::error::Error for ImportError {}

/// What a shard would hand over is too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// Which shard it is.
    pub shard: ShardId,
    /// What it may have, in bytes.
    pub bytes_max: usize,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shard, bytes_max } = self;
        let number = shard.0;
        write!(
            f,
            "the state of shard {number} is larger than {bytes_max} bytes"
        )
    }
}

impl std::error::Error for TooLarge {}

/// Writes records, as many as there is room for.
pub(in crate::shard) struct StateWriter {
    shard: ShardId,
    bytes: Vec<u8>,
    bytes_max: usize,
    keys: AHashMap<KeyRecord, u32>,
    names: AHashMap<NameRecord, u32>,
    end: EndRecord,
}

impl StateWriter {
    pub(in crate::shard) fn new(shard: ShardId, bytes_max: usize, hasher: &RandomState) -> Self {
        let mut writer = Self {
            shard,
            bytes: Vec::new(),
            bytes_max,
            keys: AHashMap::with_hasher(hasher.clone()),
            names: AHashMap::with_hasher(hasher.clone()),
            end: EndRecord::default(),
        };
        let header = HeaderRecord {
            format: FORMAT,
            shard: shard.0,
        };
        writer.push(HEADER, &header);
        writer
    }

    #[expect(
        clippy::expect_used,
        reason = "nothing that is written to memory fails"
    )]
    fn push(&mut self, kind: u8, record: &impl Encode<()>) {
        self.bytes.push(kind);
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; LENGTH_BYTES]);
        minicbor::encode(record, &mut self.bytes).expect("a record");
        let length = (self.bytes.len() - at - LENGTH_BYTES) as u32;
        self.bytes[at..at + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
    }

    /// The number of a key in its table.
    pub(in crate::shard) fn key(&mut self, app: &str, id: &str) -> u32 {
        let key = KeyRecord {
            app: app.to_owned(),
            id: id.to_owned(),
        };
        if let Some(number) = self.keys.get(&key) {
            return *number;
        }
        self.push(KEY, &key);
        let number = self.keys.len() as u32;
        self.keys.insert(key, number);
        number
    }

    /// The number of a channel's name in its table.
    pub(in crate::shard) fn name(&mut self, app: &str, name: &str) -> u32 {
        let name = NameRecord {
            app: app.to_owned(),
            name: name.to_owned(),
        };
        if let Some(number) = self.names.get(&name) {
            return *number;
        }
        self.push(NAME, &name);
        let number = self.names.len() as u32;
        self.names.insert(name, number);
        number
    }

    pub(in crate::shard) fn connection(&mut self, connection: &ConnectionRecord) {
        self.push(CONNECTION, connection);
        self.end.connections += 1;
        if let StageRecord::Open(session) = &connection.stage {
            self.end.memberships += session.memberships.len() as u32;
        }
    }

    pub(in crate::shard) fn rates(&mut self, rates: &RatesRecord) {
        self.push(RATES, rates);
    }

    pub(in crate::shard) fn channel(&mut self, channel: &ChannelRecord) {
        self.push(CHANNEL, channel);
        self.end.channels += 1;
    }

    /// Whether there is room for more.
    pub(in crate::shard) fn check(&self) -> Result<(), TooLarge> {
        let Self {
            shard, bytes_max, ..
        } = *self;
        match self.bytes.len() > bytes_max {
            true => Err(TooLarge { shard, bytes_max }),
            false => Ok(()),
        }
    }

    /// All of it.
    pub(in crate::shard) fn finish(mut self) -> Result<Vec<u8>, TooLarge> {
        let end = self.end;
        self.push(END, &end);
        self.check()?;
        Ok(self.bytes)
    }
}

/// What all shards of a process have handed over, as it was read. The records are in the order of
/// the shards.
#[derive(Debug, Default)]
pub struct Handed {
    pub(in crate::shard) shards: Vec<HandedShard>,
}

/// What one of them has.
#[derive(Debug)]
pub(in crate::shard) struct HandedShard {
    pub shard: ShardId,
    pub keys: Vec<KeyRecord>,
    pub names: Vec<NameRecord>,
    pub connections: Vec<HandedConnection>,
    pub channels: Vec<ChannelRecord>,
    pub rates: RatesRecord,
}

/// A connection with its peer, if it is open.
#[derive(Debug)]
pub(in crate::shard) struct HandedConnection {
    pub record: ConnectionRecord,
    pub peer: Option<SharedPeer>,
}

impl Handed {
    /// Reads what the shards of a process have written.
    ///
    /// # Errors
    /// One of them cannot be read, or is not complete.
    pub fn read(states: &[impl AsRef<[u8]>]) -> Result<Self, ImportError> {
        let shards = states.iter().map(|state| HandedShard::read(state.as_ref()));
        let shards = shards.collect::<Result<_, _>>()?;
        Ok(Self { shards })
    }

    /// All connections, by the shards and the numbers that they had.
    pub fn connections(&self) -> impl Iterator<Item = (ShardId, ConnectionId)> {
        self.shards.iter().flat_map(|shard| {
            let connections = shard.connections.iter();
            connections.map(|it| (shard.shard, it.id()))
        })
    }
}

impl HandedConnection {
    /// The number that it had.
    pub(in crate::shard) fn id(&self) -> ConnectionId {
        ConnectionId {
            slot: self.record.slot,
            generation: self.record.generation,
        }
    }
}

fn decode<'b, T: Decode<'b, ()>>(body: &'b [u8]) -> Result<T, ImportError> {
    minicbor::decode(body).map_err(|error| ImportError::Record(error.to_string()))
}

/// Takes one record from the front: its kind and its body.
fn take<'b>(bytes: &mut &'b [u8]) -> Result<(u8, &'b [u8]), ImportError> {
    let (kind, rest) = bytes.split_first().ok_or(ImportError::Cut)?;
    let (length, rest) = rest.split_first_chunk().ok_or(ImportError::Cut)?;
    let length = u32::from_le_bytes(*length) as usize;
    let (body, rest) = rest.split_at_checked(length).ok_or(ImportError::Cut)?;
    *bytes = rest;
    Ok((*kind, body))
}

impl HandedShard {
    fn read(mut bytes: &[u8]) -> Result<Self, ImportError> {
        let (HEADER, body) = take(&mut bytes)? else {
            return Err(ImportError::Cut);
        };
        let header: HeaderRecord = decode(body)?;
        if header.format != FORMAT {
            return Err(ImportError::Format(header.format));
        }
        let mut shard = Self {
            shard: ShardId(header.shard),
            keys: Vec::new(),
            names: Vec::new(),
            connections: Vec::new(),
            channels: Vec::new(),
            rates: RatesRecord::default(),
        };
        loop {
            let (kind, body) = take(&mut bytes)?;
            match kind {
                KEY => shard.keys.push(decode(body)?),
                NAME => shard.names.push(decode(body)?),
                CONNECTION => shard.connections.push(HandedConnection::read(body)?),
                CHANNEL => shard.channels.push(decode(body)?),
                RATES => shard.rates = decode(body)?,
                END => break shard.check(decode(body)?, bytes)?,
                HEADER => return Err(ImportError::Cut),
                _ => {}
            }
        }
        Ok(shard)
    }

    /// Checks that all records are there.
    fn check(&self, end: EndRecord, behind: &[u8]) -> Result<(), ImportError> {
        let sessions = self.connections.iter().map(|it| match &it.record.stage {
            StageRecord::Open(session) => session.memberships.len() as u32,
            _ => 0,
        });
        let found = EndRecord {
            connections: self.connections.len() as u32,
            memberships: sessions.sum(),
            channels: self.channels.len() as u32,
        };
        match found == end && behind.is_empty() {
            true => Ok(()),
            false => Err(ImportError::Cut),
        }
    }
}

impl HandedConnection {
    fn read(body: &[u8]) -> Result<Self, ImportError> {
        let record: ConnectionRecord = decode(body)?;
        if record.slot >= SLOTS_MAX {
            return Err(ImportError::Wrong("a place that no shard has"));
        }
        let peer = match &record.stage {
            StageRecord::Open(session) => Some(PeerRecord::shared(&session.peer)),
            _ => None,
        };
        Ok(Self { record, peer })
    }
}
