//! What is handed over, as it is written: maps of numbered fields, in CBOR.
//!
//! A number is never used again. A field that is added is an `Option`, or has a default, so that
//! this reader takes what an earlier one has written; it skips fields that it does not know. Apps
//! and keys are named by their ids, channels by their names, all of them once, in tables that
//! records refer to. What follows from other records is not written.
//!
//! Times are milliseconds of the monotonic clock, which all processes of a machine share.

use std::net::IpAddr;
use std::sync::Arc;

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::domain::peer::{JsonName, PeerInfo, SharedPeer};

/// What a shard says of itself: the first record.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub(in crate::shard) struct HeaderRecord {
    #[n(0)]
    pub format: u32,
    #[n(1)]
    pub shard: u16,
}

/// How many records there were: the last record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(in crate::shard) struct EndRecord {
    #[n(0)]
    pub connections: u32,
    #[n(1)]
    pub memberships: u32,
    #[n(2)]
    pub channels: u32,
}

/// A key that sessions have, and its app.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub(in crate::shard) struct KeyRecord {
    #[n(0)]
    pub app: String,
    #[n(1)]
    pub id: String,
}

/// The name of a channel, and its app.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub(in crate::shard) struct NameRecord {
    #[n(0)]
    pub app: String,
    #[n(1)]
    pub name: String,
}

/// A connection. 3 and 9 are for what stands before a shard: the listener, and the transport.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub(in crate::shard) struct ConnectionRecord {
    #[n(0)]
    pub slot: u32,
    #[n(1)]
    pub generation: u32,
    #[n(2)]
    pub remote: IpAddr,
    #[n(4)]
    pub input: ByteVec,
    #[n(5)]
    pub outbox: OutboxRecord,
    #[n(6)]
    pub stage: StageRecord,
    #[n(7)]
    pub received_ms: u64,
    #[n(8)]
    pub ended_by: u16,
    /// The close code with which the end that its peer has asked for is answered.
    #[n(10)]
    pub leaves_with: Option<u16>,
    #[n(11)]
    pub stream_ended: bool,
    #[n(12)]
    pub is_unreachable: bool,
    #[n(13)]
    pub ping: PingRecord,
    /// Since when its socket has no room, and what it has taken since.
    #[n(14)]
    pub blocked: Option<(u64, u64)>,
    #[n(15)]
    pub awaited: AwaitedRecord,
    #[n(16)]
    pub has_shown_credential: bool,
    /// Its held input goes on.
    #[n(17)]
    pub resumes: bool,
    #[n(18)]
    pub account: AccountRecord,
    #[n(19)]
    pub ending: Option<EndingRecord>,
    /// Bytes that the pause has queued: they are not held against it.
    #[n(20)]
    #[cbor(default)]
    pub pardoned_bytes: u32,
    /// The key to which it owes an answer that has not been read, and bytes of that.
    #[n(21)]
    pub unread: Option<(u32, u64)>,
}

/// What waits to be written.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub(in crate::shard) struct OutboxRecord {
    /// From the first byte on that has not been written.
    #[n(0)]
    pub bytes: ByteVec,
    /// Of the frame that has begun to leave, the bytes that have not.
    #[n(1)]
    pub frame_left: u32,
    /// Bytes at the front that are no frames.
    #[n(2)]
    pub raw_left: u32,
    /// Lengths in turn: deliveries, replies, deliveries and so on. The first may be 0.
    #[n(3)]
    pub runs: Vec<u32>,
    /// Control frames that overtake, as far as they have not been written.
    #[n(4)]
    pub control: ByteVec,
    /// What follows: 0 nothing, 1 the end of the stream, 2 the close.
    #[n(5)]
    pub finish: u8,
    #[n(6)]
    pub is_untried: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
