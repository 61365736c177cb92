//! Every record is read as it was written, with fields that this release does not know, and without
//! those that an earlier one has not written.

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use minicbor::bytes::ByteVec;
use minicbor::data::Type;
use minicbor::{Decode, Decoder, Encode, Encoder};
use proptest::prelude::*;

use super::record::*;

/// Bytes of which records are made; behind the last one there are zeroes.
struct Draw<'b>(&'b [u8]);

/// What can be made of them.
trait Drawn {
    fn drawn(from: &mut Draw<'_>) -> Self;
}

impl Draw<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn draw<T: Drawn>(&mut self) -> T {
        T::drawn(self)
    }
}

/// Small numbers, large ones, and the largest.
impl Drawn for u64 {
    fn drawn(from: &mut Draw<'_>) -> Self {
        match from.byte() {
            byte @ 0..200 => byte.into(),
            200..250 => Self::from_le_bytes(std::array::from_fn(|_| from.byte())),
            _ => Self::MAX,
        }
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {
        $(impl Drawn for $number {
            fn drawn(from: &mut Draw<'_>) -> Self {
                from.draw::<u64>() as Self
            }
        })*
    };
}
numbers!(u8, u16, u32, i64);

impl Drawn for bool {
    fn drawn(from: &mut Draw<'_>) -> Self {
        from.byte() % 2 == 1
    }
}

impl Drawn for String {
    fn drawn(from: &mut Draw<'_>) -> Self {
        let characters = ['a', '"', '\0', 'ü', '€', '😀'];
        let count = from.byte() % 9;
        let character = |_| characters[usize::from(from.byte()) % characters.len()];
        (0..count).map(character).collect()
    }
}

impl Drawn for ByteVec {
    fn drawn(from: &mut Draw<'_>) -> Self {
        let count = from.byte() % 30;
        Vec::from_iter((0..count).map(|_| from.byte())).into()
    }
}

impl Drawn for IpAddr {
    fn drawn(from: &mut Draw<'_>) -> Self {
        match from.draw() {
            true => Ipv4Addr::from_bits(from.draw()).into(),
            false => Ipv6Addr::from_bits(u128::from(from.draw::<u64>()) << 50).into(),
        }
    }
}

impl<T: Drawn> Drawn for Option<T> {
    fn drawn(from: &mut Draw<'_>) -> Self {
        from.draw::<bool>().then(|| from.draw())
    }
}

impl<T: Drawn> Drawn for Vec<T> {
    fn drawn(from: &mut Draw<'_>) -> Self {
        let count = from.byte() % 4;
        (0..count).map(|_| from.draw()).collect()
    }
}

impl<T: Drawn> Drawn for Box<T> {
    fn drawn(from: &mut Draw<'_>) -> Self {
        Box::new(from.draw())
    }
}

impl<A: Drawn, B: Drawn> Drawn for (A, B) {
    fn drawn(from: &mut Draw<'_>) -> Self {
        (from.draw(), from.draw())
    }
}

impl<A: Drawn, B: Drawn, C: Drawn> Drawn for (A, B, C) {
    fn drawn(from: &mut Draw<'_>) -> Self {
        (from.draw(), from.draw(), from.draw())
    }
}

/// A record is missing here as long as one of its fields is.
macro_rules! records {
    ($($record:ident { $($field:ident),* $(,)? })*) => {
        $(impl Drawn for $record {
            fn drawn(from: &mut Draw<'_>) -> Self {
                Self { $($field: from.draw()),* }
            }
        })*

        fn check_all(bytes: &[u8]) {
            $(check::<$record>(bytes);)*
        }
    };
}

/// Which number draws which variant.
macro_rules! variants {
    ($($record:ident { $($at:pat => $variant:ident $(($($field:ident),*))?),* $(,)? })*) => {
        $(impl Drawn for $record {
            fn drawn(from: &mut Draw<'_>) -> Self {
                let kind = from.byte() % 8;
                match kind {
                    $($at => {
                        $($(let $field = from.draw();)*)?
                        Self::$variant $(($($field),*))?
                    })*
                }
            }
        })*

        fn check_variants(bytes: &[u8]) {
            $(check::<$record>(bytes);)*
        }
    };
}

records! {
    HeaderRecord { format, shard }
    EndRecord { connections, memberships, channels }
    KeyRecord { app, id }
    NameRecord { app, name }
    ConnectionRecord {
        slot, generation, remote, input, outbox, stage, received_ms, ended_by, leaves_with,
        stream_ended, is_unreachable, ping, blocked, awaited, has_shown_credential, resumes,
        account, ending, pardoned_bytes, unread,
    }
    OutboxRecord { bytes, frame_left, raw_left, runs, control, finish, is_untried }
    AccountRecord { bytes_in, bytes_out, opened_ms, messages_in }
    EndingRecord { cause, by, code, key, peer, queued_bytes, channels }
    PeerRecord { id, metadata }
    HttpRecord { scanned, deadline_ms, reused, body }
    BodyRecord { bytes, head_bytes, coding, refusal }
    RefusalRecord { status, code, message, retry_after_sec, ends_connection }
    SessionRecord {
        key, peer, grant, fragments, bucket, memberships, joining, drain_ms, is_counted,
    }
    GrantRecord { patterns, actions, expires_sec, closes_ms }
    FragmentsRecord { is_text, bytes }
    MembershipRecord { channel, presence, sender_metadata }
    JoiningRecord { next, snapshots, directs, parked, refresh }
    SnapshotRecord {
        channel, waits, number, sender_metadata, snapshot, state, replay, replay_count, held,
    }
    WantedRecord { channel, presence, sender_metadata, since, request_id }
    RefreshRecord { token, request_id }
    ChannelRecord { channel, members, tabs, announced_ms, fed, published, history, window }
    HistoryRecord {
        epoch, last, senders, kept, ids, earlier, is_on_disk, unstored_to, until_ms, used,
        stored_from, unstored_from,
    }
    KeptRecord { frame, sender, unix_ms, mono_ms }
    IdRecord { peer, id, epoch, seq, at_ms }
    RatesRecord { connects, keys, addresses, strangers }
}

variants! {
    PingRecord { 0..3 => None, 3..6 => Queued, _ => Written(at_ms) }
    AwaitedRecord { 0..4 => Since(since_ms), _ => NotNow(left_ms) }
    StageRecord {
        0..2 => Http(http),
        2..5 => Open(session),
        5 | 6 => Closing(fragments, until_ms),
        _ => Lingering(until_ms),
    }
    CodingRecord {
        0..4 => Length(left),
        _ => Chunked(next, size, digits, allowance, extensions, trailers),
    }
    JoinRecord {
        0 | 1 => Acked(end),
        2 | 3 => Written(from_ms),
        4 => ReplayDue,
        5 => Replaying(end),
        _ => Queued(end),
    }
    SinceRecord { 0..3 => Now, 3..6 => After(epoch, seq), _ => Last(count) }
    AddressRecord { 0..4 => V4(bits), _ => V6Network(bits) }
}

/// The fields of a record, each as it is written; `None` if it is no map.
fn fields(encoded: &[u8]) -> Option<Vec<(u64, &[u8])>> {
    let mut decoder = Decoder::new(encoded);
    if decoder.datatype().unwrap() != Type::Map {
        return None;
    }
    let count = decoder.map().unwrap().unwrap();
    let field = |_| {
        let number = decoder.u64().unwrap();
        let from = decoder.position();
        decoder.skip().unwrap();
        (number, &encoded[from..decoder.position()])
    };
    Some((0..count).map(field).collect())
}

fn map_of(fields: &[(u64, &[u8])]) -> Vec<u8> {
    let mut encoded = Vec::new();
    Encoder::new(&mut encoded).map(fields.len() as u64).unwrap();
    for (number, value) in fields {
        Encoder::new(&mut encoded).u64(*number).unwrap();
        encoded.extend_from_slice(value);
    }
    encoded
}

/// What a later release may write into a field that this one does not know.
fn unknown_value(kind: u8) -> Vec<u8> {
    let mut value = Vec::new();
    let mut encoder = Encoder::new(&mut value);
    match kind % 4 {
        0 => encoder.u64(u64::MAX),
        1 => encoder.bytes(b"later"),
        2 => encoder
            .array(2)
            .and_then(|it| it.str("x")?.map(1)?.u8(0)?.bool(true)),
        _ => encoder
            .tag(minicbor::data::Tag::new(7))
            .and_then(|it| it.f64(0.5)),
    }
    .unwrap();
    value
}

fn check<T>(bytes: &[u8])
where
    T: Drawn + Debug + PartialEq + Encode<()> + for<'b> Decode<'b, ()>,
{
    let original: T = Draw(bytes).draw();
    let encoded = minicbor::to_vec(&original).unwrap();
    let decode = |encoded: &[u8]| minicbor::decode::<T>(encoded);
    assert_eq!(decode(&encoded).unwrap(), original);
    for end in 0..encoded.len() {
        assert!(
            decode(&encoded[..end]).is_err(),
            "{original:?} cut at {end}"
        );
    }
    let Some(known) = fields(&encoded) else {
        return;
    };
    let unknown = unknown_value(bytes.len() as u8);
    let mut more = known.clone();
    more.insert(bytes.len() % (known.len() + 1), (1_000, &unknown));
    assert_eq!(
        decode(&map_of(&more)).unwrap(),
        original,
        "with another field"
    );
    for at in 0..known.len() {
        let mut fewer = known.clone();
        let (left_out, _) = fewer.remove(at);
        let Ok(filled) = decode(&map_of(&fewer)) else {
            continue;
        };
        let filled = minicbor::to_vec(&filled).unwrap();
        let mut filled = fields(&filled).unwrap();
        filled.retain(|(number, _)| *number != left_out);
        assert_eq!(filled, fewer, "without field {left_out} of {original:?}");
    }
}

/// Without these fields, which are newer than the first format, a record is read all the same.
#[test]
fn what_the_first_format_lacks_is_filled() {
    let bytes: Vec<u8> = (0..2_000).map(|at| (at * 7 % 251) as u8).collect();
    let connection: ConnectionRecord = Draw(&bytes).draw();
    let channel: ChannelRecord = Draw(&bytes).draw();
    let connection = minicbor::to_vec(connection).unwrap();
    let channel = minicbor::to_vec(channel).unwrap();
    let older = |encoded: &[u8], newer: &[u64]| {
        let mut fields = fields(encoded).unwrap();
        fields.retain(|(number, _)| !newer.contains(number));
        map_of(&fields)
    };
    let connection: ConnectionRecord = minicbor::decode(&older(&connection, &[20, 21])).unwrap();
    assert_eq!((connection.pardoned_bytes, connection.unread), (0, None));
    let channel: ChannelRecord = minicbor::decode(&older(&channel, &[7])).unwrap();
    assert_eq!(channel.window, (0, 0, 0));
    let rates: RatesRecord = minicbor::decode(&map_of(&[])).unwrap();
    assert_eq!(rates, RatesRecord::default());
}

proptest! {
    #[test]
    fn every_record_is_read_as_it_was_written(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        check_all(&bytes);
        check_variants(&bytes);
    }
}
