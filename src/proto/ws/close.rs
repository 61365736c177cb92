//! Why a connection ends: close codes, close frames, and the faults of a peer.
//!
//! It stands between the places that decide to end a connection and the bytes of a close frame
//! (RFC 6455, section 5.5.1). Every [`Fault`] the codec can find in a peer's bytes maps to one
//! close code and one short ASCII reason here, and nowhere else.
//!
//! It does not run the close handshake: who waits for whom, and how long, is the session's.
//!
//! A [`CloseCode`] is always one that may stand in a close frame.

use std::fmt;

use crate::limits::CONTROL_PAYLOAD_BYTES_MAX;

/// Bytes of a close frame's reason: what a control frame has left after the code.
pub const REASON_BYTES_MAX: usize = CONTROL_PAYLOAD_BYTES_MAX - size_of::<CloseCode>();

/// A close code that may stand in a close frame (RFC 6455, section 7.4, and the IANA registry
/// it created).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(u16);

impl CloseCode {
    /// All codes that the server closes with.
    pub const ALL: [Self; 13] = [
        Self::NORMAL_CLOSURE,
        Self::GOING_AWAY,
        Self::PROTOCOL_ERROR,
        Self::UNSUPPORTED_DATA,
        Self::INVALID_PAYLOAD_DATA,
        Self::MESSAGE_TOO_BIG,
        Self::TRY_AGAIN_LATER,
        Self::INVALID_TOKEN,
        Self::EXPIRED_TOKEN,
        Self::CONNECTION_LIMIT,
        Self::MESSAGE_RATE,
        Self::APP_SUSPENDED,
        Self::KICKED,
    ];

    /// The answer to a close frame without a code.
    pub const NORMAL_CLOSURE: Self = Self(1000);
    /// The server shuts down.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer broke RFC 6455.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// The peer sent a binary message.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// The peer sent text that is not UTF-8.
    pub const INVALID_PAYLOAD_DATA: Self = Self(1007);
    /// The peer sent too long a message.
    pub const MESSAGE_TOO_BIG: Self = Self(1009);
    /// Slow consumer: the connection's outbound queue passed its limit.
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// The credential is not, or no longer, good.
    pub const INVALID_TOKEN: Self = Self(4001);
    /// The token has expired.
    pub const EXPIRED_TOKEN: Self = Self(4002);
    /// The app has as many connections as it may have.
    pub const CONNECTION_LIMIT: Self = Self(4010);
    /// The connection sent more messages than its rate allows.
    pub const MESSAGE_RATE: Self = Self(4011);
    /// The app is suspended.
    pub const APP_SUSPENDED: Self = Self(4012);
    /// The app's backend disconnected the peer.
    pub const KICKED: Self = Self(4020);

    /// The code as a peer sent it, or `None` where it must not stand in a close frame:
    /// 1004–1006 and 1015 are reserved, 1016–2999 unassigned, the rest out of range.
    #[inline]
    #[must_use]
    pub const fn from_wire(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// The code to close with after the peer sent `close`: the same, or 1000 if it gave none.
    #[inline]
    #[must_use]
    pub fn answer_to(close: Option<&CloseFrame<'_>>) -> Self {
        close.map_or(Self::NORMAL_CLOSURE, |close| close.code)
    }

    /// The number on the wire.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The reason sent with the code where nobody gives a better one: short, ASCII.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NORMAL_CLOSURE => "closed normally",
            Self::GOING_AWAY => "server is shutting down",
            Self::PROTOCOL_ERROR => "WebSocket protocol error",
            Self::UNSUPPORTED_DATA => "binary messages are not supported",
            Self::INVALID_PAYLOAD_DATA => "text is not valid UTF-8",
            Self::MESSAGE_TOO_BIG => "message is too long",
            Self::TRY_AGAIN_LATER => "slow consumer: outbound queue is full",
            Self::INVALID_TOKEN => "invalid token",
            Self::EXPIRED_TOKEN => "token expired",
            Self::CONNECTION_LIMIT => "concurrent connection limit reached",
            Self::MESSAGE_RATE => "message rate exceeded",
            Self::APP_SUSPENDED => "app is suspended",
            Self::KICKED => "disconnected by the app",
            _ => "closed",
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a close frame says, unless its payload is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseFrame<'a> {
    /// Why the sender closes, for programs.
    pub code: CloseCode,
    /// Why the sender closes, for people. May be empty.
    pub reason: &'a str,
}

impl<'a> CloseFrame<'a> {
    /// Reads an unmasked close payload; `None` where it is empty.
    ///
    /// # Errors
    /// [`Fault::ClosePayloadTruncated`], [`Fault::InvalidCloseCode`], and
    /// [`Fault::InvalidUtf8`] for the reason.
    pub fn decode_payload(payload: &'a [u8]) -> Result<Option<Self>, Fault> {
        if payload.is_empty() {
            return Ok(None);
        }
        let (code, reason) = payload
            .split_first_chunk()
            .ok_or(Fault::ClosePayloadTruncated)?;
        let code =
            CloseCode::from_wire(u16::from_be_bytes(*code)).ok_or(Fault::InvalidCloseCode)?;
        let reason = simdutf8::basic::from_utf8(reason).map_err(|_| Fault::InvalidUtf8)?;
        Ok(Some(Self { code, reason }))
    }

