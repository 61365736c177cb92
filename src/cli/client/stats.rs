//! `ringmesh stats` as people read it: the node, a row for each shard, a row for each latency.
//!
//! With an earlier report of the same process, what grows is shown per second; without one, in
//! all. What a server does not know is shown as `-`.

use super::table::{printable, table};
use crate::metrics::Stage;
use crate::metrics::report::{DistributionReport, NodeReport, ShardReport};

/// Heads of the shards' table, and what each column shows.
const SHARD_COLUMNS: [(&str, Column); 14] = [
    ("SHARD", Column::Plain(|it| it.shard.into())),
    ("CPU", Column::Share(|it| it.cpu_ms)),
    ("CONNS", Column::Plain(|it| it.connections)),
    ("CHANNELS", Column::Plain(|it| it.channels)),
    ("PEERS", Column::Plain(|it| it.peers)),
    ("IN", Column::Grows(|it| it.totals.messages_received, count)),
    ("OUT", Column::Grows(|it| it.totals.messages_sent, count)),
    (
        "BYTES IN",
        Column::Grows(|it| it.totals.bytes_received, bytes),
    ),
    ("BYTES OUT", Column::Grows(|it| it.totals.bytes_sent, bytes)),
    ("QUEUED", Column::Bytes(|it| it.outbound_queue_bytes)),
    ("BLOCKED", Column::Plain(|it| it.connections_blocked)),
    (
        "FAN-OUT P99",
        Column::Micros(|it| it.latencies.fan_out.p99_us),
    ),
    (
        "LOOP P99",
        Column::Micros(|it| it.latencies.loop_lag.p99_us),
    ),
    (
        "LOOP MAX",
        Column::Micros(|it| it.latencies.loop_lag.max_us),
    ),
];

/// The latencies, in the order in which a message passes them.
const LATENCIES: [(Stage, &str); Stage::ALL.len()] = [
    (Stage::Handshake, "handshake"),
    (Stage::ReadToCommand, "read to command"),
    (Stage::CommandToOrder, "command to order"),
    (Stage::MeshHop, "mesh hop"),
    (Stage::OrderToLastWrite, "order to last write"),
    (Stage::FanOut, "fan-out"),
    (Stage::Direct, "direct message"),
    (Stage::Reply, "reply"),
    (Stage::Snapshot, "snapshot"),
    (Stage::LoopLag, "loop lag"),
    (Stage::Rest, "REST"),
];

/// What a column shows of a shard.
#[derive(Clone, Copy)]
enum Column {
    Plain(fn(&ShardReport) -> u64),
    Bytes(fn(&ShardReport) -> u64),
    Micros(fn(&ShardReport) -> Option<f64>),
    /// What only grows, and how it is written.
    Grows(fn(&ShardReport) -> u64, fn(f64) -> String),
    /// Milliseconds of a core's time, as its share of the time.
    Share(fn(&ShardReport) -> u64),
}

/// A report, and what it may be compared with.
struct View<'a> {
    now: &'a NodeReport,
    earlier: Option<&'a NodeReport>,
    /// Between the two, by the server's clock.
    elapsed_sec: f64,
}

/// A report as tables. `earlier` is what the same server told before.
#[must_use]
pub fn render(now: &NodeReport, earlier: Option<&NodeReport>) -> String {
    let uptime_ms = now.process.uptime_ms;
    // A server that was started again is younger than it was.
    let earlier = earlier.filter(|earlier| earlier.process.uptime_ms < uptime_ms);
    let since_ms = earlier.map_or(0, |earlier| earlier.process.uptime_ms);
    let view = View {
        now,
        earlier,
        elapsed_sec: (uptime_ms - since_ms) as f64 / 1_000.0,
    };
    [view.node(), view.shards(), view.latencies()].join("\n")
}

