//! What so many connections and messages need, by measured figures, and whether the host has it.
//!
//! The figures are those of `tuning/README.md`, Sizing, where their measurements are named: two
//! cores of an Intel Xeon over loopback. A network card adds to them, so twice as much is asked.

use serde_json::{Value, json};

use super::host::Host;
use super::memory::shown;
use crate::cli::{DoctorArgs, Findings, Level};

/// Twice what was measured over loopback.
const MARGIN: u64 = 2;
/// Bytes of the process for an idle connection with one subscription: plain, over TLS.
const PROCESS_BYTES: [u64; 2] = [700, 4_433];
/// Bytes of the kernel for it.
const KERNEL_BYTES: u64 = 3_000;
/// CPU time of a connect to `welcome` and its close, in nanoseconds.
const CONNECT_NS: [u64; 2] = [16_000, 99_000];
/// CPU time of a delivery with one message in flight, in nanoseconds.
const DELIVERY_NS: [u64; 2] = [2_700, 4_400];
/// All clients are back within so many seconds after a failure of the network.
const RETURN_SECONDS: u64 = 60;
/// Bytes on the wire of a message with 128 bytes of data: envelope, frame, TCP, IP and Ethernet,
/// and the record of TLS.
const WIRE_BYTES: [u64; 2] = [350, 372];
/// Part of a core that shards should take at most, in percent: above it latency grows.
const BUSY_PERCENT_MAX: u64 = 70;
/// Descriptors that are not for connections: a reserve for operators, and what a server opens.
const OTHER_DESCRIPTORS: u64 = 160;

/// What is asked of the host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    connections: u64,
    tls: bool,
    /// Deliveries per second.
    deliveries: u64,
}

/// What the host has for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Has {
    /// Bytes that the server may use.
    pub ceiling_bytes: u64,
    /// Descriptors; `None` is unlimited.
    pub descriptors: Option<u64>,
    /// Thousandths of cores.
    pub millicores: u64,
}

/// What is needed for it, margin included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Needs {
    process_bytes: u64,
    kernel_bytes: u64,
    descriptors: u64,
    /// In the steady state, and while all come back at once.
    millicores: u64,
    megabits: u64,
}

impl Asked {
    /// What was typed; `None`: nothing of this kind.
    pub(super) fn new(args: &DoctorArgs) -> Option<Self> {
        let rate = u64::from(args.rate.unwrap_or(0));
        Some(Self {
            connections: args.connections?,
            tls: args.tls,
            deliveries: rate.saturating_mul(args.fan_out.unwrap_or(1).into()),
        })
    }

    fn needs(self) -> Needs {
        let of = |figures: [u64; 2]| figures[usize::from(self.tls)];
        let connects = self.connections / RETURN_SECONDS;
        // More than any host has is as much as can be said.
        let busy_ns = self.deliveries.saturating_mul(of(DELIVERY_NS));
        let busy_ns = busy_ns.saturating_add(connects * of(CONNECT_NS));
        // Nanoseconds of a second, as thousandths of a core.
        let millicores = busy_ns / 1_000_000 * 100 / BUSY_PERCENT_MAX;
        Needs {
            process_bytes: MARGIN * self.connections * of(PROCESS_BYTES),
            kernel_bytes: MARGIN * self.connections * KERNEL_BYTES,
            descriptors: self.connections + OTHER_DESCRIPTORS,
            millicores: MARGIN * millicores,
            megabits: self.deliveries.saturating_mul(of(WIRE_BYTES) * 8) / 1_000_000,
        }
    }
}

