//! The fixed bounds that clients meet, that bound what a remote can make the process keep, and
//! that bound a turn of a shard's loop; each with its unit and where it comes from.
//!
//! Elsewhere, because they mean something in one file only: what a connection's queues may hold
//! (`shard/connection/bounds.rs`, `shard/outbound`, `shard/channel`), what the shard does of long
//! work in one turn (`shard/portions.rs`), what the loop takes from other shards and from listeners
//! in one (`runtime/shard_loop`), the admin listener's places and times (`control/admin`), and how
//! an HTTP body may be chunked (`proto/http/chunked.rs`). Configurable bounds have their defaults
//! and ranges in `config`.

// What clients meet: sizes and times of the protocol.

/// Bytes of the envelope that are taken on top of the advertised `maxMessageSize`: clients
/// measure only their `data` against it.
pub const ENVELOPE_BYTES_MAX: usize = 1_024;
/// Largest frame the server sends, in bytes of payload: published clients cap theirs at 1 MiB.
pub const SERVER_FRAME_BYTES_MAX: usize = 1_000_000;
/// Bytes of a channel name.
pub const CHANNEL_NAME_BYTES_MAX: usize = 256;
/// Bytes of a peer id (a token's `sub`).
pub const PEER_ID_BYTES_MAX: usize = 128;
/// Bytes of a `requestId`.
pub const REQUEST_ID_BYTES_MAX: usize = 128;
/// Bytes of the `id` of a publication.
pub const PUBLICATION_ID_BYTES_MAX: usize = 64;
/// Nesting levels of JSON that are accepted.
pub const JSON_DEPTH_MAX: usize = 128;
/// Bytes of a channel pattern.
pub const PATTERN_BYTES_MAX: usize = 256;
/// Patterns in a token's `channels` claim.
pub const TOKEN_PATTERNS_MAX: usize = 100;
/// Entries of a token's `permissions` claim.
pub const TOKEN_PERMISSIONS_MAX: usize = 16;
/// Bytes of a token's `metadata`, as serialized.
pub const TOKEN_METADATA_BYTES_MAX: usize = 8 * 1_024;
/// Bytes of a token's `peerMetadata`, as serialized.
pub const PEER_METADATA_BYTES_MAX: usize = 4 * 1_024;
/// Longest life of a token, in seconds.
pub const TOKEN_LIFETIME_SEC_MAX: u64 = 86_400;
/// Leeway for `nbf` and `iat`, in seconds.
pub const TOKEN_LEEWAY_SEC: u64 = 5;
/// A token connection is closed this long before its effective expiry, in milliseconds.
pub const TOKEN_EXPIRY_LEAD_MS: u64 = 250;
/// The highest rate or burst that can be set, per second or at once: more than one core can
/// handle.
pub const RATE_MAX: u32 = 1_000_000;
/// The highest number of connections or messages of a plan: nobody reaches it, and every
/// client's JSON can express it (RFC 8259, section 6).
pub const PLAN_COUNT_MAX: u64 = 1_000_000_000_000_000;
/// How long the server waits for the peer's close frame, in milliseconds.
pub const CLOSE_HANDSHAKE_MS: u64 = 2_000;
/// Bytes of a list of peers (REST): what does not fit is on the next page.
pub const PEERS_BYTES_MAX: usize = 1 << 20;
/// Peers that a request may ask for at once.
pub const PEERS_PER_PAGE_MAX: usize = 10_000;
/// Bytes of lists that the connections of one key have not read, on one shard: sixteen of the
/// largest.
pub const REST_UNREAD_BYTES_PER_KEY_MAX: usize = 16 * PEERS_BYTES_MAX;
/// When a request beyond them may be made again, in milliseconds.
pub const REST_UNREAD_RETRY_MS: u64 = 1_000;
/// Bytes of a control frame's payload (RFC 6455, section 5.5).
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;
/// Bytes of a control frame that the server sends.
pub const CONTROL_FRAME_BYTES_MAX: usize = CONTROL_PAYLOAD_BYTES_MAX + 2;
/// Bytes read from one socket at once: one buffer serves a whole shard, and what a connection
/// cannot use of a read is kept for it.
pub const READ_BYTES_MAX: usize = 64 * 1_024;
/// Bytes of a request head where the configuration gives no other number. It has room for a token
/// with all that one may hold but its longest lists of patterns.
pub const HEAD_BYTES_DEFAULT: usize = 24_576;
/// Bytes of a connect's head beside its token: the handshake's own lines, and cookies.
const CONNECT_HEAD_BYTES: usize = 2 * 1_024;

