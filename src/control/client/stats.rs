//! `ringmesh stats` as people read it: the node, a row for each shard, a row for each stage.
//!
//! With an earlier answer of the same process, what grows is shown per second; without one, in
//! all. What an answer does not have is shown as `-`.

use serde_json::Value;

use super::show::{cell, table};

/// Heads of the shards' table, and where each column's value is found.
const SHARD_COLUMNS: [(&str, Column); 14] = [
    ("SHARD", Column::Plain("/shard")),
    ("CPU", Column::Share("/cpuMs")),
    ("CONNS", Column::Plain("/connections")),
    ("CHANNELS", Column::Plain("/channels")),
    ("PEERS", Column::Plain("/peers")),
    ("IN", Column::Grows("/totals/messagesReceived", count)),
    ("OUT", Column::Grows("/totals/messagesSent", count)),
    ("BYTES IN", Column::Grows("/totals/bytesReceived", bytes)),
    ("BYTES OUT", Column::Grows("/totals/bytesSent", bytes)),
    ("QUEUED", Column::Now("/outboundQueueBytes", bytes)),
    ("BLOCKED", Column::Plain("/connectionsBlocked")),
    (
        "FAN-OUT P99",
        Column::Now("/latencies/fanOut/p99Us", micros),
    ),
    ("LOOP P99", Column::Now("/latencies/loopLag/p99Us", micros)),
    ("LOOP MAX", Column::Now("/latencies/loopLag/maxUs", micros)),
];

/// The stages, in the order in which a message passes them.
const STAGES: [(&str, &str); 11] = [
    ("handshake", "handshake"),
    ("readToCommand", "read to command"),
    ("commandToOrder", "command to order"),
    ("meshHop", "mesh hop"),
    ("orderToLastWrite", "order to last write"),
    ("fanOut", "fan-out"),
    ("direct", "direct message"),
    ("reply", "reply"),
    ("snapshot", "snapshot"),
    ("loopLag", "loop lag"),
    ("rest", "REST"),
];