/// Says what is needed, and whether the host has it. Returns the same as JSON.
pub(super) fn look(host: &Host, asked: Asked, has: Has, findings: &mut Findings) -> Value {
    let needs = asked.needs();
    let level = |is_enough: bool| if is_enough { Level::Ok } else { Level::Fail };
    let mut add = |check, is_enough, measured: String, why: &str, remedy: &str| {
        findings.measured(level(is_enough), check, measured, why, remedy);
    };
    let all = host.memory("MemTotal").unwrap_or(u64::MAX);
    let needed = needs.process_bytes + needs.kernel_bytes;
    let is_enough = needs.process_bytes <= has.ceiling_bytes && needed <= all;
    let measured = format!(
        "{} for the server of {}, and {} for the kernel of {}",
        shown(needs.process_bytes),
        shown(has.ceiling_bytes),
        shown(needs.kernel_bytes),
        shown(all)
    );
    let why = "twice 700 B, over TLS 4,433 B, and 3,000 B of the kernel, for each connection";
    add(
        "size-memory",
        is_enough,
        measured,
        why,
        "take a host with more memory",
    );

    let is_enough = has
        .descriptors
        .is_none_or(|limit| needs.descriptors <= limit);
    let limit = has
        .descriptors
        .map_or("unlimited".to_owned(), |it| it.to_string());
    let measured = format!("{} of {limit}", needs.descriptors);
    let why = "one for each connection, and 160 for operators and the server itself";
    let remedy = "LimitNOFILE= in the unit; tuning/apply sets 1048576";
    add("size-descriptors", is_enough, measured, why, remedy);

    let is_enough = needs.millicores <= has.millicores;
    let measured = format!(
        "{} of {} cores",
        cores(needs.millicores),
        cores(has.millicores)
    );
    let why = "twice 2.7 µs a delivery and 16 µs a connect, over TLS 4.4 and 99 µs, all clients \
               back within a minute, cores 70% busy";
    let remedy = "take a host with more cores; one channel's order is made on one of them";
    add("size-cores", is_enough, measured, why, remedy);

    let speed = speed(host);
    let is_enough = speed.is_none_or(|speed| needs.megabits <= speed * BUSY_PERCENT_MAX / 100);
    let link = speed.map_or("a link of unknown speed".to_owned(), |it| format!("{it}"));
    let measured = format!("{} of {link} Mbit/s", needs.megabits);
    let why = "128 bytes of data are 350 bytes on the wire, and 372 over TLS";
    add(
        "size-bandwidth",
        is_enough,
        measured,
        why,
        "take a faster link, or send less",
    );
    json!({
        "memoryBytes": needs.process_bytes,
        "kernelBytes": needs.kernel_bytes,
        "descriptors": needs.descriptors,
        "millicores": needs.millicores,
        "megabits": needs.megabits,
    })
}

fn cores(millicores: u64) -> String {
    format!("{}.{}", millicores / 1_000, millicores % 1_000 / 100)
}

/// The speed of the fastest card, in Mbit/s.
fn speed(host: &Host) -> Option<u64> {
    let cards = host.cards();
    let speeds = cards.iter().filter_map(|card| {
        let speed: i64 = host.number(&format!("/sys/class/net/{card}/speed"))?;
        u64::try_from(speed).ok().filter(|speed| *speed > 0)
    });
    speeds.max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_needs_are_twice_the_measured_figures() {
        let asked = Asked {
            connections: 100_000,
            tls: true,
            deliveries: 100_000,
        };
        // 100,000 × 4.4 µs and 1,666 × 99 µs are 604 ms of a second, at 70% and twice.
        let expected = Needs {
            process_bytes: 886_600_000,
            kernel_bytes: 600_000_000,
            descriptors: 100_160,
            millicores: 1_724,
            megabits: 297,
        };
        assert_eq!(asked.needs(), expected);
        let idle = Asked {
            connections: 1_000,
            tls: false,
            deliveries: 0,
        };
        let needs = idle.needs();
        assert_eq!((needs.process_bytes, needs.megabits), (1_400_000, 0));
    }

    #[test]
    fn the_most_that_can_be_asked_is_too_much_for_any_host() {
        let asked = Asked {
            connections: 100_000_000,
            tls: true,
            deliveries: u64::from(u32::MAX) * u64::from(u32::MAX),
        };
        let needs = asked.needs();
        assert!(needs.millicores > 1_000 * 1_000_000 && needs.megabits > 1_000_000_000);
    }

    /// The figures stand in the runbook as well.
    #[test]
    fn the_figures_are_those_of_the_runbook() {
        let runbook = include_str!("../../tuning/README.md");
        for row in [
            "for an idle connection with one subscription | 700 B | 4.4 KB |",
            "| memory of the kernel for it, half of that of both ends | 3 KB | 3 KB |",
            "| CPU for a connect, to `welcome` and close | 16 µs | 99 µs, resumed 92 µs |",
            "| CPU for a delivery, one message in flight | 2.7 µs | 4.4 µs",
        ] {
            assert!(runbook.contains(row), "{row}");
        }
    }
}