impl View<'_> {
    /// One line about the process.
    fn node(&self) -> String {
        let process = &self.now.process;
        let earlier = self.earlier.map(|earlier| earlier.process.cpu_ms);
        format!(
            "ringmesh {}, up {}, CPU {}, memory {}, files {} of {}\n",
            printable(&self.now.version),
            duration(process.uptime_ms as f64 / 1_000.0),
            self.share(grown(process.cpu_ms, earlier)),
            bytes(process.resident_bytes as f64),
            process.open_files,
            process
                .open_files_max
                .map_or("-".to_owned(), |most| most.to_string()),
        )
    }

    fn shards(&self) -> String {
        let heads = SHARD_COLUMNS.map(|(head, column)| match (column, self.earlier) {
            (Column::Grows(..), Some(_)) => format!("{head}/S"),
            _ => head.to_owned(),
        });
        let shards = self.now.shards.iter().enumerate();
        let rows: Vec<Vec<_>> = shards
            .map(|(at, shard)| {
                let earlier = self.earlier.and_then(|earlier| earlier.shards.get(at));
                let columns = SHARD_COLUMNS.iter();
                columns
                    .map(|(_, column)| self.value(*column, shard, earlier))
                    .collect()
            })
            .collect();
        table(&heads.each_ref().map(String::as_str), &rows)
    }

    fn latencies(&self) -> String {
        let number = if self.earlier.is_some() {
            "COUNT/S"
        } else {
            "COUNT"
        };
        let heads = ["STAGE", number, "P50", "P90", "P99", "P99.9", "MAX"];
        let rows: Vec<Vec<_>> = LATENCIES
            .iter()
            .map(|(stage, shown)| {
                let of = self.now.latencies.get(*stage);
                let earlier = self.earlier.map(|it| it.latencies.get(*stage).count);
                let mut row = vec![
                    (*shown).to_owned(),
                    count(self.rate(grown(of.count, earlier))),
                ];
                row.extend(quantiles(of).map(micros_or_dash));
                row
            })
            .collect();
        table(&heads, &rows)
    }

    fn value(&self, column: Column, of: &ShardReport, earlier: Option<&ShardReport>) -> String {
        match column {
            Column::Plain(number) => number(of).to_string(),
            Column::Bytes(number) => bytes(number(of) as f64),
            Column::Micros(time) => micros_or_dash(time(of)),
            Column::Grows(number, written) => {
                written(self.rate(grown(number(of), earlier.map(number))))
            }
            Column::Share(ms) => self.share(grown(ms(of), earlier.map(ms))),
        }
    }

    /// What has grown so much: per second since the earlier report, or in all.
    fn rate(&self, grown: u64) -> f64 {
        match self.earlier {
            Some(_) => grown as f64 / self.elapsed_sec,
            None => grown as f64,
        }
    }

    /// Milliseconds of a core's time, as a share of the time that has passed.
    fn share(&self, ms: u64) -> String {
        if self.elapsed_sec > 0.0 {
            format!("{:.0}%", ms as f64 / 10.0 / self.elapsed_sec)
        } else {
            "-".to_owned()
        }
    }
}

/// By how much a number has grown, since the earlier report or in all.
fn grown(now: u64, earlier: Option<u64>) -> u64 {
    now.saturating_sub(earlier.unwrap_or(0))
}

fn quantiles(of: &DistributionReport) -> [Option<f64>; 5] {
    [of.p50_us, of.p90_us, of.p99_us, of.p999_us, of.max_us]
}

fn micros_or_dash(us: Option<f64>) -> String {
    us.map_or("-".to_owned(), micros)
}

/// A number with three significant digits at least: `7`, `12345`, `1.23 M`.
fn count(number: f64) -> String {
    match number {
        0.0..100_000.0 => format!("{number:.0}"),
        100_000.0..1e6 => format!("{:.0} k", number / 1e3),
        1e6..1e9 => format!("{:.2} M", number / 1e6),
        _ => format!("{:.2} G", number / 1e9),
    }
}

fn bytes(number: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut number, mut unit) = (number, 0);
    while number >= 1_024.0 && unit + 1 < UNITS.len() {
        number /= 1_024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0);
    format!("{number:.digits$} {}", UNITS[unit])
}

fn micros(us: f64) -> String {
    match us {
        0.0..10.0 => format!("{us:.1} us"),
        10.0..1e3 => format!("{us:.0} us"),
        1e3..1e6 => format!("{:.1} ms", us / 1e3),
        _ => format!("{:.1} s", us / 1e6),
    }
}

