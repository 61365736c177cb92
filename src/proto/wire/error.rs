//! The codes of `error` messages, in the order in which a command is checked for them.
//!
//! The first six are the sender's syntax and decided by [`super::command`]; the others need the
//! session, the channel or the app and are decided there. None of them closes the connection.

/// Why a command was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorCode {
    /// Not a JSON object with a string `type`, or a field that no command allows.
    MalformedMessage,
    /// A `type` that is no command.
    UnknownType,
    /// A `channel` that is missing or breaks the rules of channel names.
    InvalidChannel,
    /// A `to` that is missing or breaks the rules of peer ids.
    InvalidPeerId,
    /// A channel under a prefix that is kept for the server.
    ChannelReserved,
    /// `publish` or `send` without `data`.
    MissingData,
    /// The credential lacks the action.
    ActionNotPermitted,
    /// `refresh` with a token that is not good.
    InvalidToken,
    /// `refresh` with a token of somebody else.
    PeerMismatch,
    /// No pattern of the credential matches the channel.
    ChannelNotAuthorized,
    /// One more channel than a connection may be subscribed to.
    ChannelLimitExceeded,
    /// The app has used up its messages of the period.
    OverMessageQuota,
    /// No connection of the app is this peer.
    PeerNotFound,
    /// The shard that should have taken the message could not.
    BackendError,
    /// A fault of the server.
    InternalError,
}

impl ErrorCode {
    /// Every code, in the order in which they are checked.
    pub const ALL: [Self; 15] = [
        Self::MalformedMessage,
        Self::UnknownType,
        Self::InvalidChannel,
        Self::InvalidPeerId,
        Self::ChannelReserved,
        Self::MissingData,
        Self::ActionNotPermitted,
        Self::InvalidToken,
        Self::PeerMismatch,
        Self::ChannelNotAuthorized,
        Self::ChannelLimitExceeded,
        Self::OverMessageQuota,
        Self::PeerNotFound,
        Self::BackendError,
        Self::InternalError,
    ];

    /// The code as it is sent.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MalformedMessage => "malformed_message",
            Self::UnknownType => "unknown_type",
            Self::InvalidChannel => "invalid_channel",
            Self::InvalidPeerId => "invalid_peer_id",
            Self::ChannelReserved => "channel_reserved",
            Self::MissingData => "missing_data",
            Self::ActionNotPermitted => "action_not_permitted",
            Self::InvalidToken => "invalid_token",
            Self::PeerMismatch => "peer_mismatch",
            Self::ChannelNotAuthorized => "channel_not_authorized",
            Self::ChannelLimitExceeded => "channel_limit_exceeded",
            Self::OverMessageQuota => "over_message_quota",
            Self::PeerNotFound => "peer_not_found",
            Self::BackendError => "backend_error",
            Self::InternalError => "internal_error",
        }
    }

    /// Returns what the code means and what to do about it, for the client's log. Contains
    /// nothing that JSON would escape.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::MalformedMessage => "the message is not a JSON object with a string 'type'",
            Self::UnknownType => {
                "'type' must be one of subscribe, unsubscribe, publish, send, refresh, ping"
            }
            Self::InvalidChannel => {
                "'channel' must be a string of 1 to 256 bytes without control characters"
            }
            Self::InvalidPeerId => {
                "'to' must be a peer id: a string of 1 to 128 printable ASCII characters"
            }
            Self::ChannelReserved => {
                "channels below _metered/, _internal/ and _system/ are reserved for the server"
            }
            Self::MissingData => "'data' is required; it may be any JSON value, null included",
            Self::ActionNotPermitted => "this connection's credential does not permit the action",
            Self::InvalidToken => "'token' is missing, or is not a token that could connect now",
            Self::PeerMismatch => "the token is another peer's, or another app's",
            Self::ChannelNotAuthorized => {
                "no channel pattern of this connection's credential matches the channel"
            }
            Self::ChannelLimitExceeded => {
                "this connection is subscribed to as many channels as it may be; unsubscribe first"
            }
            Self::OverMessageQuota => {
                "the app's message quota for this period is used up; the message was dropped"
            }
            Self::PeerNotFound => "no such peer is connected",
            Self::BackendError => "the message could not be accepted right now; try again",
            Self::InternalError => "the server failed to handle the message; try again",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ErrorCode;

    #[test]
    fn codes_and_messages_need_no_escaping_and_are_distinct() {
        for (index, code) in ErrorCode::ALL.into_iter().enumerate() {
            for text in [code.as_str(), code.message()] {
                assert_eq!(serde_json::to_string(text).unwrap(), format!("\"{text}\""));
            }
            for later in &ErrorCode::ALL[index + 1..] {
                assert!(code < *later);
                assert_ne!(code.as_str(), later.as_str());
                assert_ne!(code.message(), later.message());
            }
        }
    }

    #[test]
    fn every_code_is_explained_to_those_who_write_clients() {
        let document = include_str!("../../docs/protocol.md");
        for code in ErrorCode::ALL {
            let row = format!("\n| `{}` |", code.as_str());
            assert!(document.contains(&row), "{code:?}");
        }
    }
}
