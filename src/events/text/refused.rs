//! The part of the table that is about credentials: why somebody is turned away.

use super::table::Table;
use crate::events::kind::Cause;

/// Why somebody was turned away.
pub(super) const REFUSED: Table = &[
    (
        Cause::ConnectRate,
        "too many connects from this address",
        "let clients wait longer between attempts, or raise limits.connects_per_address; behind a \
             proxy, name it in server.trusted_proxies",
    ),
    (
        Cause::BadUpgrade,
        "the request is no WebSocket upgrade",
        "connect with ws:// or wss:// to /v1; a proxy in between must pass Upgrade and \
             Connection on",
    ),
    (
        Cause::Draining,
        "the server was shutting down",
        "nothing: clients come back by themselves, to another node or after the restart",
    ),
    (
        Cause::Memory,
        "the process's memory is near its ceiling",
        "raise limits.memory_bytes, or lower limits.outbound_queue_bytes",
    ),
    (
        Cause::NotOneCredential,
        "no readable credential, or more than one",
        "show exactly one: ?key=pk_live_…, ?token=…, or Authorization: Bearer <token>",
    ),
    (
        Cause::UnknownKey,
        "no such key, or it was revoked",
        "compare the key with ringmesh key list; a key of another server is unknown here",
    ),
    (
        Cause::WrongKind,
        "a secret was shown where a publishable key or a token belongs",
        "clients connect with pk_live_… or a token; sk_live_… is for REST, sk_secret_… signs \
             tokens: rotate the key if it was in a client",
    ),
    (
        Cause::Origin,
        "the key does not allow this page's Origin",
        "add the page's origin to the key: ringmesh key update --origins",
    ),
    (
        Cause::TokenExpired,
        "the token has expired",
        "mint a new one: ringmesh token mint; have the backend mint one for each connect",
    ),
    (
        Cause::TokenSignature,
        "the token is not signed with a current secret of its key",
        "sign it with the key's signing secret, sk_secret_…, not with its API secret; after a \
             rotation with the new one",
    ),
    (
        Cause::TokenKid,
        "the token's header has no kid",
        "set kid to the id of the secret key, sk_id_…",
    ),
    (
        Cause::TokenAlg,
        "the token's alg is not HS256",
        "sign it with HS256",
    ),
    (
        Cause::TokenCrit,
        "the token's header has crit",
        "sign it without crit: no extension is supported",
    ),
    (
        Cause::TokenClaim,
        "a claim is missing or breaks its rule",
        "ringmesh token check says which rule",
    ),
    (
        Cause::TokenIatFuture,
        "the token was made in the future",
        "compare the clocks of the backend and of this server",
    ),
    (
        Cause::TokenNbf,
        "the token is not good yet",
        "compare the clocks, or wait until its nbf",
    ),
    (
        Cause::TokenChannels,
        "the token claims channels that its key does not have",
        "claim fewer channels, or give the key their patterns: ringmesh key update --channels",
    ),
    (
        Cause::TokenPermissions,
        "the token claims actions that its key does not have",
        "claim fewer permissions, or give the key more: ringmesh key update --actions",
    ),
    (
        Cause::TokenMalformed,
        "the token is no JWT",
        "show the whole token: three parts with dots between them, without quotes",
    ),
    (
        Cause::TokenTooLong,
        "the token is too long",
        "claim fewer channels by patterns, or less metadata",
    ),
    (
        Cause::KeyUnreadable,
        "the key's signing secret cannot be decrypted",
        "put the master key back, or rotate the key",
    ),
    (
        Cause::AppSuspended,
        "the app is suspended",
        "resume it: ringmesh app resume",
    ),
    (
        Cause::ConnectionLimit,
        "the app has as many connections as its plan allows",
        "raise the plan's maxConcurrentConnections, or allow overages: ringmesh app update",
    ),
    (
        Cause::ProxyHeader,
        "a trusted proxy sent no PROXY header that can be understood",
        "have it send one (version 1 or 2), or turn server.proxy_protocol off",
    ),
    (
        Cause::Tls,
        "no TLS handshake came about",
        "connect with wss:// to this port, with a current TLS; plain ws:// needs a plain port",
    ),
    (
        Cause::Gone,
        "the client left before its welcome",
        "look at the client's connect timeout and at the network",
    ),
];
