//! The closed enums of events: what can happen, for which causes, and what is known of each.

/// Declares an enum without fields whose values have a text and a number.
macro_rules! closed_enum {
    (
        $(#[$meta:meta])*
        $name:ident {
            $($(#[$value_meta:meta])* $value:ident = $text:literal,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$value_meta])* $value,)*
        }

        impl $name {
            /// Every value, in the order of its declaration.
            pub const ALL: &[Self] = &[$(Self::$value),*];

            /// Returns the text of the API.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $text,)*
                }
            }

            /// Returns the value that `number as u8` made.
            #[must_use]
            pub fn of_number(number: u8) -> Option<Self> {
                Self::ALL.get(usize::from(number)).copied()
            }

            /// Returns the value that the API calls so.
            #[must_use]
            pub fn of_text(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|it| it.as_str() == text)
            }
        }
    };
}

closed_enum! {
    /// What has happened.
    Kind {
        /// An upgrade or a credential was refused, before any `welcome`.
        Refused = "refused",
        /// A `welcome` was queued.
        Opened = "opened",
        /// A `subscribe` was done.
        Subscribed = "subscribed",
        /// An `unsubscribe` was done.
        Unsubscribed = "unsubscribed",
        /// A `refresh` was done.
        Refreshed = "refreshed",
        /// A command was answered with an `error`.
        Error = "error",
        /// A connection's input was held back for over 100 ms.
        Held = "held",
        /// A socket took too little, with much waiting for it.
        Slow = "slow",
        /// A message of somebody whom an operator traces.
        Traced = "traced",
        /// A connection that was opened is gone.
        Closed = "closed",
        /// A backend or an operator has kicked a peer.
        Kicked = "kicked",
        /// An app has passed a part of what its plan allows.
        Quota = "quota",
        /// An app or a key was changed.
        Rights = "rights",
        /// What was done through the admin listener, or by a signal.
        Admin = "admin",
        /// A certificate was taken up or refused, or expires soon.
        Certificate = "certificate",
        /// A link between shards is over its limit, or under it again.
        Link = "link",
        /// Nobody is accepted for a while, or somebody gave way.
        Accept = "accept",
        /// A state of the server that somebody should look at has begun.
        Warning = "warning",
        /// The server itself: started, draining, stopping.
        Node = "node",
    }
}

