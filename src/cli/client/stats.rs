//! `ringmesh stats` as people read it: the node, its sums, a row for each shard, a row for each
//! latency, and why connections ended.
//!
//! With an earlier report of the same process, what grows is shown per second; without one, in
//! all. What a server does not know is shown as `-`.

use crate::cli::table::{Column as TableColumn, Table};
use crate::cli::terminal::{Terminal, printable};
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

/// The same of all shards together, with who came and went.
const SUM_COLUMNS: [(&str, Column); 12] = [
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
    ("OPENED", OPENED),
    ("CLOSED", CLOSED),
    ("REFUSED", REFUSED),
];

/// The connections of each shard.
const CONNECTION_COLUMNS: [(&str, Column); 8] = [
    ("SHARD", Column::Plain(|it| it.shard.into())),
    ("CONNS", Column::Plain(|it| it.connections)),
    ("NEW", Column::Plain(|it| it.connections_unauthenticated)),
    ("OPENED", OPENED),
    ("CLOSED", CLOSED),
    ("REFUSED", REFUSED),
    ("QUEUED", Column::Bytes(|it| it.outbound_queue_bytes)),
    ("BLOCKED", Column::Plain(|it| it.connections_blocked)),
];

const OPENED: Column = Column::Grows(|it| it.totals.connections_opened, count);
const CLOSED: Column = Column::Grows(|it| it.totals.connections_closed.values().sum(), count);
const REFUSED: Column = Column::Grows(|it| it.totals.handshakes_refused.values().sum(), count);

/// What rows of shards can be sorted by; all but the first with the largest on top.
pub(crate) const ORDERS: [&str; 6] = [
    "shard",
    "CPU",
    "connections",
    "messages",
    "bytes out",
    "queued bytes",
];

/// A part of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// One line about the process.
    Node,
    /// All shards together.
    Sums,
    /// A row for each shard.
    Shards,
    /// A row for each latency.
    Latency,
    /// Who came and went, and why.
    Connections,
}

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
    terminal: &'a Terminal,
    /// One of [`ORDERS`].
    order: usize,
}

/// Parts of a report as tables. `earlier` is what the same server told before, `order` one of
/// [`ORDERS`].
#[must_use]
pub(crate) fn render(
    now: &NodeReport,
    earlier: Option<&NodeReport>,
    parts: &[Part],
    order: usize,
    terminal: &Terminal,
) -> String {
    let uptime_ms = now.process.uptime_ms;
    // A server that was started again is younger than it was.
    let earlier = earlier.filter(|earlier| earlier.process.uptime_ms < uptime_ms);
    let since_ms = earlier.map_or(0, |earlier| earlier.process.uptime_ms);
    let view = View {
        now,
        earlier,
        elapsed_sec: (uptime_ms - since_ms) as f64 / 1_000.0,
        terminal,
        order,
    };
    let part = |part: &Part| match part {
        Part::Node => view.node(),
        Part::Sums => view.sums(),
        Part::Shards => view.table_of(&SHARD_COLUMNS),
        Part::Latency => view.latencies(),
        Part::Connections => view.connections(),
    };
    parts.iter().map(part).collect::<Vec<_>>().join("\n")
}

