//! One event as words: 64 to 512 bytes, fixed fields first, then numbers and two texts.
//!
//! | word | bits |
//! |---|---|
//! | 0 | words 8, kind 8, cause 8, detail 8, code 16, bytes of the first text 8, flags 8 |
//! | 1 | nanoseconds on the monotonic clock |
//! | 2 | slot of the connection 32, its generation 32; all ones: none |
//! | 3 | app 32, key 32; all ones: none |
//! | 4, 5 | the address, as of IPv6 |
//! | 6 | count 32, bytes of the second text 16, numbers 8, errno 8 |
//! | then | the numbers, the first text and the second, each padded with zeros |
//!
//! Texts lie inline, so that a record keeps nothing alive.

use std::cell::Cell;
use std::net::{IpAddr, Ipv6Addr};

use super::author::Author;
pub use super::author::UNKNOWN;
use super::kind::{AuthorKind, By, CLAIMS, Cause, CredentialKind, Door, Kind};
use crate::ids::{AppIndex, ConnectionId, KeyIndex};
use crate::limits::{CHANNEL_NAME_BYTES_MAX, PEER_ID_BYTES_MAX};

/// Words of the fixed fields.
const FIXED_WORDS: usize = 7;
/// Words of the shortest record.
pub const RECORD_WORDS_MIN: usize = 8;
/// Words of the longest record.
pub const RECORD_WORDS_MAX: usize = 64;
/// Numbers of a record.
pub const NUMBERS_MAX: usize = 6;
const NO_INDEX: u32 = u32::MAX;

const _: () = assert!(
    FIXED_WORDS + NUMBERS_MAX + PEER_ID_BYTES_MAX / 8 + CHANNEL_NAME_BYTES_MAX / 8
        <= RECORD_WORDS_MAX,
    "every record fits"
);

/// There is an address.
const FLAG_ADDRESS: u8 = 1;
/// It stands for others that the ring of routine has one by one.
const FLAG_SUMMARY: u8 = 2;
/// Its second text is a peer.
const FLAG_TO: u8 = 4;

/// How the socket of a connection ended that was being closed already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum SocketEnd {
    /// In order.
    #[default]
    Orderly,
    /// The peer did not answer the close frame, or did not end the stream.
    CloseTimeout,
    /// It failed while it was read.
    Reset,
    /// It failed while it was written.
    WriteFailed,
}

impl SocketEnd {
    /// Returns the cause that this is of, if it is one.
    #[must_use]
    pub const fn cause(self) -> Option<Cause> {
        match self {
            Self::Orderly => None,
            Self::CloseTimeout => Some(Cause::CloseTimeout),
            Self::Reset => Some(Cause::Reset),
            Self::WriteFailed => Some(Cause::WriteFailed),
        }
    }
}

/// What only some kinds have, in eight bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Nothing.
    None,
    /// Of [`Kind::Closed`]: who ended it, and how the socket ended then.
    Closed(By, SocketEnd),
    /// Of [`Kind::Refused`] and [`Kind::Opened`]: where, what was shown, and which of
    /// [`CLAIMS`] it was about; 0 for none.
    Shown(Door, CredentialKind, u8),
    /// Of [`Kind::Kicked`], [`Kind::Rights`] and [`Kind::Admin`]: who did it.
    Done(AuthorKind),
}

impl Detail {
    const fn bits(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Closed(by, end) => by as u8 | (end as u8) << 2,
            Self::Shown(door, kind, claim) => door as u8 | (kind as u8) << 1 | claim << 3,
            // Who it was is not always known.
            Self::Done(author) => 1 + author as u8,
        }
    }

    fn of(kind: Kind, bits: u8) -> Self {
        match kind {
            Kind::Closed => {
                let by = By::of_number(bits & 3).unwrap_or(By::Server);
                let end = match bits >> 2 {
                    1 => SocketEnd::CloseTimeout,
                    2 => SocketEnd::Reset,
                    3 => SocketEnd::WriteFailed,
                    _ => SocketEnd::Orderly,
                };
                Self::Closed(by, end)
            }
            Kind::Refused | Kind::Opened => {
                let door = Door::of_number(bits & 1).unwrap_or(Door::Connect);
                let shown = CredentialKind::of_number(bits >> 1 & 3);
                Self::Shown(door, shown.unwrap_or(CredentialKind::None), bits >> 3)
            }
            Kind::Kicked | Kind::Rights | Kind::Admin => {
                let author = bits.checked_sub(1).and_then(AuthorKind::of_number);
                author.map_or(Self::None, Self::Done)
            }
            _ => Self::None,
        }
    }
}