closed_enum! {
    /// Why it has happened.
    Cause {
        /// The kind says it all.
        None = "none",

        /// The client sent a close frame.
        ClientClose = "client_close",
        /// The stream ended without a close frame.
        ClientGone = "client_gone",
        /// The socket failed while it was read.
        Reset = "reset",
        /// The socket failed while it was written.
        WriteFailed = "write_failed",
        /// Nothing came after a ping, or the peer read nothing.
        PingTimeout = "ping_timeout",
        /// The peer did not answer the server's close frame.
        CloseTimeout = "close_timeout",
        /// The peer broke RFC 6455.
        ProtocolError = "protocol_error",
        /// The peer sent a binary message.
        Binary = "binary",
        /// The peer sent text that is not UTF-8.
        BadUtf8 = "bad_utf8",
        /// The peer sent too long a message.
        TooBig = "too_big",
        /// The peer took too little of what it was sent.
        SlowConsumer = "slow_consumer",
        /// The process's memory is near its ceiling, or at it.
        Memory = "memory",
        /// More messages than the rate allows.
        MessageRate = "message_rate",
        /// The token's time is over.
        TokenExpired = "token_expired",
        /// The key was revoked.
        KeyRevoked = "key_revoked",
        /// The app was deleted.
        AppDeleted = "app_deleted",
        /// The app is suspended.
        AppSuspended = "app_suspended",
        /// The app's backend disconnected the peer.
        Kicked = "kicked",
        /// The server drains: it is shutting down or being replaced.
        Drain = "drain",
        /// The server ended before the connection did.
        Shutdown = "shutdown",
        /// TLS broke, or never came about.
        Tls = "tls",
        /// Another shard did not answer in time.
        ShardSilent = "shard_silent",

        /// Too many connects from the address.
        ConnectRate = "connect_rate",
        /// No upgrade that RFC 6455 allows.
        BadUpgrade = "bad_upgrade",
        /// The server takes nobody any more.
        Draining = "draining",
        /// No credential, or more than one, or none that is readable.
        NotOneCredential = "not_one_credential",
        /// No such key, or it was revoked, or it is of the other type.
        UnknownKey = "unknown_key",
        /// A secret was shown where a publishable key or a token belongs.
        WrongKind = "wrong_kind",
        /// The key does not allow the Origin.
        Origin = "origin",
        /// None of the key's secrets signed the token.
        TokenSignature = "token_signature",
        /// The token names no key, or one that is not there.
        TokenKid = "token_kid",
        /// The token is not signed with HS256.
        TokenAlg = "token_alg",
        /// The token's header has `crit`.
        TokenCrit = "token_crit",
        /// A claim is missing or breaks its rule.
        TokenClaim = "token_claim",
        /// The token was made in the future.
        TokenIatFuture = "token_iat_future",
        /// The token is not good yet.
        TokenNbf = "token_nbf",
        /// The token claims channels that its key does not have.
        TokenChannels = "token_channels",
        /// The token claims actions that its key does not have.
        TokenPermissions = "token_permissions",
        /// It is no JWT.
        TokenMalformed = "token_malformed",
        /// The token is too long.
        TokenTooLong = "token_too_long",
        /// The key's signing secret cannot be decrypted.
        KeyUnreadable = "key_unreadable",
        /// The app has as many connections as it may have.
        ConnectionLimit = "connection_limit",
        /// A trusted proxy sent no PROXY header that can be understood.
        ProxyHeader = "proxy_header",
        /// The peer left before its `welcome`.
        Gone = "gone",

        /// Not a JSON object with a `type`.
        MalformedMessage = "malformed_message",
        /// A `type` that is no command.
        UnknownType = "unknown_type",
        /// No channel name.
        InvalidChannel = "invalid_channel",
        /// No peer id.
        InvalidPeerId = "invalid_peer_id",
        /// A channel that is kept for the server.
        ChannelReserved = "channel_reserved",
        /// `publish` or `send` without `data`.
        MissingData = "missing_data",
        /// The credential lacks the action.
        ActionNotPermitted = "action_not_permitted",
        /// `refresh` without a token.
        InvalidToken = "invalid_token",
        /// The token is another peer's, or another app's.
        PeerMismatch = "peer_mismatch",
        /// No pattern of the credential matches the channel.
        ChannelNotAuthorized = "channel_not_authorized",
        /// One more channel than a connection may be in.
        ChannelLimitExceeded = "channel_limit_exceeded",
        /// The app has used up its messages.
        OverMessageQuota = "over_message_quota",
        /// No connection of the app is this peer.
        PeerNotFound = "peer_not_found",
        /// Another shard could not take the message.
        BackendError = "backend_error",
        /// A fault of the server.
        InternalError = "internal_error",

        /// Answers waited for the peer to read them, or for other shards to give them.
        Replies = "replies",
        /// A link between shards was full.
        Link = "link",
        /// A `subscribe` waited for the one before it.
        Joins = "joins",
        /// The channel's members took less than was published.
        Members = "members",

        /// A new token does not allow it.
        Refresh = "refresh",
        /// It was opened in another process, which has handed it over.
        HandedOver = "handed_over",

        /// It was published into a channel.
        Published = "published",
        /// It was sent to a peer.
        Sent = "sent",

        /// A plan limit is passed by four fifths.
        QuotaNear = "quota_near",
        /// A plan limit is reached.
        QuotaReached = "quota_reached",

        /// An app or a key was made.
        Created = "created",
        /// An app or a key was changed.
        Changed = "changed",
        /// A key has new secrets.
        Rotated = "rotated",
        /// A key was revoked.
        Revoked = "revoked",
        /// An app was deleted.
        Deleted = "deleted",
        /// The configuration's apps were read again.
        Declared = "declared",

        /// A connect token was signed for an operator.
        TokenMinted = "token_minted",
        /// A connect token was inspected for an operator.
        TokenInspected = "token_inspected",

        /// Somebody showed a wrong admin token.
        SignInRefused = "sign_in_refused",
        /// A browser has signed in to the console.
        SignIn = "sign_in",
        /// The configuration was read again.
        Reload = "reload",
        /// The configuration could not be read again.
        ReloadFailed = "reload_failed",
        /// An operator traces a peer or a channel, or no longer.
        Trace = "trace",
        /// An operator had what a channel keeps forgotten.
        HistoryForgotten = "history_forgotten",
        /// A backup of the store was taken.
        Backup = "backup",

        /// A certificate is in use from now on.
        TakenUp = "taken_up",
        /// A changed certificate cannot be used.
        CertificateRefused = "certificate_refused",
        /// The certificate ends soon.
        CertificateExpires = "certificate_expires",

        /// The link's backlog has passed its limit.
        OverLimit = "over_limit",
        /// The link's backlog is under its limit again.
        UnderLimit = "under_limit",

        /// The descriptors that connections may have are used up.
        Descriptors = "descriptors",
        /// As many connections without a credential as there may be.
        Unauthenticated = "unauthenticated",
        /// The kernel refused to accept.
        AcceptError = "accept_error",
        /// An idle connection without a credential gave way.
        GaveWay = "gave_way",
        /// Connections are accepted again.
        Resumed = "resumed",

        /// The process has started.
        Started = "started",
        /// It serves.
        Ready = "ready",
        /// It says goodbye to everybody.
        DrainBegun = "drain_begun",
        /// Nobody is left, or the time is over.
        DrainEnded = "drain_ended",
        /// The process ends.
        Stopping = "stopping",

        /// Somebody outside `server.trusted_proxies` names other clients.
        ForwardedForUntrusted = "forwarded_for_untrusted",
        /// Connections of a trusted proxy came without a PROXY header.
        ProxyHeaderMissing = "proxy_header_missing",
        /// The admin listener can be reached from other hosts.
        AdminExposed = "admin_exposed",
        /// Few descriptors are left.
        DescriptorsLow = "descriptors_low",
        /// Nobody is accepted for a while.
        AcceptPaused = "accept_paused",
        /// A link between shards is over its limit.
        LinkOverLimit = "link_over_limit",
        /// A shard's turns take long.
        ShardLag = "shard_lag",
        /// Connections are closed because they take too little.
        SlowConsumers = "slow_consumers",
        /// The ring of ends reaches back less than a minute.
        EventsShort = "events_short",
        /// The wall clock has jumped.
        ClockStepped = "clock_stepped",
        /// Something was changed that needs a restart.
        ReloadNeedsRestart = "reload_needs_restart",
        /// The admin token is easy to guess.
        TokenShort = "token_short",
        /// The store cannot be written.
        StoreFailed = "store_failed",
        /// A key id alone passes for a credential.
        BareKeyIdAccepted = "bare_key_id_accepted",
        /// Everybody is told why a credential is not good.
        ExplainOn = "explain_on",
    }
}

