//! The network: packets that are dropped, and tables that are full.

use super::host::Host;
use super::settings::TUNER;
use crate::cli::{Findings, Level};

/// Part of connection tracking's table that may be used, in percent.
const TRACKED_PERCENT_MAX: u64 = 80;
/// One packet of so many may be lost.
const LOST_OF: u64 = 10_000;

/// Looks at the network.
pub(super) fn look(host: &Host, findings: &mut Findings) {
    tracked(host, findings);
    dropped(host, findings);
    for card in host.cards() {
        missed(host, &card, findings);
        duplex(host, &card, findings);
    }
}

fn tracked(host: &Host, findings: &mut Findings) {
    let number = |name: &str| host.number::<u64>(&format!("/proc/sys/net/netfilter/{name}"));
    let Some((count, max)) = number("nf_conntrack_count").zip(number("nf_conntrack_max")) else {
        return;
    };
    let level = match count > max / 100 * TRACKED_PERCENT_MAX {
        true => Level::Fail,
        false => Level::Ok,
    };
    let measured = format!("{count} of {max} entries");
    let why = "with a full table the kernel drops connects, and says so in dmesg only";
    let remedy = "raise net.netfilter.nf_conntrack_max, or do not track the server's port";
    findings.measured(level, "conntrack", measured, why, remedy);
}

/// Packets that found a core's backlog full, of all that came.
fn dropped(host: &Host, findings: &mut Findings) {
    let Some(text) = host.text("/proc/net/softnet_stat") else {
        return;
    };
    let (mut all, mut lost) = (0, 0);
    for line in text.lines() {
        let mut columns = line.split_whitespace();
        let mut next = || u64::from_str_radix(columns.next().unwrap_or("0"), 16).unwrap_or(0);
        all += next();
        lost += next();
    }
    let measured = format!("{lost} of {all} packets dropped since the start");
    let why = "a core's backlog was full, and the packet is sent again 200 ms later at best";
    let remedy = format!("{TUNER}: net.core.netdev_max_backlog");
    findings.measured(rate(lost, all), "backlog-drops", measured, why, remedy);
}

/// Packets for which the card had no room.
fn missed(host: &Host, card: &str, findings: &mut Findings) {
    let number = |name: &str| {
        let path = format!("/sys/class/net/{card}/statistics/{name}");
        host.number::<u64>(&path)
    };
    let Some((lost, all)) = number("rx_missed_errors").zip(number("rx_packets")) else {
        return;
    };
    let measured = format!("{card}: {lost} of {all} packets dropped by the card");
    let why = "its ring was full: the core that empties it was busy";
    let remedy = format!("ethtool -G {card} rx 4096, and more queues: {TUNER}");
    findings.measured(rate(lost, all), "card-drops", measured, why, remedy);
}

fn rate(lost: u64, all: u64) -> Level {
    match lost > all / LOST_OF {
        true => Level::Warn,
        false => Level::Ok,
    }
}

fn duplex(host: &Host, card: &str, findings: &mut Findings) {
    let Some(duplex) = host.text(&format!("/sys/class/net/{card}/duplex")) else {
        return;
    };
    let speed: Option<i64> = host.number(&format!("/sys/class/net/{card}/speed"));
    let speed = speed.filter(|speed| *speed > 0);
    let shown = speed.map_or("unknown speed".to_owned(), |it| format!("{it} Mbit/s"));
    let level = match duplex == "half" {
        true => Level::Warn,
        false => Level::Ok,
    };
    let why = "at half duplex a link cannot send while it receives: a bad cable or port, mostly";
    let remedy = format!("change cable or port, and look at ethtool {card}");
    let measured = format!("{card}: {shown}, {duplex} duplex");
    findings.measured(level, "link", measured, why, remedy);
}
