//! The labels of counters: closed sets, so that no peer can make a server's metrics grow.

use std::fmt;

/// A value that tells the counters of one metric apart.
pub trait Label: Copy + PartialEq + fmt::Debug + 'static {
    /// Every value that is shown before it has occurred, so that rates have a beginning.
    fn known() -> Vec<Self>;

    /// Label names and values.
    fn pairs(self) -> Vec<(&'static str, String)>;
}

/// Counts by label. For rare events: the label is found by a linear search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally<L>(Vec<(L, u64)>);

impl<L: Label> Default for Tally<L> {
    fn default() -> Self {
        Self(L::known().into_iter().map(|label| (label, 0)).collect())
    }
}

impl<L: Label> Tally<L> {
    /// Adds one to the count of a label.
    pub fn add(&mut self, label: L) {
        match self.0.iter_mut().find(|(known, _)| *known == label) {
            Some((_, count)) => *count += 1,
            None => self.0.push((label, 1)),
        }
    }

    /// Returns the count of a label.
    #[must_use]
    pub fn get(&self, label: L) -> u64 {
        let found = self.0.iter().find(|(known, _)| *known == label);
        found.map_or(0, |(_, count)| *count)
    }

    /// Iterates over all labels and their counts.
    pub fn iter(&self) -> impl Iterator<Item = (L, u64)> {
        self.0.iter().copied()
    }

    /// Returns the sum of all counts.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.iter().map(|(_, count)| count).sum()
    }
}

/// Declares a label: an enum without fields, and the text of each value.
macro_rules! label {
    (
        $(#[$meta:meta])*
        $name:ident as $label:literal {
            $($(#[$value_meta:meta])* $value:ident = $text:literal,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$value_meta])* $value,)*
        }

        impl $name {
            /// Every value, in the order of its declaration.
            pub const ALL: &[Self] = &[$(Self::$value),*];

            /// Returns the label's text.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $text,)*
                }
            }
        }

        impl Label for $name {
            fn known() -> Vec<Self> {
                Self::ALL.to_vec()
            }

            fn pairs(self) -> Vec<(&'static str, String)> {
                vec![($label, self.as_str().to_owned())]
            }
        }
    };
}

label! {
    /// Why a WebSocket handshake was refused.
    HandshakeRefused as "cause" {
        /// Too many connects from the address.
        ConnectRate = "connect_rate",
        /// No upgrade that RFC 6455 allows.
        BadUpgrade = "bad_upgrade",
        /// The server is shutting down.
        Draining = "draining",
        /// The process's memory is near its ceiling.
        Memory = "memory",
        /// There was no credential, or more than one, or none that is readable.
        NotOneCredential = "not_one_credential",
        /// No such key, or it was revoked, or it is of the other type.
        UnknownKey = "unknown_key",
        /// The key does not allow the Origin.
        Origin = "origin",
        /// The token has expired.
        TokenExpired = "token_expired",
        /// The token is not good for another reason.
        TokenInvalid = "token_invalid",
        /// The key's signing secret cannot be decrypted.
        KeyUnreadable = "key_unreadable",
        /// The app is suspended.
        AppSuspended = "app_suspended",
        /// The app has as many connections as it may have.
        ConnectionLimit = "connection_limit",
        /// A trusted proxy sent no PROXY header that can be understood.
        ProxyHeader = "proxy_header",
        /// No TLS handshake that can be understood.
        Transport = "transport",
        /// The client left before its `welcome`.
        Gone = "gone",
    }
}

label! {
    /// Why a message was dropped.
    Dropped as "cause" {
        /// The sender was over its rate and was closed.
        MessageRate = "message_rate",
        /// The app was over its quota.
        MessageQuota = "message_quota",
        /// The receiver took too little of what it was sent and was closed.
        SlowConsumer = "slow_consumer",
        /// The process's memory was at its ceiling, and the receiver let most of it wait.
        Memory = "memory",
    }
}

label! {
    /// The operations of the REST API, by their paths in the OpenAPI document.
    Route as "route" {
        /// Publish into a channel.
        Publish = "/v1/channels/{id}/publish",
        /// List a channel's peers.
        ListPeers = "/v1/channels/{id}/peers",
        /// Read or forget what a channel keeps.
        History = "/v1/channels/{id}/history",
        /// Mint a token.
        MintToken = "/v1/tokens",
        /// Kick a peer.
        KickPeer = "/v1/peers/{id}",
        /// Read the app's usage.
        ReadUsage = "/v1/usage",
        /// Read the OpenAPI document.
        OpenApi = "/v1/openapi.json",
        /// Ask whether the server serves.
        Health = "/healthz",
        /// No operation, or one that cannot be told.
        Other = "other",
    }
}

label! {
    /// Why a listener took no connections for a moment.
    AcceptPause as "cause" {
        /// The descriptors that public connections may have are used up.
        Descriptors = "descriptors",
        /// There are as many connections without a credential as there may be, and none is idle.
        Unauthenticated = "unauthenticated",
        /// The process's memory is at its ceiling.
        Memory = "memory",
        /// The kernel refused to accept.
        Error = "error",
    }
}

/// How a REST request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestOutcome {
    /// The operation.
    pub route: Route,
    /// The HTTP status of the response.
    pub status: u16,
}

