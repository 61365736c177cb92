//! The table: for each kind and cause what is said of it, and what to do.

use crate::events::kind::Cause;

/// Of one kind: the cause, what is said, and the remedy; empty where there is nothing to be done.
pub(super) type Table = &'static [(Cause, &'static str, &'static str)];

/// Why a connection ended.
pub(super) const CLOSED: Table = &[
    (
        Cause::ClientClose,
        "the client said goodbye",
        "nothing, if the client wanted to leave",
    ),
    (
        Cause::ClientGone,
        "the connection ended without a close frame",
        "a closed tab or a killed process ends so; if it was none, look at the network and at \
             proxies",
    ),
    (
        Cause::Reset,
        "the network reset the connection",
        "look at the network, at proxies and their timeouts, and at the client's crash log",
    ),
    (
        Cause::WriteFailed,
        "writing to the connection failed",
        "look at the network, and at proxies and their timeouts",
    ),
    (
        Cause::PingTimeout,
        "nothing came from the client after a ping",
        "the network or the client is gone without a word; limits.ping_after_ms and \
             limits.drop_after_ms say how long that takes",
    ),
    (
        Cause::CloseTimeout,
        "the client did not answer the close frame",
        "nothing: the connection was cut; the client's library does not answer close frames, \
             or is gone",
    ),
    (
        Cause::ProtocolError,
        "the client broke RFC 6455",
        "use a WebSocket library; a proxy that changes frames looks the same",
    ),
    (
        Cause::Binary,
        "the client sent a binary message",
        "send text: messages are JSON",
    ),
    (
        Cause::BadUtf8,
        "the client sent text that is not UTF-8",
        "send UTF-8",
    ),
    (
        Cause::TooBig,
        "a message was larger than maxMessageSize",
        "send less at once, or raise limits.message_bytes",
    ),
    (
        Cause::SlowConsumer,
        "took too little of what it was sent",
        "raise limits.outbound_queue_bytes, or publish less to its channels; the client's \
             network or its handler is too slow",
    ),
    (
        Cause::Memory,
        "most waited for this client when memory ran out",
        "raise limits.memory_bytes, or lower limits.outbound_queue_bytes",
    ),
    (
        Cause::MessageRate,
        "more messages than the rate allows",
        "send less often, or raise limits.message_rate and message_burst, or the app's own \
             (ringmesh app update)",
    ),
    (
        Cause::TokenExpired,
        "its token has expired",
        "mint a new token and connect again; clients with a token provider do so by themselves",
    ),
    (
        Cause::KeyRevoked,
        "its key was revoked",
        "connect with another key: ringmesh key list",
    ),
    (
        Cause::AppDeleted,
        "its app was deleted",
        "connect to another app",
    ),
    (
        Cause::AppSuspended,
        "its app is suspended",
        "resume it: ringmesh app resume",
    ),
    (
        Cause::Kicked,
        "a backend or an operator disconnected this peer",
        "the event kicked before it says by whom; the client stays away until its user asks \
             again",
    ),
    (
        Cause::Drain,
        "the server is shutting down",
        "nothing: clients come back by themselves",
    ),
    (
        Cause::Shutdown,
        "the server has ended",
        "nothing: clients come back by themselves",
    ),
    (
        Cause::Tls,
        "TLS broke",
        "look at the client's TLS library and at proxies in between",
    ),
    (
        Cause::ShardSilent,
        "another shard did not answer in time",
        "look at the load of all shards: ringmesh stats",
    ),
];

/// Why a command was refused.
pub(super) const ERROR: Table = &[
    (
        Cause::MalformedMessage,
        "not a JSON object with a string 'type'",
        "compare the message with the protocol's document",
    ),
    (
        Cause::UnknownType,
        "the type is no command",
        "compare the message with the protocol's document; look for a misspelling",
    ),
    (
        Cause::InvalidChannel,
        "no channel name",
        "channels have 1 to 256 bytes of printable characters",
    ),
    (
        Cause::InvalidPeerId,
        "no peer id",
        "a peer id has 1 to 128 printable ASCII characters",
    ),
    (
        Cause::ChannelReserved,
        "the channel is kept for the server",
        "choose a name with another beginning",
    ),
    (
        Cause::MissingData,
        "there is no data",
        "give publish and send a field data",
    ),
    (
        Cause::ActionNotPermitted,
        "the credential does not allow this action",
        "give the key the action (ringmesh key update --actions), and the token in its \
             permissions",
    ),
    (
        Cause::InvalidToken,
        "there is no token",
        "give refresh a field token, a string",
    ),
    (
        Cause::PeerMismatch,
        "the token is another peer's, or another app's",
        "mint it for the peer and the app of the connection; another peer connects anew",
    ),
    (
        Cause::ChannelNotAuthorized,
        "the credential does not allow this channel",
        "give the key a pattern (ringmesh key update --channels), and the token in its \
             channels",
    ),
    (
        Cause::ChannelLimitExceeded,
        "one more channel than a connection may be in",
        "unsubscribe from others, or raise limits.channels_per_connection",
    ),
    (
        Cause::OverMessageQuota,
        "the app has used up its messages of the period",
        "raise the plan's maxMessagesPerPeriod, or allow overages: ringmesh app update",
    ),
    (
        Cause::PeerNotFound,
        "no connection of the app is this peer",
        "nothing, if it has just left; else compare the peer ids",
    ),
    (
        Cause::BackendError,
        "another shard could not take it",
        "try again; look at the load of all shards: ringmesh stats",
    ),
    (Cause::InternalError, "a fault of the server", "report it"),
];

