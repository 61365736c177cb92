//! Which addresses can be listened on at the same time.
//!
//! `0.0.0.0` and `[::]` stand for every address of their kind, and `[::]` for those of IPv4 too:
//! the kernel refuses a second socket for an address that has one, and names neither of the two.

use std::net::SocketAddr;

/// Returns why two addresses exclude each other, if they do. `are_public`: both are, so that
/// `[::]` leaves IPv4 to a `0.0.0.0` beside it.
pub(super) fn overlap(one: SocketAddr, other: SocketAddr, are_public: bool) -> Option<String> {
    if one.port() != other.port() || one.port() == 0 {
        return None;
    }
    let (first, second) = (one.ip().to_canonical(), other.ip().to_canonical());
    if first == second {
        return Some(format!("{other} is there twice"));
    }
    let halves = first.is_unspecified() && second.is_unspecified();
    if halves && are_public {
        return None;
    }
    let takes = |all: std::net::IpAddr, some: std::net::IpAddr| {
        all.is_unspecified() && (all.is_ipv6() || some.is_ipv4())
    };
    if takes(first, second) {
        Some(format!("{one} takes every address that {other} would"))
    } else if takes(second, first) {
        Some(format!("{other} takes every address that {one} would"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(one: &str, other: &str, are_public: bool, expected: Option<&str>) {
        for (one, other) in [(one, other), (other, one)] {
            let found = overlap(one.parse().unwrap(), other.parse().unwrap(), are_public);
            let starts = expected.map(|text| found.as_deref().unwrap().starts_with(text));
            assert!(
                starts.unwrap_or(found.is_none()),
                "{one} {other}: {found:?}"
            );
        }
    }

    #[test]
    fn different_addresses_can_be_listened_on() {
        for (one, other) in [
            ("127.0.0.1:1", "127.0.0.1:2"),
            ("0.0.0.0:1", "127.0.0.1:2"),
            ("127.0.0.1:1", "127.0.0.2:1"),
            ("127.0.0.1:1", "[::1]:1"),
            ("0.0.0.0:1", "[::1]:1"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("[::]:0", "127.0.0.1:0"),
        ] {
            check(one, other, true, None);
            check(one, other, false, None);
        }
    }

    #[test]
    fn an_address_that_stands_for_others_excludes_them() {
        let all = "0.0.0.0:1 takes every address that 127.0.0.1:1 would";
        check("0.0.0.0:1", "127.0.0.1:1", true, Some(all));
        check(
            "0.0.0.0:1",
            "[::ffff:127.0.0.1]:1",
            true,
            Some("0.0.0.0:1 takes every"),
        );
        check("[::]:1", "127.0.0.1:1", true, Some("[::]:1 takes every"));
        check("[::]:1", "[::1]:1", true, Some("[::]:1 takes every"));
    }

    #[test]
    fn the_two_halves_go_together_where_both_are_public() {
        check("0.0.0.0:1", "[::]:1", true, None);
        check("0.0.0.0:1", "[::]:1", false, Some("[::]:1 takes every"));
    }

    #[test]
    fn one_address_is_one_however_it_is_written() {
        let twice = overlap(
            "1.2.3.4:5".parse().unwrap(),
            "[::ffff:1.2.3.4]:5".parse().unwrap(),
            true,
        );
        assert_eq!(twice.as_deref(), Some("[::ffff:1.2.3.4]:5 is there twice"));
        check("[::1]:5", "[::1]:5", false, Some("[::1]:5 is there twice"));
    }
}