/// An event, as whoever records it says it. What is not known is left as in [`Record::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What has happened.
    pub kind: Kind,
    /// Why.
    pub cause: Cause,
    /// What only some kinds have.
    pub detail: Detail,
    /// HTTP status or close code; 0: none.
    pub code: u16,
    /// Whose connection it is about.
    pub connection: Option<ConnectionId>,
    /// The app.
    pub app: Option<AppIndex>,
    /// The key.
    pub key: Option<KeyIndex>,
    /// The client's address.
    pub address: Option<IpAddr>,
    /// For how many it stands.
    pub count: u32,
    /// The number of the system's error; 0: none.
    pub errno: u8,
    /// It sums up what the ring of routine has one by one.
    pub is_summary: bool,
    /// The second text is a peer that something was meant for.
    pub is_to: bool,
    /// What [`Kind::numbers`] names; at most [`NUMBERS_MAX`].
    pub numbers: &'a [u64],
    /// The first text, cut at [`PEER_ID_BYTES_MAX`] bytes.
    pub first: &'a str,
    /// The second text, cut at [`CHANNEL_NAME_BYTES_MAX`] bytes.
    pub second: &'a str,
}

impl<'a> Record<'a> {
    /// A record of that kind and cause, about nobody yet.
    #[inline]
    #[must_use]
    pub const fn new(kind: Kind, cause: Cause) -> Self {
        Self {
            kind,
            cause,
            detail: Detail::None,
            code: 0,
            connection: None,
            app: None,
            key: None,
            address: None,
            count: 1,
            errno: 0,
            is_summary: false,
            is_to: false,
            numbers: &[],
            first: "",
            second: "",
        }
    }

    /// The record with who did it. The session stands among its numbers.
    #[must_use]
    pub fn by(self, author: &Author) -> Self {
        Self {
            detail: Detail::Done(author.kind),
            address: author.address,
            ..self
        }
    }

    /// Its texts as they are written, and how many words it takes.
    #[inline(always)]
    pub(super) fn measured(&self) -> Measured<'a> {
        let first = cut(self.first, PEER_ID_BYTES_MAX);
        let second = cut(self.second, CHANNEL_NAME_BYTES_MAX);
        let numbers = self.numbers.len().min(NUMBERS_MAX);
        let first_words = first.len().div_ceil(8);
        let words = FIXED_WORDS + numbers + first_words + second.len().div_ceil(8);
        Measured {
            first,
            second,
            numbers,
            words: words.max(RECORD_WORDS_MIN),
        }
    }

    /// Puts its words into their places, of which there are as many as were
    /// [`measured`](Self::measured). It becomes a part of whoever writes a record, where most of
    /// what a record says is known: half of the instructions are left.
    #[inline(always)]
    pub(super) fn write<P>(
        &self,
        measured: &Measured<'_>,
        time_ns: u64,
        places: &[P],
        put: impl Fn(&P, u64),
    ) {
        let Measured { first, second, .. } = *measured;
        let Some((fixed, rest)) = places.split_first_chunk::<FIXED_WORDS>() else {
            return;
        };
        let lengths = [measured.words, first.len(), second.len(), measured.numbers];
        for (place, word) in fixed.iter().zip(self.fixed(time_ns, lengths)) {
            put(place, word);
        }
        let Some((places, rest)) = rest.split_at_checked(measured.numbers) else {
            return;
        };
        for (number, place) in self.numbers.iter().zip(places) {
            put(place, *number);
        }
        let rest = put_text(first, rest, &put);
        let rest = put_text(second, rest, &put);
        if let Some(place) = rest.first() {
            // The shortest record has a word more than it needs.
            put(place, 0);
        }
    }

    /// The fixed fields of a record of so many words, bytes of both texts, and numbers.
    #[inline(always)]
    fn fixed(
        &self,
        time_ns: u64,
        [words, first, second, numbers]: [usize; 4],
    ) -> [u64; FIXED_WORDS] {
        let mut flags = 0;
        let (high, low) = match self.address {
            Some(address) => {
                flags |= FLAG_ADDRESS;
                halves(address)
            }
            None => (0, 0),
        };
        if self.is_summary {
            flags |= FLAG_SUMMARY;
        }
        if self.is_to {
            flags |= FLAG_TO;
        }
        let app = self.app.map_or(NO_INDEX, |it| it.0);
        let key = self.key.map_or(NO_INDEX, |it| it.0);
        [
            words as u64
                | (self.kind as u64) << 8
                | (self.cause as u64) << 16
                | u64::from(self.detail.bits()) << 24
                | u64::from(self.code) << 32
                | (first as u64) << 48
                | u64::from(flags) << 56,
            time_ns,
            self.connection.map_or(u64::MAX, |it| {
                u64::from(it.slot) | u64::from(it.generation) << 32
            }),
            u64::from(app) | u64::from(key) << 32,
            high,
            low,
            u64::from(self.count)
                | (second as u64) << 32
                | (numbers as u64) << 48
                | u64::from(self.errno) << 56,
        ]
    }

    /// Returns its words.
    #[must_use]
    pub fn to_words(&self, time_ns: u64) -> Vec<u64> {
        let measured = self.measured();
        let mut words = vec![0; measured.words];
        let places = Cell::from_mut(&mut words[..]).as_slice_of_cells();
        self.write(&measured, time_ns, places, Cell::set);
        words
    }
}