    /// Appends the payload to `out`, unmasked. Of a reason over [`REASON_BYTES_MAX`] bytes, as
    /// many whole characters are written as fit.
    pub fn append_payload(&self, out: &mut Vec<u8>) {
        let mut reason_bytes = self.reason.len().min(REASON_BYTES_MAX);
        while !self.reason.is_char_boundary(reason_bytes) {
            reason_bytes -= 1;
        }
        out.extend_from_slice(&self.code.get().to_be_bytes());
        // In range and on a character's boundary: the loop above, which ends at 0 at the latest.
        out.extend_from_slice(&self.reason.as_bytes()[..reason_bytes]);
    }
}

impl From<CloseCode> for CloseFrame<'static> {
    fn from(code: CloseCode) -> Self {
        Self {
            code,
            reason: code.reason(),
        }
    }
}

impl From<Fault> for CloseFrame<'static> {
    fn from(fault: Fault) -> Self {
        Self {
            code: fault.code(),
            reason: fault.reason(),
        }
    }
}

/// What is wrong with a peer's bytes. Each ends the connection with [`Fault::code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A reserved bit is set, but no extension was negotiated (RFC 6455, section 5.2).
    ReservedBits,
    /// An opcode that RFC 6455 reserves (section 5.2).
    ReservedOpcode,
    /// A control frame without FIN (section 5.5).
    FragmentedControl,
    /// A control frame with more than 125 bytes of payload (section 5.5).
    LongControl,
    /// A payload length in more bytes than it needs (section 5.2).
    LengthNotMinimal,
    /// A 64-bit payload length with the most significant bit set (section 5.2).
    LengthOutOfRange,
    /// A client's frame without a mask (section 5.1).
    UnmaskedFrame,
    /// A server's frame with a mask (section 5.1).
    MaskedFrame,
    /// A continuation frame while no fragmented message is open (section 5.4).
    UnexpectedContinuation,
    /// A text or binary frame inside a fragmented message (section 5.4).
    UnfinishedMessage,
    /// A close payload of one byte (section 5.5.1).
    ClosePayloadTruncated,
    /// A close code that must not stand in a close frame (section 7.4).
    InvalidCloseCode,
    /// A binary message: the protocol is text only.
    BinaryMessage,
    /// A text message or close reason that is not UTF-8 (section 8.1).
    InvalidUtf8,
    /// A message over the limit.
    MessageTooLong,
}

impl Fault {
    /// The code to close the connection with.
    #[must_use]
    pub const fn code(self) -> CloseCode {
        match self {
            Self::ReservedBits
            | Self::ReservedOpcode
            | Self::FragmentedControl
            | Self::LongControl
            | Self::LengthNotMinimal
            | Self::LengthOutOfRange
            | Self::UnmaskedFrame
            | Self::MaskedFrame
            | Self::UnexpectedContinuation
            | Self::UnfinishedMessage
            | Self::ClosePayloadTruncated
            | Self::InvalidCloseCode => CloseCode::PROTOCOL_ERROR,
            Self::BinaryMessage => CloseCode::UNSUPPORTED_DATA,
            Self::InvalidUtf8 => CloseCode::INVALID_PAYLOAD_DATA,
            Self::MessageTooLong => CloseCode::MESSAGE_TOO_BIG,
        }
    }

