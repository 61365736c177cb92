//! What a channel may be called, and a peer.
//!
//! The rules are those of the wire and of the REST API alike, on decoded text.

use super::error::ErrorCode;
use crate::limits::{CHANNEL_NAME_BYTES_MAX, PEER_ID_BYTES_MAX};

/// Prefixes of channels that are kept for the server, in any case.
const RESERVED_PREFIXES: [&str; 3] = ["_metered/", "_internal/", "_system/"];

/// Checks a channel name: 1 to [`CHANNEL_NAME_BYTES_MAX`] bytes, no control characters (Unicode
/// category Cc: U+0000–001F, 007F–009F). A reserved name passes; see [`is_reserved_channel`].
///
/// # Errors
/// [`ErrorCode::InvalidChannel`].
pub fn validate_channel_name(name: &str) -> Result<(), ErrorCode> {
    let length_allowed = (1..=CHANNEL_NAME_BYTES_MAX).contains(&name.len());
    // Nearly every name is printable ASCII, which needs no decoding.
    if length_allowed && (is_printable_ascii(name) || !name.chars().any(char::is_control)) {
        Ok(())
    } else {
        Err(ErrorCode::InvalidChannel)
    }
}

/// Whether the name is under a prefix that is kept for the server.
#[must_use]
pub fn is_reserved_channel(name: &str) -> bool {
    name.starts_with('_')
        && RESERVED_PREFIXES.iter().any(|prefix| {
            let head = name.as_bytes().get(..prefix.len());
            head.is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes()))
        })
}

/// Checks a peer id: 1 to [`PEER_ID_BYTES_MAX`] bytes of printable ASCII (0x20–0x7E).
///
/// # Errors
/// [`ErrorCode::InvalidPeerId`].
pub fn validate_peer_id(id: &str) -> Result<(), ErrorCode> {
    if (1..=PEER_ID_BYTES_MAX).contains(&id.len()) && is_printable_ascii(id) {
        Ok(())
    } else {
        Err(ErrorCode::InvalidPeerId)
    }
}

fn is_printable_ascii(text: &str) -> bool {
    text.bytes().all(|byte| (0x20..=0x7E).contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_names_have_bounds_and_no_control_characters() {
        for name in [
            "a", " ", "room-1", "a/b/**", "né", "\u{a0}", "\u{ad}", "日本", "\"\\",
        ] {
            assert_eq!(validate_channel_name(name), Ok(()), "{name:?}");
        }
        for name in ["", "a\0", "\u{1f}", "\u{7f}", "é\u{80}", "\u{9f}", "a\n"] {
            assert_eq!(
                validate_channel_name(name),
                Err(ErrorCode::InvalidChannel),
                "{name:?}"
            );
        }
        // 256 and 257 bytes, of one and of two bytes a character.
        assert_eq!(validate_channel_name(&"x".repeat(256)), Ok(()));
        assert_eq!(validate_channel_name(&"é".repeat(128)), Ok(()));
        assert!(validate_channel_name(&"x".repeat(257)).is_err());
        assert!(validate_channel_name(&("é".repeat(128) + "x")).is_err());
    }

    #[test]
    fn peer_ids_are_printable_ascii() {
        for id in ["a", " ", "~", "alice@example.com", "\"\\", &"x".repeat(128)] {
            assert_eq!(validate_peer_id(id), Ok(()), "{id:?}");
        }
        for id in ["", "\u{1f}", "\u{7f}", "é", "a\nb", &"x".repeat(129)] {
            assert_eq!(
                validate_peer_id(id),
                Err(ErrorCode::InvalidPeerId),
                "{id:?}"
            );
        }
    }

    #[test]
    fn reserved_prefixes_count_in_any_case() {
        for name in [
            "_metered/",
            "_Metered/x",
            "_INTERNAL/a/b",
            "_system/",
            "_sYsTeM/é",
        ] {
            assert!(is_reserved_channel(name), "{name:?}");
        }
        for name in [
            "_metered",
            "metered/",
            "_systems/",
            "x/_system/",
            "_",
            "_é/",
            "__system/",
        ] {
            assert!(!is_reserved_channel(name), "{name:?}");
        }
    }
}
