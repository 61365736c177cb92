//! Proxies whose settings do not fit this server's: each is told to the operator, once a minute.
//!
//! The commonest ways to run behind a proxy and not know it: all clients share the proxy's
//! address, and with it one connect limit.

use std::net::IpAddr;

use crate::domain::throttle::Throttle;
use crate::domain::time::Now;
use crate::proto::forwarded::{FORWARDED, TrustedProxies, X_FORWARDED_FOR};
use crate::proto::http::error::RequestError;
use crate::proto::http::head::RequestHead;

/// Requests that name a client for an address that is not believed.
static UNTRUSTED: Throttle = Throttle::new();
/// Requests of trusted proxies that name the client in a header that is not read.
static UNREAD: Throttle = Throttle::new();
/// Requests after a header of the PROXY protocol that was not expected.
static UNEXPECTED_HEADER: Throttle = Throttle::new();

/// Warns of a request from `peer` that names another client, and is not believed or not read. With
/// its head comes whether that has [`X_FORWARDED_FOR`]. Returns how many were not believed, if that
/// is to be told.
pub(in crate::shard) fn warn_of_forwarded(
    trusted: &TrustedProxies,
    peer: IpAddr,
    (head, forwarded_for): (&RequestHead<'_>, bool),
    now: Now,
) -> Option<u64> {
    if !UNTRUSTED.is_open(now.mono_ms) && !UNREAD.is_open(now.mono_ms) {
        return None;
    }
    let forwarded = head.header_values(FORWARDED).next().is_some();
    if !forwarded_for && !forwarded {
        return None;
    }
    let header = if forwarded_for {
        X_FORWARDED_FOR
    } else {
        FORWARDED
    };
    if !trusted.contains(peer) {
        if let Some(requests) = UNTRUSTED.pass(now.mono_ms) {
            tracing::warn!(
                address = %peer,
                header,
                requests,
                "{peer} sends {header} but is not in server.trusted_proxies: all its clients \
                 count as one address and share one connect limit; if it is your proxy, name it \
                 there"
            );
            return Some(requests);
        }
    } else if !forwarded_for && let Some(requests) = UNREAD.pass(now.mono_ms) {
        tracing::warn!(
            address = %peer,
            requests,
            "{peer} names its clients in {FORWARDED}, which is not read: all of them count as \
             one address and share one connect limit; have it send {X_FORWARDED_FOR}"
        );
    }
    None
}

/// Warns of a head that cannot be read because a PROXY header stands before it.
pub(in crate::shard) fn warn_of_header(peer: IpAddr, error: RequestError, now: Now) {
    if error == RequestError::ProxyHeader
        && let Some(connections) = UNEXPECTED_HEADER.pass(now.mono_ms)
    {
        tracing::warn!(
            address = %peer,
            connections,
            "{peer} sends PROXY protocol headers, which are not expected from it: turn \
             server.proxy_protocol on, and name it in server.trusted_proxies"
        );
    }
}