/// The text in words of eight bytes, the last one padded. Returns the places behind it.
///
/// Without loops for what is short: they take longer to set up than to run.
#[inline(always)]
pub(super) fn put_text<'p, P>(text: &[u8], places: &'p [P], put: impl Fn(&P, u64)) -> &'p [P] {
    let (mut rest, mut places) = (text, places);
    while let Some((bytes, behind)) = rest.split_first_chunk::<32>()
        && let Some((four, free)) = places.split_first_chunk::<4>()
    {
        put_words(bytes, four, &put);
        (rest, places) = (behind, free);
    }
    if let Some((bytes, behind)) = rest.split_first_chunk::<16>()
        && let Some((two, free)) = places.split_first_chunk::<2>()
    {
        put_words(bytes, two, &put);
        (rest, places) = (behind, free);
    }
    if let Some((bytes, behind)) = rest.split_first_chunk::<8>()
        && let Some((one, free)) = places.split_first_chunk::<1>()
    {
        put_words(bytes, one, &put);
        (rest, places) = (behind, free);
    }
    if !rest.is_empty()
        && let Some((last, free)) = places.split_first()
    {
        put(last, last_word(text, rest));
        places = free;
    }
    places
}

#[inline(always)]
fn put_words<P>(bytes: &[u8], places: &[P], put: impl Fn(&P, u64)) {
    let (words, _) = bytes.as_chunks::<8>();
    for (word, place) in words.iter().zip(places) {
        put(place, u64::from_le_bytes(*word));
    }
}

/// The bytes that fill no word, padded.
#[inline(always)]
fn last_word(text: &[u8], rest: &[u8]) -> u64 {
    // The end of the text is read as one word or two halves that may overlap what stands before.
    if let Some(last) = text.last_chunk::<8>() {
        return u64::from_le_bytes(*last) >> (64 - 8 * rest.len());
    }
    if let (Some(low), Some(high)) = (rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
        let high = u64::from(u32::from_le_bytes(*high));
        return u64::from(u32::from_le_bytes(*low)) | high << (8 * (rest.len() - 4));
    }
    let bytes = rest.iter().rev();
    bytes.fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// The text's bytes, at most so many, and whole characters.
#[inline(always)]
fn cut(text: &str, bytes_max: usize) -> &[u8] {
    match text.len() <= bytes_max {
        true => text.as_bytes(),
        false => shortened(text, bytes_max),
    }
}

#[cold]
fn shortened(text: &str, bytes_max: usize) -> &[u8] {
    &text.as_bytes()[..text.floor_char_boundary(bytes_max)]
}

#[inline(always)]
fn halves(address: IpAddr) -> (u64, u64) {
    let bits = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    };
    ((bits >> 64) as u64, bits as u64)
}