/// Messages of somebody who is traced.
pub(super) const TRACED: Table = &[
    (Cause::Published, "published", ""),
    (Cause::Sent, "sent a direct message", ""),
];

/// Why input was held back.
pub(super) const HELD: Table = &[
    (
        Cause::Replies,
        "its answers were not read, or not there yet",
        "let the client read while it sends",
    ),
    (
        Cause::Link,
        "a link between shards was full",
        "look at the load of all shards: ringmesh stats",
    ),
    (
        Cause::Joins,
        "a subscribe waited for the one before it",
        "nothing: the client subscribed twice in quick succession",
    ),
    (
        Cause::Members,
        "the channel's members take less than is published",
        "publish less often, or look for slow members",
    ),
];

/// What somebody should look at.
pub(super) const WARNING: Table = &[
    (
        Cause::ForwardedForUntrusted,
        "somebody names clients in X-Forwarded-For and is not in server.trusted_proxies: all \
             of them count as one address and share one connect limit",
        "if it is your proxy, name it in server.trusted_proxies",
    ),
    (
        Cause::ProxyHeaderMissing,
        "connections of a trusted proxy come without a PROXY header",
        "have it send one (version 1 or 2), or turn server.proxy_protocol off",
    ),
    (
        Cause::CertificateExpires,
        "the certificate ends soon",
        "renew it; a renewed file is taken up by itself",
    ),
    (
        Cause::CertificateRefused,
        "a changed certificate cannot be used; the old one stays",
        "put certificate and key that belong together in place",
    ),
    (
        Cause::AdminExposed,
        "the admin listener can be reached from other hosts",
        "set admin.listen to 127.0.0.1, or keep strangers out with a firewall",
    ),
    (
        Cause::DescriptorsLow,
        "few file descriptors are left for connections",
        "raise LimitNOFILE or `ulimit -n`",
    ),
    (
        Cause::AcceptPaused,
        "connections were not accepted for a while",
        "the events of kind accept say why; raise LimitNOFILE, limits.memory_bytes or \
             limits.unauthenticated_connections",
    ),
    (
        Cause::LinkOverLimit,
        "a shard is sent more than it can take",
        "look at the load of all shards: ringmesh stats; more shards, or fewer large channels",
    ),
    (
        Cause::ShardLag,
        "a shard's turns take more than 20 ms",
        "look at the load of all shards, and for another program on their cores",
    ),
    (
        Cause::SlowConsumers,
        "connections are closed because they take too little of what they are sent",
        "ringmesh events --cause slow_consumer says whose; raise limits.outbound_queue_bytes, \
             or publish less",
    ),
    (
        Cause::QuotaNear,
        "an app has used four fifths of a limit of its plan, or all, or more",
        "ringmesh events --kind quota says which; raise the plan: ringmesh app update",
    ),
    (
        Cause::EventsShort,
        "what is kept of ends reaches back less than a minute",
        "raise events.memory_per_shard",
    ),
    (
        Cause::ClockStepped,
        "the wall clock has jumped",
        "let NTP run; tokens and periods go by that clock",
    ),
    (
        Cause::ReloadNeedsRestart,
        "settings were changed that need a restart",
        "restart the server; the log of the reload names them",
    ),
    (
        Cause::TokenShort,
        "the admin token is easy to guess",
        "remove its file and restart: a long one is made",
    ),
    (
        Cause::StoreFailed,
        "the store cannot be written",
        "look at the disk; what is failing stands in the log",
    ),
    (
        Cause::BareKeyIdAccepted,
        "a key id alone passes for a REST credential",
        "have backends send the API secret, then turn rest.accept_bare_key_id off",
    ),
    (
        Cause::ExplainOn,
        "everybody is told why a credential is not good",
        "turn auth.explain off outside of development",
    ),
];