fn duration(sec: f64) -> String {
    let minutes = (sec / 60.0) as u64;
    match minutes {
        0 => format!("{sec:.0} s"),
        1..60 => format!("{minutes} min {:.0} s", sec - (minutes * 60) as f64),
        60..1_440 => format!("{} h {} min", minutes / 60, minutes % 60),
        _ => format!("{} d {} h", minutes / 1_440, minutes % 1_440 / 60),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(uptime_ms: u64, received: u64, cpu_ms: u64) -> NodeReport {
        let sent = json!({
            "version": "1.2.3",
            "process": {"uptimeMs": uptime_ms, "cpuMs": cpu_ms, "residentBytes": 12_900_000,
                "openFiles": 20, "openFilesMax": 1_024},
            "latencies": {"fanOut": {"count": received, "p50Us": 0.5, "p90Us": 40.0,
                "p99Us": 1_200.0, "p999Us": 2_000_000.0, "maxUs": 2_000_000.0}},
            "shards": [{"shard": 0, "cpuMs": cpu_ms, "connections": 7, "channels": 2, "peers": 6,
                "outboundQueueBytes": 2_048, "connectionsBlocked": 1,
                "totals": {"messagesReceived": received, "messagesSent": received * 1_000,
                    "bytesReceived": received * 100, "bytesSent": 0},
                "latencies": {"fanOut": {"p99Us": 1_200.0}, "loopLag": {"p99Us": null}}}],
        });
        serde_json::from_value(sent).unwrap()
    }

    #[test]
    fn without_an_earlier_report_numbers_are_those_since_the_start() {
        let text = render(&report(200_000, 5_000, 50_000), None);
        let expected = concat!(
            "ringmesh 1.2.3, up 3 min 20 s, CPU 25%, memory 12.3 MiB, files 20 of 1024\n\n",
            "SHARD  CPU  CONNS  CHANNELS  PEERS  IN    OUT     BYTES IN   BYTES OUT  QUEUED   ",
            "BLOCKED  FAN-OUT P99  LOOP P99  LOOP MAX\n",
            "0      25%  7      2         6      5000  5.00 M  488.3 KiB  0 B        2.0 KiB  ",
            "1        1.2 ms       -         -\n",
        );
        assert!(text.starts_with(expected), "{text}");
        let expected = "\
STAGE                COUNT  P50     P90    P99     P99.9  MAX
handshake            0      -       -      -       -      -
";
        assert!(text.contains(expected), "{text}");
        let expected = "fan-out              5000   0.5 us  40 us  1.2 ms  2.0 s  2.0 s\n";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn with_an_earlier_report_numbers_are_per_second() {
        let earlier = report(200_000, 5_000, 50_000);
        let text = render(&report(202_000, 5_600, 51_800), Some(&earlier));
        let shard = text.lines().nth(3).unwrap();
        let cells: Vec<_> = shard.split("  ").filter(|it| !it.is_empty()).collect();
        assert_eq!(cells[1], "90%");
        assert_eq!((cells[5].trim(), cells[6].trim()), ("300", "300 k"));
        assert!(text.contains("IN/S") && text.contains("COUNT/S"));
    }

    #[test]
    fn a_server_that_was_started_again_is_not_compared_with_the_one_before() {
        let earlier = report(200_000, 5_000, 50_000);
        let restarted = report(1_000, 10, 100);
        assert_eq!(render(&restarted, Some(&earlier)), render(&restarted, None));
    }

    #[test]
    fn a_server_that_says_little_breaks_nothing() {
        let little = NodeReport {
            shards: vec![ShardReport::default()],
            ..NodeReport::default()
        };
        for earlier in [None, Some(&little)] {
            let text = render(&little, earlier);
            let expected = "ringmesh , up 0 s, CPU -, memory 0 B, files 0 of -\n";
            assert!(text.starts_with(expected), "{text}");
        }
    }

    #[test]
    fn numbers_have_units() {
        for (written, expected) in [
            (count(0.4), "0"),
            (count(99_999.0), "99999"),
            (count(123_456.0), "123 k"),
            (count(7.5e9), "7.50 G"),
            (bytes(1_023.0), "1023 B"),
            (bytes(1.5 * 1_048_576.0), "1.5 MiB"),
            (micros(3.25), "3.2 us"),
            (micros(999.4), "999 us"),
            (micros(12_345.0), "12.3 ms"),
            (duration(59.0), "59 s"),
            (duration(3_600.0 * 5.5), "5 h 30 min"),
            (duration(86_400.0 * 2.5), "2 d 12 h"),
        ] {
            assert_eq!(written, expected);
        }
    }
}