/// What a record's length comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured<'a> {
    first: &'a [u8],
    second: &'a [u8],
    numbers: usize,
    /// How many words the record takes.
    pub words: usize,
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// What has happened.
    pub kind: Kind,
    /// Why.
    pub cause: Cause,
    /// What only some kinds have.
    pub detail: Detail,
    /// HTTP status or close code; 0: none.
    pub code: u16,
    /// When, in nanoseconds on the monotonic clock.
    pub time_ns: u64,
    /// Whose connection it is about.
    pub connection: Option<ConnectionId>,
    /// The app.
    pub app: Option<AppIndex>,
    /// The key.
    pub key: Option<KeyIndex>,
    /// The client's address.
    pub address: Option<IpAddr>,
    /// For how many it stands.
    pub count: u32,
    /// The number of the system's error; 0: none.
    pub errno: u8,
    /// It sums up what the ring of routine has one by one.
    pub is_summary: bool,
    /// The second text is a peer that something was meant for.
    pub is_to: bool,
    numbers: [u64; NUMBERS_MAX],
    number_count: usize,
    /// Who or what it is about.
    pub first: String,
    /// A channel, or what else is said.
    pub second: String,
}

impl Read {
    /// The record that those words begin with; `None` where they are none.
    #[must_use]
    pub fn parse(words: &[u64]) -> Option<Self> {
        let head = *words.first()?;
        let words = words.get(..usize::from(head as u8))?;
        let fixed = words.get(..FIXED_WORDS)?;
        let [app, key] = [fixed[3] as u32, (fixed[3] >> 32) as u32];
        let index = |index: u32| (index != NO_INDEX).then_some(index);
        let flags = (head >> 56) as u8;
        let kind = Kind::of_number((head >> 8) as u8)?;
        let first_bytes = usize::from((head >> 48) as u8);
        let second_bytes = usize::from((fixed[6] >> 32) as u16);
        let number_count = usize::from((fixed[6] >> 48) as u8).min(NUMBERS_MAX);
        let rest = &words[FIXED_WORDS..];
        let (given, rest) = rest.split_at_checked(number_count)?;
        let mut numbers = [UNKNOWN; NUMBERS_MAX];
        numbers[..number_count].copy_from_slice(given);
        let (first, rest) = rest.split_at_checked(first_bytes.div_ceil(8))?;
        let (second, _) = rest.split_at_checked(second_bytes.div_ceil(8))?;
        let address = || {
            let bits = u128::from(fixed[4]) << 64 | u128::from(fixed[5]);
            Ipv6Addr::from_bits(bits).to_canonical()
        };
        Some(Self {
            kind,
            cause: Cause::of_number((head >> 16) as u8)?,
            detail: Detail::of(kind, (head >> 24) as u8),
            code: (head >> 32) as u16,
            time_ns: fixed[1],
            connection: (fixed[2] != u64::MAX).then_some(ConnectionId {
                slot: fixed[2] as u32,
                generation: (fixed[2] >> 32) as u32,
            }),
            app: index(app).map(AppIndex),
            key: index(key).map(KeyIndex),
            address: (flags & FLAG_ADDRESS != 0).then(address),
            count: fixed[6] as u32,
            errno: (fixed[6] >> 56) as u8,
            is_summary: flags & FLAG_SUMMARY != 0,
            is_to: flags & FLAG_TO != 0,
            numbers,
            number_count,
            first: text(first, first_bytes),
            second: text(second, second_bytes),
        })
    }

    /// Makes the words of a record those of a later one that stands for so many.
    pub(super) fn renew(words: &mut [u64], count: u32, time_ns: u64) {
        words[1] = time_ns;
        words[6] = words[6] & !u64::from(u32::MAX) | u64::from(count);
    }