/// How a column's value is come by: a JSON pointer (RFC 6901), and how it is written.
#[derive(Clone, Copy)]
enum Column {
    Plain(&'static str),
    Now(&'static str, fn(f64) -> String),
    Grows(&'static str, fn(f64) -> String),
    /// Milliseconds of a core's time, as its share of the time.
    Share(&'static str),
}

/// An answer, and what it may be compared with.
struct View<'a> {
    now: &'a Value,
    earlier: Option<&'a Value>,
    /// Between the two, by the server's clock.
    elapsed_sec: f64,
}

/// An answer as tables. `earlier` is what the same server answered before.
pub fn render(now: &Value, earlier: Option<&Value>) -> String {
    let uptime_ms = |answer: &Value| answer["process"]["uptimeMs"].as_f64();
    let elapsed_ms = earlier.and_then(|earlier| Some(uptime_ms(now)? - uptime_ms(earlier)?));
    // A server that was started again is younger than it was.
    let elapsed_ms = elapsed_ms.filter(|elapsed_ms| *elapsed_ms > 0.0);
    let view = View {
        now,
        earlier: earlier.filter(|_| elapsed_ms.is_some()),
        elapsed_sec: elapsed_ms.or(uptime_ms(now)).unwrap_or(0.0) / 1_000.0,
    };
    [view.node(), view.shards(), view.stages()].join("\n")
}

impl View<'_> {
    /// One line about the process.
    fn node(&self) -> String {
        let version = cell(&self.now["version"]);
        let process = &self.now["process"];
        let text =
            |name: &str, written: fn(f64) -> String| written_or_dash(&process[name], written);
        let uptime = text("uptimeMs", |ms| duration(ms / 1_000.0));
        let memory = text("residentBytes", bytes);
        let files = format!(
            "{} of {}",
            cell(&process["openFiles"]),
            cell(&process["openFilesMax"])
        );
        let cpu = self.share(self.now, self.earlier, "/process/cpuMs");
        format!("ringmesh {version}, up {uptime}, CPU {cpu}, memory {memory}, files {files}\n")
    }

    fn shards(&self) -> String {
        let heads = SHARD_COLUMNS.map(|(head, column)| match (column, self.earlier) {
            (Column::Grows(..), Some(_)) => format!("{head}/S"),
            _ => head.to_owned(),
        });
        let shards = self.now["shards"].as_array().map_or(&[][..], Vec::as_slice);
        let rows: Vec<Vec<_>> = shards
            .iter()
            .enumerate()
            .map(|(at, shard)| {
                let earlier = self.earlier.map(|earlier| &earlier["shards"][at]);
                let columns = SHARD_COLUMNS.iter();
                columns
                    .map(|(_, column)| self.value(*column, shard, earlier))
                    .collect()
            })
            .collect();
        table(&heads.each_ref().map(String::as_str), &rows)
    }

    fn stages(&self) -> String {
        let number = if self.earlier.is_some() {
            "COUNT/S"
        } else {
            "COUNT"
        };
        let heads = ["STAGE", number, "P50", "P90", "P99", "P99.9", "MAX"];
        let rows: Vec<Vec<_>> = STAGES
            .iter()
            .map(|(name, shown)| {
                let stage = &self.now["latencies"][name];
                let earlier = self.earlier.map(|earlier| &earlier["latencies"][name]);
                let mut row = vec![
                    (*shown).to_owned(),
                    self.value(Column::Grows("/count", count), stage, earlier),
                ];
                let quantiles = ["p50Us", "p90Us", "p99Us", "p999Us", "maxUs"];
                row.extend(quantiles.map(|quantile| written_or_dash(&stage[quantile], micros)));
                row
            })
            .collect();
        table(&heads, &rows)
    }

    fn value(&self, column: Column, of: &Value, earlier: Option<&Value>) -> String {
        match column {
            Column::Plain(path) => cell(of.pointer(path).unwrap_or(&Value::Null)),
            Column::Now(path, written) => {
                written_or_dash(of.pointer(path).unwrap_or(&Value::Null), written)
            }
            Column::Grows(path, written) => {
                let grown = grown(of, earlier, path);
                let per = if earlier.is_some() {
                    self.elapsed_sec
                } else {
                    1.0
                };
                grown.map_or("-".to_owned(), |grown| written(grown / per))
            }
            Column::Share(path) => self.share(of, earlier, path),
        }
    }

    fn share(&self, of: &Value, earlier: Option<&Value>, path: &str) -> String {
        match grown(of, earlier, path) {
            Some(ms) if self.elapsed_sec > 0.0 => {
                format!("{:.0}%", ms / 10.0 / self.elapsed_sec)
            }
            _ => "-".to_owned(),
        }
    }
}

/// By how much a number has grown, since the earlier answer or in all.
fn grown(of: &Value, earlier: Option<&Value>, path: &str) -> Option<f64> {
    let number = |of: &Value| of.pointer(path)?.as_f64();
    let before = earlier.map_or(Some(0.0), number)?;
    Some((number(of)? - before).max(0.0))
}

fn written_or_dash(value: &Value, written: fn(f64) -> String) -> String {
    value.as_f64().map_or("-".to_owned(), written)
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

    fn answer(uptime_ms: u64, received: u64, cpu_ms: u64) -> Value {
        json!({
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
        })
    }

    #[test]
    fn without_an_earlier_answer_numbers_are_those_since_the_start() {
        let text = render(&answer(200_000, 5_000, 50_000), None);
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
handshake            -      -       -      -       -      -
";
        assert!(text.contains(expected), "{text}");
        let expected = "fan-out              5000   0.5 us  40 us  1.2 ms  2.0 s  2.0 s\n";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn with_an_earlier_answer_numbers_are_per_second() {
        let earlier = answer(200_000, 5_000, 50_000);
        let text = render(&answer(202_000, 5_600, 51_800), Some(&earlier));
        let shard = text.lines().nth(3).unwrap();
        let cells: Vec<_> = shard.split("  ").filter(|it| !it.is_empty()).collect();
        assert_eq!(cells[1], "90%");
        assert_eq!((cells[5].trim(), cells[6].trim()), ("300", "300 k"));
        assert!(text.contains("IN/S") && text.contains("COUNT/S"));
    }

    #[test]
    fn a_server_that_was_started_again_is_not_compared_with_the_one_before() {
        let earlier = answer(200_000, 5_000, 50_000);
        let restarted = answer(1_000, 10, 100);
        assert_eq!(render(&restarted, Some(&earlier)), render(&restarted, None));
    }

    #[test]
    fn what_is_missing_is_a_dash_and_nothing_breaks() {
        for answer in [json!({}), json!({"shards": [{}]}), json!(3)] {
            let text = render(&answer, Some(&answer));
            assert!(text.starts_with("ringmesh -, up -, CPU -"), "{text}");
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
