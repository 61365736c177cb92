//! The address of a client behind proxies, as far as trusted proxies vouch for it.
//!
//! A proxy appends the address it was called from to `X-Forwarded-For`, so the list is read from
//! its end, and only as far as trusted addresses vouch for it. What stands left of that can have
//! been written by anybody.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::cidr::Cidr;

/// Name of the standard's header (RFC 7239), which few proxies send: it is not read.
pub const FORWARDED: &str = "Forwarded";
/// Name of the header that is read.
pub const X_FORWARDED_FOR: &str = "X-Forwarded-For";

/// Addresses whose word about others is believed; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Arc<[Cidr]>);

impl TrustedProxies {
    /// Trusts the addresses in these blocks.
    #[must_use]
    pub fn new(blocks: &[Cidr]) -> Self {
        Self(blocks.into())
    }

    /// Whether that address is trusted.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|block| block.contains(address))
    }

    /// The rightmost address that is not trusted, beginning with the peer's own and going on
    /// with the values of `X-Forwarded-For`, last line first. Where an entry is no address, its
    /// trusted writer is as much as is known.
    #[must_use]
    pub fn client<'v>(
        &self,
        peer: IpAddr,
        forwarded_for: impl DoubleEndedIterator<Item = &'v [u8]>,
    ) -> IpAddr {
        let mut client = peer;
        for entry in forwarded_for
            .rev()
            .flat_map(|value| value.rsplit(|byte| *byte == b','))
        {
            if !self.contains(client) {
                break;
            }
            match address(entry.trim_ascii()) {
                Some(address) => client = address,
                None => break,
            }
        }
        client
    }
}

/// An address, as proxies write it: bare, in brackets, or with the port that they saw.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(entry).ok()?;
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = bare
        .unwrap_or(text)
        .parse()
        .or_else(|_| text.parse().map(|with_port: SocketAddr| with_port.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(peer: &str, values: &[&str], client: &str) {
        let blocks = ["10.0.0.0/8", "fd00::/8"].map(|block| block.parse().unwrap());
        let trusted = TrustedProxies::new(&blocks);
        let values = values.iter().map(|value| value.as_bytes());
        let found = trusted.client(peer.parse().unwrap(), values);
        assert_eq!(found, client.parse::<IpAddr>().unwrap());
    }

    #[test]
    fn a_stranger_is_not_believed() {
        check("192.0.2.1", &["203.0.113.9"], "192.0.2.1");
        check("192.0.2.1", &[], "192.0.2.1");
    }

    #[test]
    fn a_trusted_proxy_names_the_client() {
        check("10.0.0.1", &["203.0.113.9"], "203.0.113.9");
        check("::ffff:10.0.0.1", &["203.0.113.9"], "203.0.113.9");
        check("fd00::1", &["2001:db8::7"], "2001:db8::7");
        check("10.0.0.1", &[], "10.0.0.1");
    }

    #[test]
    fn what_the_client_wrote_itself_does_not_count() {
        check("10.0.0.1", &["198.51.100.1, 203.0.113.9"], "203.0.113.9");
        check("10.0.0.1", &["198.51.100.1", "203.0.113.9"], "203.0.113.9");
        check(
            "10.0.0.1",
            &["10.9.9.9,203.0.113.9 , 10.0.0.2"],
            "203.0.113.9",
        );
        check(
            "10.0.0.1",
            &["203.0.113.9", "10.0.0.3,10.0.0.2"],
            "203.0.113.9",
        );
    }

    #[test]
    fn a_chain_of_trusted_proxies_ends_at_its_first() {
        check("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3");
    }

    #[test]
    fn ports_and_brackets_are_taken_off() {
        check("10.0.0.1", &["203.0.113.9:4711"], "203.0.113.9");
        check("10.0.0.1", &["[2001:db8::7]:4711"], "2001:db8::7");
        check("10.0.0.1", &["[2001:db8::7]"], "2001:db8::7");
        check("10.0.0.1", &["::ffff:203.0.113.9"], "203.0.113.9");
    }

    #[test]
    fn what_is_no_address_ends_the_search() {
        for entry in ["", "unknown", "_hidden", "203.0.113.9:", "1.2.3", ","] {
            check("10.0.0.1", &["198.51.100.1", entry], "10.0.0.1");
        }
        check("10.0.0.1", &["198.51.100.1, ?, 10.0.0.2"], "10.0.0.2");
    }
}