impl View<'_> {
    /// One line about the process.
    fn node(&self) -> String {
        let process = &self.now.process;
        let earlier = self.earlier.map(|earlier| earlier.process.cpu_ms);
        let ceiling = process.resident_bytes_max;
        format!(
            "ringmesh {}, up {}, CPU {}, memory {}{}, files {} of {}\n",
            printable(&self.now.version),
            duration(process.uptime_ms as f64 / 1_000.0),
            self.share(grown(process.cpu_ms, earlier)),
            bytes(process.resident_bytes as f64),
            ceiling.map_or(String::new(), |most| format!(" of {}", bytes(most as f64))),
            process.open_files,
            process
                .open_files_max
                .map_or("-".to_owned(), |most| most.to_string()),
        )
    }

    /// All shards as one.
    fn sums(&self) -> String {
        let now = sum_of(&self.now.shards);
        let earlier = self.earlier.map(|earlier| sum_of(&earlier.shards));
        let columns = SUM_COLUMNS.iter();
        let row = columns.map(|(_, column)| self.value(*column, &now, earlier.as_ref()));
        let columns = SUM_COLUMNS.map(|it| TableColumn::number(self.head(it)));
        Table::new(columns, vec![row.collect()]).in_parts(self.terminal)
    }

    /// A row for each shard.
    fn table_of(&self, columns: &[(&'static str, Column)]) -> String {
        let shards = self.now.shards.iter().enumerate();
        let earlier = |at: usize| self.earlier.and_then(|earlier| earlier.shards.get(at));
        let mut shards: Vec<_> = shards.map(|(at, shard)| (shard, earlier(at))).collect();
        if self.order > 0 {
            let key = |(shard, earlier): &(&ShardReport, Option<&ShardReport>)| {
                self.order_of(shard, *earlier)
            };
            shards.sort_by_key(|row| std::cmp::Reverse(key(row)));
        }
        let row = |(shard, earlier): &(&ShardReport, Option<&ShardReport>)| {
            let columns = columns.iter();
            let cells = columns.map(|(_, column)| self.value(*column, shard, *earlier));
            cells.collect()
        };
        let rows = shards.iter().map(row).collect();
        let heads = columns.iter().enumerate().map(|(at, it)| match at {
            0 => TableColumn::text(it.0),
            _ => TableColumn::number(self.head(*it)),
        });
        Table::new(heads, rows).in_parts(self.terminal)
    }

    /// What rows are sorted by.
    fn order_of(&self, shard: &ShardReport, earlier: Option<&ShardReport>) -> u64 {
        let grows = |number: fn(&ShardReport) -> u64| grown(number(shard), earlier.map(number));
        match self.order {
            1 => grows(|it| it.cpu_ms),
            2 => shard.connections,
            3 => grows(|it| it.totals.messages_received + it.totals.messages_sent),
            4 => grows(|it| it.totals.bytes_sent),
            _ => shard.outbound_queue_bytes,
        }
    }

    fn head(&self, (head, column): (&str, Column)) -> String {
        match (column, self.earlier) {
            (Column::Grows(..), Some(_)) => format!("{head}/S"),
            _ => head.to_owned(),
        }
    }

    /// The connections of each shard, and below them why some ended or never began.
    fn connections(&self) -> String {
        let shards = self.table_of(&CONNECTION_COLUMNS);
        let sum = sum_of(&self.now.shards).totals;
        let tallies = [
            ("closed", &sum.connections_closed),
            ("refused", &sum.handshakes_refused),
        ];
        let rows = tallies.iter().flat_map(|(what, tally)| {
            let causes = tally.iter().filter(|(_, number)| **number > 0);
            causes.map(move |(cause, number)| (*number, *what, cause))
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_key(|(number, ..)| std::cmp::Reverse(*number));
        let cells = |(number, what, cause): &(u64, &str, &String)| {
            vec![(*what).to_owned(), printable(cause), count(*number as f64)]
        };
        let columns = [
            TableColumn::text("SINCE THE START"),
            TableColumn::text("CAUSE"),
            TableColumn::number("COUNT"),
        ];
        let causes = Table::new(columns, rows.iter().map(cells).collect());
        format!("{shards}\n{}", causes.render(self.terminal))
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
        let mut columns = heads.map(TableColumn::number);
        columns[0] = TableColumn::text("STAGE");
        Table::new(columns, rows).in_parts(self.terminal)
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

/// All shards as one, without latencies: those are the node's.
fn sum_of(shards: &[ShardReport]) -> ShardReport {
    let mut sum = ShardReport::default();
    for shard in shards {
        sum.connections += shard.connections;
        sum.channels += shard.channels;
        sum.peers += shard.peers;
        sum.connections_blocked += shard.connections_blocked;
        sum.outbound_queue_bytes += shard.outbound_queue_bytes;
        let (all, own) = (&mut sum.totals, &shard.totals);
        all.connections_opened += own.connections_opened;
        all.messages_received += own.messages_received;
        all.messages_sent += own.messages_sent;
        all.bytes_received += own.bytes_received;
        all.bytes_sent += own.bytes_sent;
        for (cause, number) in &own.connections_closed {
            *all.connections_closed.entry(cause.clone()).or_default() += number;
        }
        for (cause, number) in &own.handshakes_refused {
            *all.handshakes_refused.entry(cause.clone()).or_default() += number;
        }
    }
    sum
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

    const ALL: [Part; 3] = [Part::Node, Part::Shards, Part::Latency];

    /// All parts, by shards.
    fn render(now: &NodeReport, earlier: Option<&NodeReport>, terminal: &Terminal) -> String {
        super::render(now, earlier, &ALL, 0, terminal)
    }

    fn report(uptime_ms: u64, received: u64, cpu_ms: u64) -> NodeReport {
        let sent = json!({
            "version": "1.2.3",
            "process": {"uptimeMs": uptime_ms, "cpuMs": cpu_ms, "residentBytes": 12_900_000,
                "residentBytesMax": 536_870_912, "openFiles": 20, "openFilesMax": 1_024},
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
        let text = render(&report(200_000, 5_000, 50_000), None, &Terminal::default());
        let expected = concat!(
            "ringmesh 1.2.3, up 3 min 20 s, CPU 25%, memory 12.3 MiB of 512.0 MiB, \
             files 20 of 1024\n\n",
            "SHARD  CPU  CONNS  CHANNELS  PEERS    IN     OUT   BYTES IN  BYTES OUT   QUEUED  ",
            "BLOCKED  FAN-OUT P99  LOOP P99  LOOP MAX\n",
            "0      25%      7         2      6  5000  5.00 M  488.3 KiB        0 B  2.0 KiB  ",
            "      1       1.2 ms         -         -\n",
        );
        assert!(text.starts_with(expected), "{text}");
        let expected = "\
STAGE                COUNT     P50    P90     P99  P99.9    MAX
handshake                0       -      -       -      -      -
";
        assert!(text.contains(expected), "{text}");
        let expected = "fan-out               5000  0.5 us  40 us  1.2 ms  2.0 s  2.0 s\n";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn with_an_earlier_report_numbers_are_per_second() {
        let earlier = report(200_000, 5_000, 50_000);
        let text = render(
            &report(202_000, 5_600, 51_800),
            Some(&earlier),
            &Terminal::default(),
        );
        let shard = text.lines().nth(3).unwrap();
        let cells = shard.split("  ").map(str::trim).filter(|it| !it.is_empty());
        let cells: Vec<_> = cells.collect();
        assert_eq!(cells[1], "90%");
        assert_eq!((cells[5], cells[6]), ("300", "300 k"));
        assert!(text.contains("IN/S") && text.contains("COUNT/S"));
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in [40, 80, 120] {
            let terminal = Terminal {
                width: Some(width),
                ..Terminal::default()
            };
            let text = render(&report(200_000, 5_000, 50_000), None, &terminal);
            // The first line is a sentence, which a terminal wraps.
            for line in text.lines().skip(1) {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
            assert!(
                text.contains("LOOP MAX") && text.contains("P99.9"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_server_that_was_started_again_is_not_compared_with_the_one_before() {
        let earlier = report(200_000, 5_000, 50_000);
        let restarted = report(1_000, 10, 100);
        assert_eq!(
            render(&restarted, Some(&earlier), &Terminal::default()),
            render(&restarted, None, &Terminal::default())
        );
    }

    #[test]
    fn a_server_that_says_little_breaks_nothing() {
        let little = NodeReport {
            shards: vec![ShardReport::default()],
            ..NodeReport::default()
        };
        for earlier in [None, Some(&little)] {
            let text = render(&little, earlier, &Terminal::default());
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

    #[test]
    fn pages_fit_on_eighty_columns() {
        let mut now = report(202_000, 5_600, 51_800);
        let second = report(202_000, 9_000, 10).shards.remove(0);
        now.shards.push(ShardReport { shard: 1, ..second });
        for (shard, causes) in [(0, ["client_close", "reset"]), (1, ["reset", "kicked"])] {
            let totals = &mut now.shards[shard].totals;
            totals.connections_opened = 40;
            let causes = causes.map(|cause| (cause.to_owned(), 7));
            totals.connections_closed = causes.into();
            totals.handshakes_refused = [("unknown_key".to_owned(), 3)].into();
        }
        let terminal = Terminal {
            width: Some(80),
            ..Terminal::default()
        };
        let page = |part, order| super::render(&now, None, &[part], order, &terminal);
        let sums = page(Part::Sums, 0);
        let expected = "\
CONNS  CHANNELS  PEERS     IN      OUT  BYTES IN  BYTES OUT   QUEUED  BLOCKED
   14         4     12  14600  14.60 M   1.4 MiB        0 B  4.0 KiB        2

CONNS  OPENED  CLOSED  REFUSED
   14      80      28        6
";
        assert_eq!(sums, expected);
        let connections = page(Part::Connections, 0);
        let expected = "\
SHARD  CONNS  NEW  OPENED  CLOSED  REFUSED   QUEUED  BLOCKED
0          7    0      40      14        3  2.0 KiB        1
1          7    0      40      14        3  2.0 KiB        1

SINCE THE START  CAUSE         COUNT
closed           reset            14
closed           client_close      7
closed           kicked            7
refused          unknown_key       6
";
        assert_eq!(connections, expected);
        for order in 0..ORDERS.len() {
            let shards = page(Part::Shards, order);
            let first = shards.lines().nth(1).unwrap();
            // The other one has more messages.
            let expected = if order == 3 { "1 " } else { "0 " };
            assert!(first.starts_with(expected), "{order}: {shards}");
            assert!(
                shards.lines().all(|line| line.chars().count() <= 80),
                "{shards}"
            );
        }
    }
}