closed_enum! {
    /// Who ended a connection.
    By {
        /// The server, with a close frame or without.
        Server = "server",
        /// The client, with a close frame or without.
        Client = "client",
        /// The network: the socket failed.
        Network = "network",
    }
}

closed_enum! {
    /// Who has done something to the server.
    AuthorKind {
        /// The process by itself.
        Server = "server",
        /// Who wrote the configuration.
        Configuration = "configuration",
        /// Who may send the process signals.
        Signal = "signal",
        /// A backend, with the secret of a key.
        Key = "key",
        /// An operator, with the admin token.
        AdminToken = "admin_token",
        /// An operator, in the console.
        Session = "session",
    }
}

closed_enum! {
    /// What somebody showed.
    CredentialKind {
        /// Nothing that is readable.
        None = "none",
        /// A publishable key.
        Publishable = "publishable",
        /// An API secret, or a key id with its signing secret.
        Secret = "secret",
        /// A connect token.
        Token = "token",
    }
}

closed_enum! {
    /// Which door somebody was turned away at.
    Door {
        /// An upgrade to WebSocket.
        Connect = "connect",
        /// A request of the REST API.
        Rest = "rest",
    }
}

/// How long the events of a kind are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Keep {
    /// Long: ends, and what operators did.
    Ends,
    /// Short: what goes on all the time.
    Routine,
}