pub(in crate::shard) enum PingRecord {
    #[n(0)]
    None,
    #[n(1)]
    Queued,
    #[n(2)]
    Written(#[n(0)] u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
pub(in crate::shard) enum AwaitedRecord {
    #[n(0)]
    Since(#[n(0)] u64),
    #[n(1)]
    NotNow(#[n(0)] u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub(in crate::shard) struct AccountRecord {
    #[n(0)]
    pub bytes_in: u64,
    #[n(1)]
    pub bytes_out: u64,
    #[n(2)]
    pub opened_ms: u64,
    #[n(3)]
    pub messages_in: u32,
}

/// A session that has ended.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub(in crate::shard) struct EndingRecord {
    /// The texts of the API.
    #[n(0)]
    pub cause: String,
    #[n(1)]
    pub by: String,
    #[n(2)]
    pub code: u16,
    #[n(3)]
    pub key: Option<u32>,
    #[n(4)]
    pub peer: PeerRecord,
    #[n(5)]
    pub queued_bytes: u64,
    #[n(6)]
    pub channels: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub(in crate::shard) struct PeerRecord {
    #[n(0)]
    pub id: String,
    #[n(1)]
    pub metadata: Option<String>,
}

/// Where in its life a connection is.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub(in crate::shard) enum StageRecord {
    #[n(0)]
    Http(#[n(0)] HttpRecord),
    #[n(1)]
    Open(#[n(0)] Box<SessionRecord>),
    #[n(2)]
    Closing(#[n(0)] Option<FragmentsRecord>, #[n(1)] u64),
    #[n(3)]
    Lingering(#[n(0)] u64),
}

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub(in crate::shard) struct HttpRecord {
    #[n(0)]
    pub scanned: u32,
    #[n(1)]
    pub deadline_ms: u64,
    #[n(2)]
    pub reused: bool,
    #[n(3)]
    pub body: Option<BodyRecord>,
}

/// A request whose body is being read.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub(in crate::shard) struct BodyRecord {
    /// The head, and the content behind it.
    #[n(0)]
    pub bytes: ByteVec,
    #[n(1)]
    pub head_bytes: u32,
    #[n(2)]
    pub coding: CodingRecord,
    #[n(3)]
    pub refusal: Option<RefusalRecord>,
}

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub(in crate::shard) enum CodingRecord {
    /// So many bytes are missing.
    #[n(0)]
    Length(#[n(0)] u64),
    /// What the next byte belongs to, with two numbers; then what more may come: content, and what
    /// has come of extensions and trailers.
    #[n(1)]
    Chunked(
        #[n(0)] u8,
        #[n(1)] u64,
        #[n(2)] u8,
        #[n(3)] u64,
        #[n(4)] u32,
        #[n(5)] u32,
    ),
}

/// Why a request is refused whose body is being read.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub(in crate::shard) struct RefusalRecord {
    #[n(0)]
    pub status: u16,
    #[n(1)]
    pub code: String,
    #[n(2)]
    pub message: String,
    #[n(3)]
    pub retry_after_sec: Option<u64>,
    #[n(4)]
    pub ends_connection: bool,
}

/// An open WebSocket.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub(in crate::shard) struct SessionRecord {
    #[n(0)]
    pub key: u32,
    #[n(1)]
    pub peer: PeerRecord,
    #[n(2)]
    pub grant: Option<GrantRecord>,
    #[n(3)]
    pub fragments: Option<FragmentsRecord>,
    /// Of its message rate: what is spent, in thousandths, and as of when.
    #[n(4)]
    pub bucket: (i64, u64),
    #[n(5)]
    pub memberships: Vec<MembershipRecord>,
    #[n(6)]
    pub joining: Option<JoiningRecord>,
    #[n(7)]
    pub drain_ms: Option<u64>,
    #[n(8)]
    pub is_counted: bool,
}

/// What a token grants.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub(in crate::shard) struct GrantRecord {
    #[n(0)]
    pub patterns: Option<Vec<String>>,
    #[n(1)]
    pub actions: Option<Vec<String>>,
    #[n(2)]
    pub expires_sec: u64,
    #[n(3)]
    pub closes_ms: u64,
}

/// A message in pieces, as far as it has come.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub(in crate::shard) struct FragmentsRecord {
    #[n(0)]
    pub is_text: bool,
    #[n(1)]
    pub bytes: ByteVec,
}

/// A channel that a connection is in.
#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub(in crate::shard) struct MembershipRecord {
    #[n(0)]
    pub channel: u32,
    #[n(1)]
    pub presence: bool,
    #[n(2)]
    pub sender_metadata: bool,
}

/// Snapshots and replays that have not been written, and what waits for them.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub(in crate::shard) struct JoiningRecord {
    #[n(0)]
    pub next: u64,
    #[n(1)]
    pub snapshots: Vec<SnapshotRecord>,
    /// Direct messages, each with the first join that it does not wait for.
    #[n(2)]
    pub directs: Vec<(u64, ByteVec)>,
    #[n(3)]
    pub parked: Option<WantedRecord>,
    #[n(4)]
    pub refresh: Option<RefreshRecord>,
}

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub(in crate::shard) struct SnapshotRecord {
    #[n(0)]
    pub channel: u32,
    /// The connection waits among the members.
    #[n(1)]
    pub waits: bool,
    #[n(2)]
    pub number: u64,
    #[n(3)]
    pub sender_metadata: bool,
    /// The frames of the snapshot, if it is kept.
    #[n(4)]
    pub snapshot: Option<ByteVec>,
    #[n(5)]
    pub state: JoinRecord,
    /// What is left of the replay, in parts of whole frames.
    #[n(6)]
    pub replay: Vec<ByteVec>,
    #[n(7)]
    pub replay_count: u32,
    #[n(8)]
    pub held: ByteVec,
}

/// How far a join is. Ends are bytes of the outbox, counted from its first one.
#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
pub(in crate::shard) enum JoinRecord {
    #[n(0)]
    Acked(#[n(0)] u32),
    #[n(1)]
    Written(#[n(0)] u64),
    #[n(2)]
    ReplayDue,
    #[n(3)]
    Replaying(#[n(0)] u32),
    #[n(4)]
    Queued(#[n(0)] u32),
}

/// A `subscribe` that waits.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub(in crate::shard) struct WantedRecord {
    #[n(0)]
    pub channel: u32,
    #[n(1)]
    pub presence: bool,
    #[n(2)]
    pub sender_metadata: bool,
    #[n(3)]
    pub since: Option<SinceRecord>,
    #[n(4)]
    pub request_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub(in crate::shard) enum SinceRecord {
    #[n(0)]
    Now,
    #[n(1)]
    After(#[n(0)] Option<String>, #[n(1)] u64),
    #[n(2)]
    Last(#[n(0)] u32),
}

/// A `refresh` that waits.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub(in crate::shard) struct RefreshRecord {
    #[n(0)]
    pub token: Option<String>,
    #[n(1)]
    pub request_id: Option<String>,
}

/// A channel, by its owner. Its members follow from the connections.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub(in crate::shard) struct ChannelRecord {
    #[n(0)]
    pub channel: u32,
    /// How many members there are in all.
    #[n(1)]
    pub members: u32,
    /// For each peer with several connections here: their shards and slots, in the order in which
    /// they joined.
    #[n(2)]
    pub tabs: Vec<Vec<(u16, u32)>>,
    #[n(3)]
    pub announced_ms: u64,
    /// How many events the app's backend has been told of it.
    #[n(4)]
    pub fed: u64,
    #[n(5)]
    pub published: u64,
    #[n(6)]
    pub history: Option<HistoryRecord>,
    /// The window in which publications are counted, on a clock that goes round after 49 days: when
    /// it began, and those of the one before it and of this one.
    #[n(7)]
    #[cbor(default)]
    pub window: (u32, u32, u32),
}

/// What a channel keeps of its publications.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub(in crate::shard) struct HistoryRecord {
    #[n(0)]
    pub epoch: String,
    #[n(1)]
    pub last: u64,
    #[n(2)]
    pub senders: Vec<PeerRecord>,
    /// The oldest first.
    #[n(3)]
    pub kept: Vec<KeptRecord>,
    #[n(4)]
    pub ids: Vec<IdRecord>,
    /// Earlier epochs, and up to which number each holds.
    #[n(5)]
    pub earlier: Vec<(String, u64)>,
    #[n(6)]
    pub is_on_disk: bool,
    #[n(7)]
    pub unstored_to: u64,
    /// Until when its numbering is kept although nobody is there.
    #[n(8)]
    pub until_ms: u64,
    /// When it was used last: histories of a shard are written in this order.
    #[n(9)]
    pub used: u64,
    /// The number of the first publication that the disk has, if that is before all that is kept.
    #[n(10)]
    pub stored_from: Option<u64>,
    /// From where on publications may be in memory only, if not from the beginning.
    #[n(11)]
    pub unstored_from: Option<u64>,
}

/// A publication that is kept.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub(in crate::shard) struct KeptRecord {
    /// The frame with its number.
    #[n(0)]
    pub frame: ByteVec,
    #[n(1)]
    pub sender: u32,
    #[n(2)]
    pub unix_ms: u64,
    #[n(3)]
    pub mono_ms: i64,
}

/// The id of a publication that is remembered.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub(in crate::shard) struct IdRecord {
    #[n(0)]
    pub peer: String,
    #[n(1)]
    pub id: String,
    #[n(2)]
    pub epoch: String,
    #[n(3)]
    pub seq: u64,
    #[n(4)]
    pub at_ms: u64,
}

/// How often addresses connect, and requests are made, as far as that is limited.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
#[cbor(map)]
pub(in crate::shard) struct RatesRecord {
    /// The times of the attempts of each address, oldest first.
    #[n(0)]
    #[cbor(default)]
    pub connects: Vec<(AddressRecord, Vec<u64>)>,
    /// Of each key: what is spent, in thousandths, and as of when.
    #[n(1)]
    #[cbor(default)]
    pub keys: Vec<(String, i64, u64)>,
    /// The same of addresses.
    #[n(2)]
    #[cbor(default)]
    pub addresses: Vec<(AddressRecord, i64, u64)>,
    /// The same of addresses that have proved no key.
    #[n(3)]
    #[cbor(default)]
    pub strangers: Vec<(AddressRecord, i64, u64)>,
}

/// What counts as one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(in crate::shard) enum AddressRecord {
    #[n(0)]
    V4(#[n(0)] u32),
    /// The first 64 bits.
    #[n(1)]
    V6Network(#[n(0)] u64),
}

impl PeerRecord {
    /// The record of a peer.
    pub(in crate::shard) fn of(peer: &PeerInfo) -> Self {
        let PeerInfo { id, metadata } = peer;
        Self {
            id: id.as_str().to_owned(),
            metadata: metadata.as_deref().map(str::to_owned),
        }
    }

    /// The peer of a record.
    pub(in crate::shard) fn shared(&self) -> SharedPeer {
        Arc::new(PeerInfo {
            id: JsonName::new(&self.id),
            metadata: self.metadata.as_deref().map(Box::from),
        })
    }
}