    /// The reason to close the connection with: short, ASCII, and of use to the peer's author.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::ReservedBits => "reserved bits set without an extension",
            Self::ReservedOpcode => "reserved opcode",
            Self::FragmentedControl => "control frame must not be fragmented",
            Self::LongControl => "control frame payload over 125 bytes",
            Self::LengthNotMinimal => "payload length is not in its shortest form",
            Self::LengthOutOfRange => "payload length has its top bit set",
            Self::UnmaskedFrame => "client frames must be masked",
            Self::MaskedFrame => "server frames must not be masked",
            Self::UnexpectedContinuation => "continuation frame without a message to continue",
            Self::UnfinishedMessage => "new message before the end of a fragmented one",
            Self::ClosePayloadTruncated => "close frame with half a code",
            Self::InvalidCloseCode => "close code must not be sent",
            Self::BinaryMessage => CloseCode::UNSUPPORTED_DATA.reason(),
            Self::InvalidUtf8 => CloseCode::INVALID_PAYLOAD_DATA.reason(),
            Self::MessageTooLong => CloseCode::MESSAGE_TOO_BIG.reason(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `payload`, expects `expected` (code and reason), and where it is a close frame,
    /// expects `payload` again when that is encoded.
    fn check(payload: &[u8], expected: Result<Option<(u16, &str)>, Fault>) {
        let decoded = CloseFrame::decode_payload(payload);
        let seen = decoded.map(|close| close.map(|close| (close.code.get(), close.reason)));
        assert_eq!(seen, expected, "payload {payload:?}");
        if let Ok(Some(close)) = decoded {
            let mut encoded = Vec::new();
            close.append_payload(&mut encoded);
            assert_eq!(encoded, payload);
        }
    }

    #[test]
    fn decodes_and_encodes_payloads() {
        check(b"", Ok(None));
        check(b"\x03", Err(Fault::ClosePayloadTruncated));
        check(b"\x03\xe8", Ok(Some((1000, ""))));
        check(b"\x03\xe9going", Ok(Some((1001, "going"))));
        check("\u{0f}\u{41}tschüß".as_bytes(), Ok(Some((3905, "tschüß"))));
        check(b"\x03\xe8\xff", Err(Fault::InvalidUtf8));
        check(b"\x03\xe8\xe2\x82", Err(Fault::InvalidUtf8));
        check(
            &[b"\x03\xe8".as_slice(), &[b'r'; REASON_BYTES_MAX]].concat(),
            {
                Ok(Some((
                    1000,
                    str::from_utf8(&[b'r'; REASON_BYTES_MAX]).unwrap(),
                )))
            },
        );
    }

    #[test]
    fn takes_exactly_the_codes_that_may_be_sent() {
        let registered = [
            1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014,
        ];
        for code in 0..=u16::MAX {
            let valid = registered.contains(&code) || (3000..5000).contains(&code);
            let expected = if valid {
                Ok(Some((code, "")))
            } else {
                Err(Fault::InvalidCloseCode)
            };
            check(&code.to_be_bytes(), expected);
        }
    }

    #[test]
    fn cuts_a_long_reason_between_characters() {
        let encode = |reason: &str| {
            let mut out = Vec::new();
            CloseFrame {
                code: CloseCode::KICKED,
                reason,
            }
            .append_payload(&mut out);
            out
        };
        assert_eq!(encode(&"r".repeat(200)).len(), CONTROL_PAYLOAD_BYTES_MAX);
        // 41 three-byte characters fill the 123 bytes; one byte in front of them drops the last.
        assert_eq!(encode(&"€".repeat(60))[2..], *"€".repeat(41).as_bytes());
        assert_eq!(
            encode(&format!("x{}", "€".repeat(60)))[2..],
            *format!("x{}", "€".repeat(40)).as_bytes()
        );
    }

    #[test]
    fn answers_a_close_with_its_own_code() {
        let close = CloseFrame {
            code: CloseCode::KICKED,
            reason: "",
        };
        assert_eq!(CloseCode::answer_to(Some(&close)), CloseCode::KICKED);
        assert_eq!(CloseCode::answer_to(None), CloseCode::NORMAL_CLOSURE);
    }

    #[test]
    fn every_own_code_may_be_sent_with_a_short_ascii_reason_of_its_own() {
        let mut reasons = std::collections::HashSet::new();
        for code in CloseCode::ALL {
            assert_eq!(CloseCode::from_wire(code.get()), Some(code));
            let reason = code.reason();
            assert!(
                reason.is_ascii() && reason.len() <= REASON_BYTES_MAX,
                "{code}: {reason}"
            );
            assert_ne!(reason, "closed", "{code} has the reason of an unknown code");
            assert!(reasons.insert(reason), "{code} shares its reason");
        }
    }

    #[test]
    fn every_own_code_is_explained_to_those_who_write_clients() {
        let document = include_str!("../../docs/protocol.md");
        let all = (1_000..5_000).filter_map(CloseCode::from_wire);
        let own: Vec<CloseCode> = all.filter(|code| code.reason() != "closed").collect();
        assert_eq!(own, CloseCode::ALL);
        for code in own {
            assert!(document.contains(&format!("\n| {code} |")), "{code}");
        }
    }

    #[test]
    fn every_fault_has_its_code_and_a_short_ascii_reason() {
        let table = [
            (Fault::ReservedBits, 1002),
            (Fault::ReservedOpcode, 1002),
            (Fault::FragmentedControl, 1002),
            (Fault::LongControl, 1002),
            (Fault::LengthNotMinimal, 1002),
            (Fault::LengthOutOfRange, 1002),
            (Fault::UnmaskedFrame, 1002),
            (Fault::MaskedFrame, 1002),
            (Fault::UnexpectedContinuation, 1002),
            (Fault::UnfinishedMessage, 1002),
            (Fault::ClosePayloadTruncated, 1002),
            (Fault::InvalidCloseCode, 1002),
            (Fault::BinaryMessage, 1003),
            (Fault::InvalidUtf8, 1007),
            (Fault::MessageTooLong, 1009),
        ];
        for (fault, code) in table {
            assert_eq!(fault.code().get(), code, "{fault:?}");
            let reason = fault.to_string();
            assert!(
                reason.is_ascii() && reason.len() <= REASON_BYTES_MAX,
                "{fault:?}: {reason}"
            );
        }
    }
}