// What a remote can make the process keep, beside the queues of its own connection.

/// Addresses whose connects are counted at the same time. An attacker with more addresses than
/// this evades the limit, as one does who uses each of them only now and then.
pub const CONNECT_ADDRESSES_MAX: usize = 131_072;
/// Keys or addresses whose REST requests are counted at the same time.
pub const REQUEST_SUBJECTS_MAX: usize = 65_536;
/// TLS handshakes begun and not complete: with a fast key and clients 0.3 s away a core begins
/// about as many before the first client replies.
pub const HANDSHAKES_BEGUN_MAX: usize = 4_096;
/// Bytes of TLS input that a connection keeps because it is not whole: at most one record of a
/// little over 16 KiB, or a handshake message in several records. The largest ClientHello of a
/// browser has 2 KiB.
pub const TLS_HELD_BYTES_MAX: usize = 20 * 1_024;
/// Batches that a link between two shards holds before its sender keeps them back.
pub const LINK_BATCHES_MAX: usize = 64;
/// Bytes kept back for one link before the connections that feed it are held back too.
pub const LINK_BACKLOG_BYTES_MAX: usize = 16 * 1_024 * 1_024;

// What one turn of a shard's loop does.

/// Sockets with input that are read in one turn.
pub const READS_PER_TURN_MAX: usize = 128;
/// Bytes of input that are read in one turn.
pub const READ_BYTES_PER_TURN_MAX: usize = 256 * 1_024;
/// Sockets of peers that hung up, read in one turn: with presence each costs about 50 µs.
pub const HANG_UPS_PER_TURN_MAX: usize = 32;
/// Bytes that are read from sockets of peers that hung up, in one turn.
pub const HANG_UP_BYTES_PER_TURN_MAX: usize = 64 * 1_024;
/// Outboxes flushed in one turn: a thousand sends would hold the core for 3 ms.
pub const FLUSHES_PER_TURN_MAX: usize = 128;
/// Bytes written in one turn, beside the last write of each of its lines: about a millisecond.
pub const FLUSH_BYTES_PER_TURN_MAX: usize = 2 * 1_024 * 1_024;
/// Calls of the kernel in one turn for what has happened to sockets. From Linux 6.13 on each hands
/// out at most 20 pieces of deferred work (`IO_LOCAL_TW_DEFAULT_MAX`). What has not been handed out
/// waits in the order in which it happened, urgent or not: in a storm of 15,000 that drop at once
/// six turns know of all of them.
pub const LOOKS_PER_TURN_MAX: u32 = 128;

/// Bytes of a secret that signs with HMAC-SHA-256, at least: as many as the hash has (RFC 7518,
/// section 3.2).
pub const SIGNING_SECRET_BYTES_MIN: usize = 32;

/// Bytes of the longest token that can connect where a head may have that many.
#[must_use]
pub const fn token_bytes_max(head_bytes_max: usize) -> usize {
    let half = head_bytes_max / 2;
    let rest = head_bytes_max.saturating_sub(CONNECT_HEAD_BYTES);
    if rest > half { rest } else { half }
}

// What the process keeps for itself.

/// Descriptors that public connections leave free: those of 64 connections of the admin listener,
/// which takes more where there are more, and 32 for the store, the certificates, the configuration
/// and whatever is read in between.
const DESCRIPTORS_RESERVE: u64 = 96;
/// Where the limit is so low that the reserve would be most of it: one part in so many.
const DESCRIPTORS_RESERVE_SHARE: u64 = 4;

/// Returns how many of so many descriptors may be in use before nobody is accepted.
pub(crate) fn descriptors_used_max(limit: u64) -> u64 {
    limit - DESCRIPTORS_RESERVE.min(limit / DESCRIPTORS_RESERVE_SHARE)
}