impl Label for RestOutcome {
    fn known() -> Vec<Self> {
        let served = |route| Self { route, status: 200 };
        let operations = Route::ALL.iter().filter(|route| **route != Route::Other);
        operations.map(|route| served(*route)).collect()
    }

    fn pairs(self) -> Vec<(&'static str, String)> {
        let mut pairs = self.route.pairs();
        pairs.push(("status", self.status.to_string()));
        pairs
    }
}

/// How a connection ended: the close code that was agreed upon, as far as there was one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedBy(u16);

/// Codes from here on mean what applications say (RFC 6455, section 7.4.2).
const PRIVATE_CODES_FROM: u16 = 3_000;

impl EndedBy {
    /// It never was a WebSocket.
    pub const HTTP: Self = Self(0);
    /// The WebSocket ended without a close frame (RFC 6455, section 7.1.5).
    pub const ABNORMAL: Self = Self(1_006);
    /// A client closed with a code of its own.
    const OTHER: Self = Self(1);

    /// Returns the number that stands for it.
    #[must_use]
    pub(crate) const fn number(self) -> u16 {
        self.0
    }

    /// Returns what that number stands for.
    #[must_use]
    pub(crate) const fn of_number(number: u16) -> Self {
        Self(number)
    }

    /// The server closed, with one of its codes.
    #[must_use]
    pub const fn server(code: u16) -> Self {
        Self(code)
    }

    /// The client closed. Codes that it made up count as one, or it could make up many.
    #[must_use]
    pub const fn client(code: u16) -> Self {
        match code < PRIVATE_CODES_FROM {
            true => Self(code),
            false => Self::OTHER,
        }
    }
}

impl Label for EndedBy {
    fn known() -> Vec<Self> {
        let usual = [1_000, 1_001, 1_002, 1_003, 1_007, 1_008, 1_009, 1_013];
        let of_the_protocol = [4_001, 4_002, 4_010, 4_011, 4_012, 4_020];
        let numbered = usual.into_iter().chain(of_the_protocol).map(Self);
        [Self::HTTP, Self::ABNORMAL]
            .into_iter()
            .chain(numbered)
            .collect()
    }

    fn pairs(self) -> Vec<(&'static str, String)> {
        let text = match self {
            Self::HTTP => "http".to_owned(),
            Self::OTHER => "other".to_owned(),
            Self(code) => code.to_string(),
        };
        vec![("code", text)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_shows_what_it_knows_and_counts_what_it_does_not() {
        let mut tally = Tally::<RestOutcome>::default();
        assert_eq!(tally.iter().count(), 8);
        assert_eq!(tally.sum(), 0);
        let not_found = RestOutcome {
            route: Route::Other,
            status: 404,
        };
        tally.add(not_found);
        tally.add(not_found);
        assert_eq!(tally.get(not_found), 2);
        assert_eq!((tally.iter().count(), tally.sum()), (9, 2));
    }

    #[test]
    fn codes_that_clients_make_up_count_as_one() {
        let label = |ended: EndedBy| ended.pairs().remove(0).1;
        assert_eq!(label(EndedBy::client(1_001)), "1001");
        assert_eq!(label(EndedBy::client(3_000)), "other");
        assert_eq!(label(EndedBy::client(4_020)), "other");
        assert_eq!(label(EndedBy::server(4_020)), "4020");
        assert_eq!(label(EndedBy::ABNORMAL), "1006");
        assert_eq!(label(EndedBy::HTTP), "http");
    }
}