/// Kinds whose name says it all.
pub(super) const OPENED: Table = &[
    (Cause::None, "connected", ""),
    (
        Cause::HandedOver,
        "was connected, and goes on in this process",
        "",
    ),
];
pub(super) const SUBSCRIBED: Table = &[(Cause::None, "subscribed", "")];
pub(super) const UNSUBSCRIBED: Table = &[
    (Cause::None, "unsubscribed", ""),
    (
        Cause::Refresh,
        "has shown a token without this channel and was unsubscribed",
        "claim the channel in the token, if the peer is to stay",
    ),
];
pub(super) const REFRESHED: Table = &[(Cause::None, "goes on with another token", "")];
pub(super) const KICKED: Table = &[
    (Cause::None, "kicked", ""),
    (
        Cause::PeerNotFound,
        "found nobody connected",
        "nothing: nobody was closed; ringmesh why PEER says when the peer left",
    ),
];
pub(super) const SLOW: Table = &[(
    Cause::None,
    "takes too little of what it is sent",
    "raise limits.outbound_queue_bytes, or publish less to its channels",
)];

/// How much of a plan is used.
pub(super) const QUOTA: Table = &[
    (
        Cause::QuotaNear,
        "four fifths of what the plan allows are used",
        "raise the plan: ringmesh app update",
    ),
    (
        Cause::QuotaReached,
        "all that the plan allows is used",
        "raise the plan, or allow overages: ringmesh app update",
    ),
];

/// What became of an app or a key.
pub(super) const RIGHTS: Table = &[
    (Cause::Created, "made", ""),
    (Cause::Changed, "changed", ""),
    (
        Cause::Rotated,
        "rotated",
        "sign and call with the new secrets",
    ),
    (Cause::Revoked, "revoked", ""),
    (Cause::Deleted, "deleted", ""),
    (Cause::Declared, "declared apps were read again", ""),
];

/// What operators did.
pub(super) const ADMIN: Table = &[
    (Cause::TokenMinted, "an operator had a token signed", ""),
    (
        Cause::TokenInspected,
        "an operator had a token inspected",
        "",
    ),
    (
        Cause::SignInRefused,
        "a wrong admin token was shown",
        "the right one stands in admin.token_file",
    ),
    (Cause::SignIn, "a browser has signed in to the console", ""),
    (Cause::Reload, "the configuration was read again", ""),
    (
        Cause::ReloadFailed,
        "the configuration could not be read again: the old one stays",
        "correct the file and reload again; the log says where",
    ),
    (
        Cause::Trace,
        "an operator traces somebody's messages, or no longer",
        "",
    ),
    (
        Cause::HistoryForgotten,
        "an operator had a channel's history forgotten",
        "",
    ),
    (
        Cause::Backup,
        "a backup of apps and keys was taken",
        "if that was not you, change the admin token: its secrets are encrypted",
    ),
];

/// What became of certificates.
pub(super) const CERTIFICATE: Table = &[
    (Cause::TakenUp, "a certificate is in use from now on", ""),
    (
        Cause::CertificateRefused,
        "a changed certificate cannot be used; the old one stays",
        "put certificate and key that belong together in place",
    ),
    (
        Cause::CertificateExpires,
        "the certificate ends soon",
        "renew it; a renewed file is taken up by itself",
    ),
];

/// Links between shards.
pub(super) const LINK: Table = &[
    (
        Cause::OverLimit,
        "a link between shards is over its limit",
        "look at the load of all shards: ringmesh stats",
    ),
    (
        Cause::UnderLimit,
        "a link between shards is under its limit again",
        "",
    ),
];

/// Why nobody is accepted, and who gave way.
pub(super) const ACCEPT: Table = &[
    (
        Cause::Descriptors,
        "nobody is accepted: the descriptors are used up",
        "raise LimitNOFILE or `ulimit -n`",
    ),
    (
        Cause::Unauthenticated,
        "nobody is accepted: too many have not shown a credential",
        "raise limits.unauthenticated_connections, or keep who floods away",
    ),
    (
        Cause::Memory,
        "nobody is accepted: memory is at its ceiling",
        "raise limits.memory_bytes",
    ),
    (
        Cause::AcceptError,
        "nobody is accepted: the kernel refuses",
        "the log has the kernel's error",
    ),
    (Cause::Resumed, "connections are accepted again", ""),
    (
        Cause::GaveWay,
        "an idle connection without a credential gave way",
        "nothing, unless clients complain: raise limits.unauthenticated_connections",
    ),
];

/// The server itself.
pub(super) const NODE: Table = &[
    (Cause::Started, "the process has started", ""),
    (Cause::Ready, "the server is ready", ""),
    (Cause::DrainBegun, "everybody is told to come back", ""),
    (Cause::DrainEnded, "the drain has ended", ""),
    (Cause::Stopping, "the process ends", ""),
];
