//! Whom an attack may be aimed at: this machine, unless somebody says that the target is theirs.

use std::net::SocketAddr;

use crate::failure::Failure;

/// Whether packets to this address stay on this machine. The resolved address is judged, because
/// a name may mean anything.
pub(super) fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Refuses other machines.
///
/// # Errors
/// [`Failure::Usage`] for one that is not loopback and not said to be the caller's own.
pub(super) fn allow(address: SocketAddr, is_mine: bool) -> Result<(), Failure> {
    if is_loopback(address) || is_mine {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "abuse: {address} is not this machine; attacks go to loopback only, unless \
         --target-is-mine says that the server is yours"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_decides() {
        for (text, own) in [
            ("127.0.0.1:1", true),
            ("127.8.9.10:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("10.0.0.1:1", false),
            ("[::ffff:10.0.0.1]:1", false),
            ("[fe80::1]:1", false),
            ("192.0.2.1:1", false),
        ] {
            let address = text.parse().expect("an address");
            assert_eq!(is_loopback(address), own, "{text}");
            assert_eq!(allow(address, false).is_ok(), own, "{text}");
            assert!(allow(address, true).is_ok(), "{text}");
        }
    }
}
