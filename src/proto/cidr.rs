//! A block of IP addresses, as in `10.0.0.0/8`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A block of addresses that share their first bits. IPv4 addresses written as IPv6
/// (`::ffff:10.1.2.3`, as a dual-stack listener shows them) count as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    prefix_bits: u32,
}

impl Cidr {
    /// Whether the address lies in the block.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        truncated(address.to_canonical(), self.prefix_bits) == Some(self.network)
    }
}

/// The address with all bits after the first `prefix_bits` cleared; `None` when the address
/// has fewer bits than that.
fn truncated(address: IpAddr, prefix_bits: u32) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => {
            let host_bits = 32_u32.checked_sub(prefix_bits)?;
            let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
            Some(IpAddr::V4((v4.to_bits() & mask).into()))
        }
        IpAddr::V6(v6) => {
            let host_bits = 128_u32.checked_sub(prefix_bits)?;
            let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
            Some(IpAddr::V6((v6.to_bits() & mask).into()))
        }
    }
}

/// Not a block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CidrError;

impl FromStr for Cidr {
    type Err = CidrError;

    /// Reads `address/bits`, or a bare address as the block that holds only it. Bits set behind
    /// the prefix are refused: of `10.1.0.0/8` nobody can tell which half was meant.
    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let network: IpAddr = address.parse().map_err(|_| CidrError)?;
        let prefix_bits = match prefix {
            Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map_err(|_| CidrError)?
            }
            Some(_) => return Err(CidrError),
            None if network.is_ipv4() => 32,
            None => 128,
        };
        // A block of mapped addresses would never match, as `contains` compares canonical ones.
        if network.to_canonical() != network || truncated(network, prefix_bits) != Some(network) {
            return Err(CidrError);
        }
        Ok(Self {
            network,
            prefix_bits,
        })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(block: &str, address: &str, inside: bool) {
        let cidr: Cidr = block.parse().unwrap();
        assert_eq!(
            cidr.contains(address.parse().unwrap()),
            inside,
            "{address} in {block}"
        );
    }

    #[test]
    fn a_block_contains_what_shares_its_prefix() {
        check("10.0.0.0/8", "10.255.1.2", true);
        check("10.0.0.0/8", "11.0.0.0", false);
        check("192.168.4.0/22", "192.168.7.255", true);
        check("192.168.4.0/22", "192.168.8.0", false);
        check("0.0.0.0/0", "255.255.255.255", true);
        check("127.0.0.1", "127.0.0.1", true);
        check("127.0.0.1", "127.0.0.2", false);
        check("fd00::/8", "fdff::1", true);
        check("fd00::/8", "fe00::1", false);
        check("::/0", "::1", true);
        check("::1/128", "::1", true);
    }

    #[test]
    fn the_families_do_not_mix_except_for_mapped_addresses() {
        check("10.0.0.0/8", "::ffff:10.1.2.3", true);
        check("10.0.0.0/8", "::ffff:11.1.2.3", false);
        check("0.0.0.0/0", "::1", false);
        check("::/0", "10.0.0.1", false);
        check("::/64", "0.0.0.0", false);
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "/",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "10.1.0.0/8",
            "10.0.0/8",
            "::/129",
            "::1/64",
            "::ffff:10.0.0.0/104",
            "proxy.example/32",
            "10.0.0.0/99999999999",
        ] {
            assert_eq!(text.parse::<Cidr>(), Err(CidrError), "{text}");
        }
    }

    #[test]
    fn it_is_written_as_it_is_read() {
        assert_eq!(
            "10.0.0.0/8".parse::<Cidr>().unwrap().to_string(),
            "10.0.0.0/8"
        );
        assert_eq!("::1".parse::<Cidr>().unwrap().to_string(), "::1/128");
    }
}