    /// Returns its numbers, each with its name in the API; what is not known is left out.
    pub fn numbers(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let given = &self.numbers[..self.number_count];
        let named = self.kind.numbers().iter().copied().zip(given);
        let known = named.filter(|(_, number)| **number != UNKNOWN);
        known.map(|(name, number)| (name, *number))
    }

    /// Returns the number of that name, if it is known.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        let mut numbers = self.numbers();
        numbers
            .find(|(it, _)| *it == name)
            .map(|(_, number)| number)
    }

    /// Returns the claim that a token was refused for, if it was for one.
    #[must_use]
    pub fn claim(&self) -> Option<&'static str> {
        match self.detail {
            Detail::Shown(_, _, claim) if claim > 0 => CLAIMS.get(usize::from(claim)).copied(),
            _ => None,
        }
    }

    /// Returns how the socket ended, if that has a cause of its own.
    #[must_use]
    pub fn socket_cause(&self) -> Option<Cause> {
        match self.detail {
            Detail::Closed(_, end) => end.cause(),
            _ => None,
        }
    }
}

/// The text of so many bytes that words begin with.
pub(super) fn text(words: &[u64], bytes: usize) -> String {
    let mut text: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    text.truncate(bytes);
    String::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words_of(record: &Record<'_>, time_ns: u64) -> Vec<u64> {
        record.to_words(time_ns)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            kind in 0..Kind::ALL.len(), cause in 0..Cause::ALL.len(), code: u16, time_ns: u64,
            slot: u32, app in proptest::option::of(0..100_u32), address: u128, count: u32,
            errno: u8, numbers in proptest::collection::vec(any::<u64>(), 0..=NUMBERS_MAX),
            first in "[ -~]{0,128}", second in "\\PC{0,80}",
        ) {
            let kind = Kind::ALL[kind];
            let detail = match kind {
                Kind::Closed => Detail::Closed(By::Client, SocketEnd::WriteFailed),
                Kind::Refused | Kind::Opened => {
                    Detail::Shown(Door::Rest, CredentialKind::Token, 8)
                }
                Kind::Kicked | Kind::Rights | Kind::Admin => Detail::Done(AuthorKind::Session),
                _ => Detail::None,
            };
            let second: String = second.chars().take(60).collect();
            let record = Record {
                detail, code, count, errno,
                connection: Some(ConnectionId { slot, generation: 7 }),
                app: app.map(AppIndex),
                key: app.map(KeyIndex),
                address: Some(Ipv6Addr::from_bits(address).to_canonical()),
                numbers: &numbers,
                first: &first,
                second: &second,
                ..Record::new(kind, Cause::ALL[cause])
            };
            let words = words_of(&record, time_ns);
            prop_assert_eq!(words.len(), record.measured().words);
            prop_assert!((RECORD_WORDS_MIN..=RECORD_WORDS_MAX).contains(&words.len()));
            let read = Read::parse(&words).unwrap();
            prop_assert_eq!(read.time_ns, time_ns);
            prop_assert_eq!((read.kind, read.cause, read.detail), (kind, record.cause, detail));
            prop_assert_eq!((read.code, read.count, read.errno), (code, count, errno));
            prop_assert_eq!((read.connection, read.app), (record.connection, record.app));
            prop_assert_eq!((read.key, read.address), (record.key, record.address));
            prop_assert_eq!((&read.first, &read.second), (&first, &second));
            for (at, (name, number)) in read.numbers().enumerate() {
                prop_assert!(kind.numbers().contains(&name));
                prop_assert!(numbers[at..].contains(&number));
            }
        }

        #[test]
        fn any_words_are_a_record_or_none(words in proptest::collection::vec(any::<u64>(), 0..80)) {
            let _ = Read::parse(&words);
        }
    }

    #[test]
    fn texts_that_are_too_long_are_cut_between_characters() {
        let long = "ä".repeat(200);
        let record = Record {
            first: &long,
            second: &long,
            numbers: &[1; 9],
            ..Record::new(Kind::Closed, Cause::Reset)
        };
        let read = Read::parse(&words_of(&record, 1)).unwrap();
        assert_eq!(read.first, "ä".repeat(64));
        assert_eq!(read.second, "ä".repeat(128));
        assert_eq!(read.numbers().count(), NUMBERS_MAX);
    }
}