impl Kind {
    /// Returns the ring that its records go to.
    #[must_use]
    pub const fn keep(self) -> Keep {
        match self {
            Self::Opened | Self::Subscribed | Self::Unsubscribed => Keep::Routine,
            Self::Refreshed => Keep::Routine,
            Self::Error | Self::Held | Self::Traced => Keep::Routine,
            _ => Keep::Ends,
        }
    }

    /// Returns the names of its numbers in the API, in the order of a record.
    #[must_use]
    pub const fn numbers(self) -> &'static [&'static str] {
        match self {
            Self::Refused | Self::Error | Self::Warning => &[],
            Self::Opened => &["expiresAt", "handshakeUs"],
            Self::Subscribed => &["tookUs", "recovered", "replayed"],
            Self::Unsubscribed => &["tookUs"],
            Self::Refreshed => &["expiresAt", "tookUs"],
            Self::Held => &["heldMs"],
            Self::Traced => &["bytes", "members"],
            Self::Slow => &["queuedBytes", "blockedMs"],
            Self::Closed => &[
                "queuedBytes",
                "durationMs",
                "bytesIn",
                "bytesOut",
                "messagesIn",
                "channels",
            ],
            Self::Kicked | Self::Rights => &["closed", "session"],
            Self::Admin => &["session"],
            Self::Quota => &["used", "allowed"],
            Self::Certificate => &["notAfter"],
            Self::Link => &["from", "to", "backlogBytes", "heldMs"],
            Self::Accept => &["pausedMs"],
            Self::Node => &["connections"],
        }
    }

    /// Returns the names of its two texts in the API: who or what it is about, and what else is
    /// said.
    #[must_use]
    pub const fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::Rights => ("object", "changed"),
            Self::Admin => ("what", "detail"),
            Self::Certificate => ("names", "detail"),
            Self::Warning | Self::Link | Self::Accept => ("what", "detail"),
            Self::Node => ("version", "detail"),
            Self::Quota => ("limit", "detail"),
            Self::Kicked => ("peer", "detail"),
            _ => ("peer", "channel"),
        }
    }

    /// Whether its records are about a peer.
    #[must_use]
    pub fn has_peer(self) -> bool {
        self.texts().0 == "peer"
    }

    /// Whether its records may be about a channel.
    #[must_use]
    pub fn has_channel(self) -> bool {
        self.texts().1 == "channel"
    }
}

/// The claims that a token may be refused for, as `claim` names them.
pub const CLAIMS: [&str; 9] = [
    "",
    "sub",
    "exp",
    "nbf",
    "iat",
    "channels",
    "permissions",
    "metadata",
    "peerMetadata",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_name_each_value_once() {
        assert!(Cause::ALL.len() < usize::from(u8::MAX));
        for (at, cause) in Cause::ALL.iter().enumerate() {
            assert_eq!(Cause::of_number(at as u8), Some(*cause));
            assert_eq!(Cause::of_text(cause.as_str()), Some(*cause), "{cause:?}");
        }
        for kind in Kind::ALL {
            assert_eq!(Kind::of_number(*kind as u8), Some(*kind));
            assert_eq!(Kind::of_text(kind.as_str()), Some(*kind));
        }
        assert_eq!(Cause::of_number(u8::MAX), None);
    }
}
