//! The report: one HTML page without any outside request.

use std::fmt::Write;

use crate::report::result::{Point, ResultFile, RunResult, Series, median_of};
use crate::report::summary::{COLUMNS, figures, seconds, title};
use crate::report::svg::{Axis, Line, STYLE as CHART_STYLE, chart, escape};
use crate::report::units::{bytes, count, duration, is_resolved, percentile};

/// Beside that of the charts.
const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2rem auto;padding:0 1rem;\
color:#1c2024;background:#fff;overflow-wrap:break-word}\
h1{font-size:1.6rem}h2{font-size:1.25rem;border-top:1px solid var(--grid);padding-top:1.2rem;\
margin-top:2.5rem}\
.scroll{overflow-x:auto;margin:1rem 0}.charts .scroll{margin:0}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
th,td{padding:.2rem .7rem;text-align:right;border-bottom:1px solid var(--grid);\
white-space:nowrap}th:first-child,td:first-child{text-align:left;padding-left:0}\
td:first-child{white-space:normal}tr.median{font-weight:600}\
code{display:block;background:#f2f4f6;padding:.4rem .7rem;border-radius:3px;\
overflow-wrap:anywhere}\
.note{background:#fff7e0;padding:.4rem .8rem;border-left:3px solid #d4a72c}\
@media(prefers-color-scheme:dark){body{color:#e6e9ec;background:#15181c}\
code{background:#262b31}.note{background:#3a3115}}";

/// The page of a result file.
pub(crate) fn page(file: &ResultFile) -> String {
    let mut out = String::new();
    put(
        &mut out,
        format_args!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\">\
             <title>ringmesh load report</title><style>{CHART_STYLE}{STYLE}</style></head><body>\
             <h1>Load report</h1><p>{} · kernel {} · {} cores · harness {}</p>",
            escape(&file.machine.processor),
            escape(&file.machine.kernel),
            file.machine.cores,
            escape(&file.harness)
        ),
    );
    put(
        &mut out,
        format_args!(
            "<p>Latencies count from the time at which each message should have been sent. Every \
             message was checked to arrive exactly once and in order. What lies left of 0 s in a \
             chart is warm-up, and in no figure.</p>"
        ),
    );
    overview(&mut out, file);
    for run in &file.runs {
        section(&mut out, run);
    }
    out.push_str("</body></html>\n");
    out
}

fn overview(out: &mut String, file: &ResultFile) {
    out.push_str(
        "<div class=\"scroll\"><table><tr><th>run</th><th>received/s</th>\
         <th>server CPU each</th><th>harness CPU each</th><th>p50</th><th>p99</th>\
         <th>p99.9</th></tr>",
    );
    for (at, run) in file.runs.iter().enumerate() {
        overview_row(out, "", &title(run), &[run]);
        let is_last = file
            .runs
            .get(at + 1)
            .is_none_or(|next| next.name != run.name);
        if is_last && run.repetition > 1 {
            let all: Vec<&RunResult> = file.runs.iter().filter(|r| r.name == run.name).collect();
            let name = format!("{}: median of {}", run.name, all.len());
            overview_row(out, " class=\"median\"", &name, &all);
        }
    }
    out.push_str("</table></div>");
}

/// A row with the medians of these runs.
fn overview_row(out: &mut String, class: &str, name: &str, runs: &[&RunResult]) {
    let time = |ns: Option<f64>| ns.map_or("–".into(), |ns| duration(ns as u64));
    let latency = |p: f64| {
        time(median_of(runs, |run| {
            let series = run.series.first()?;
            is_resolved(series.count, p).then(|| series.at(p) as f64)
        }))
    };
    let rate = median_of(runs, |run| Some(run.received as f64 / run.seconds));
    put(
        out,
        format_args!(
            "<tr{class}><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
             <td>{}</td></tr>",
            escape(name),
            rate.map_or("–".into(), count),
            time(median_of(runs, |run| {
                run.server.as_ref()?.cpu_ns_per_unit
            })),
            time(median_of(runs, |run| run.load.cpu_ns_per_unit)),
            latency(50.0),
            latency(99.0),
            latency(99.9)
        ),
    );
}

fn section(out: &mut String, run: &RunResult) {
    put(
        out,
        format_args!(
            "<h2>{}</h2><code>{}</code><p>{} · {} · {} measured · load from {} · {} \
             connections · {} sent · {} received · {} verified</p>",
            escape(&title(run)),
            escape(&run.command),
            escape(&run.url),
            began(run),
            seconds(run),
            cores(&run.load.cores),
            count(f64::from(run.connections)),
            count(run.sent as f64),
            count(run.received as f64),
            count(run.verified as f64),
        ),
    );
    for note in &run.notes {
        put(out, format_args!("<p class=\"note\">{}</p>", escape(note)));
    }
    latency_table(out, run);
    out.push_str("<div class=\"charts\">");
    charts(out, run);
    figure_table(out, run);
    out.push_str("</div>");
}

/// When it began, as UTC.
fn began(run: &RunResult) -> String {
    let timestamp = i64::try_from(run.started_unix)
        .ok()
        .and_then(|second| jiff::Timestamp::from_second(second).ok());
    timestamp.map_or("an unknown time".into(), |time| time.to_string())
}

fn cores(cores: &[usize]) -> String {
    let numbers: Vec<String> = cores.iter().map(ToString::to_string).collect();
    let noun = if cores.len() == 1 { "core" } else { "cores" };
    format!("{noun} {}", numbers.join(", "))
}

fn charts(out: &mut String, run: &RunResult) {
    out.push_str(&percentile_chart(run));
    let time = time_axis(&run.timeline);
    out.push_str(&time_chart(
        "Latency over time",
        run,
        &time,
        duration_axis,
        |point| {
            let (p50, p99, max) = point.latency_ns?;
            Some(vec![
                ("p50", p50 as f64),
                ("p99", p99 as f64),
                ("max", max as f64),
            ])
        },
    ));
    out.push_str(&time_chart(
        "Messages per second",
        run,
        &time,
        count_axis,
        |point| {
            Some(vec![
                ("received", point.received_per_s),
                ("sent", point.sent_per_s),
            ])
        },
    ));
    out.push_str(&time_chart(
        "CPU, share of one core",
        run,
        &time,
        cores_axis,
        |point| {
            let mut values = vec![("harness", point.load_cores)];
            values.extend(point.server_cores.map(|cores| ("server", cores)));
            Some(values)
        },
    ));
    out.push_str(&time_chart(
        "Server memory",
        run,
        &time,
        bytes_axis,
        |point| Some(vec![("resident", point.rss_bytes? as f64)]),
    ));
}

fn latency_table(out: &mut String, run: &RunResult) {
    if run.series.is_empty() {
        return;
    }
    out.push_str("<div class=\"scroll\"><table><tr><th>latency</th><th>samples</th>");
    for (name, _) in COLUMNS {
        put(out, format_args!("<th>{name}</th>"));
    }
    out.push_str("</tr>");
    for series in &run.series {
        let name = escape(&series.name);
        put(
            out,
            format_args!("<tr><td>{name}</td><td>{}</td>", count(series.count as f64)),
        );
        for (_, p) in COLUMNS {
            let text = percentile(series.count, p, series.at(p));
            put(out, format_args!("<td>{text}</td>"));
        }
        out.push_str("</tr>");
    }
    out.push_str("</table></div>");
}

fn figure_table(out: &mut String, run: &RunResult) {
    out.push_str("<div class=\"scroll\"><table><tr><th>figure</th><th>value</th></tr>");
    let is_latency = |name: &str| run.series.iter().any(|s| name.starts_with(&s.name));
    for figure in figures(run) {
        let Some(value) = figure.value(run).filter(|_| !is_latency(&figure.name)) else {
            continue;
        };
        let (name, text) = (escape(&figure.name), figure.text(value));
        put(out, format_args!("<tr><td>{name}</td><td>{text}</td></tr>"));
    }
    if let Some(server) = &run.server {
        let rows = [
            (
                "server CPU, share of a core",
                format!("{:.1}%", server.cores * 100.0),
            ),
            ("ksoftirqd CPU in the window", duration(server.ksoftirqd_ns)),
            (
                "server memory before",
                bytes(server.rss_before_bytes as f64),
            ),
            ("server memory ready", bytes(server.rss_ready_bytes as f64)),
            (
                "server memory at the end",
                bytes(server.rss_end_bytes as f64),
            ),
        ];
        for (name, text) in rows {
            put(out, format_args!("<tr><td>{name}</td><td>{text}</td></tr>"));
        }
    }
    put(
        out,
        format_args!(
            "<tr><td>harness CPU, share of its cores</td><td>{:.1}%</td></tr>\
             <tr><td>harness sent late by (p99)</td><td>{}</td></tr></table></div>",
            run.load.busy * 100.0,
            duration(run.load.lag_p99_ns)
        ),
    );
}

/// Latency by percentile, on the scale on which each further nine takes the same room.
fn percentile_chart(run: &RunResult) -> String {
    let nines = |percentile: f64| -((100.0 - percentile) / 100.0).log10();
    let of_series = |series: &Series| Line {
        name: series.name.clone(),
        points: series
            .percentiles
            .iter()
            // Beyond one sample in the tail there is nothing to draw.
            .filter(|(p, _)| *p < 100.0 && is_resolved(series.count, *p))
            .map(|(p, ns)| (nines(*p), *ns as f64))
            .collect(),
    };
    let lines: Vec<Line> = run.series.iter().map(of_series).collect();
    let points = lines.iter().flat_map(|line| &line.points);
    let end = points.map(|point| point.0).fold(1.0, f64::max).ceil();
    let places = [50.0, 90.0, 99.0, 99.9, 99.99, 99.999];
    let x = Axis {
        ticks: places
            .iter()
            .map(|p| (nines(*p), format!("{p}%")))
            .filter(|(at, _)| *at < end + 0.01)
            .collect(),
        range: (0.0, end),
    };
    chart(
        "Latency by percentile",
        &lines,
        &x,
        &duration_axis(highest(&lines)),
    )
}

fn time_chart(
    title: &str,
    run: &RunResult,
    x: &Axis,
    y: impl Fn(f64) -> Axis,
    values: impl Fn(&Point) -> Option<Vec<(&'static str, f64)>>,
) -> String {
    let mut lines: Vec<Line> = Vec::new();
    for point in &run.timeline {
        for (name, value) in values(point).unwrap_or_default() {
            match lines.iter_mut().find(|line| line.name == name) {
                Some(line) => line.points.push((point.at_s, value)),
                None => lines.push(Line {
                    name: name.into(),
                    points: vec![(point.at_s, value)],
                }),
            }
        }
    }
    chart(title, &lines, x, &y(highest(&lines)))
}

fn highest(lines: &[Line]) -> f64 {
    lines
        .iter()
        .flat_map(|line| &line.points)
        .map(|point| point.1)
        .fold(0.0, f64::max)
}

fn time_axis(timeline: &[Point]) -> Axis {
    let ends = (
        timeline.first().map_or(0.0, |p| p.at_s),
        timeline.last().map_or(1.0, |p| p.at_s),
    );
    Axis::spanning(ends, |s| format!("{s} s"))
}

fn duration_axis(max: f64) -> Axis {
    Axis::linear(max, |ns| match ns as u64 {
        0 => "0".into(),
        ns => duration(ns),
    })
}

fn count_axis(max: f64) -> Axis {
    Axis::linear(max, count)
}

/// Share of one core.
fn cores_axis(max: f64) -> Axis {
    Axis::linear_in(0.01, max, |percent| format!("{percent}%"))
}

fn bytes_axis(max: f64) -> Axis {
    let units = [(1024.0 * 1024.0 * 1024.0, "GiB"), (1024.0 * 1024.0, "MiB")];
    let (unit, name) = units
        .into_iter()
        .find(|(unit, _)| max >= 2.0 * unit)
        .unwrap_or((1024.0, "KiB"));
    Axis::linear_in(unit, max, |value| format!("{value} {name}"))
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _infallible = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::summary::example;

    #[test]
    fn the_page_needs_nothing_from_outside_and_says_what_was_run() {
        let mut run = example(1, 2_990.0);
        run.name = "<b>&".into();
        let point = |at_s: f64| Point {
            at_s,
            received_per_s: 80_000.0,
            latency_ns: Some((2_000_000, 4_800_000, 6_000_000)),
            server_cores: Some(0.5),
            rss_bytes: Some(64 << 20),
            ..Point::default()
        };
        run.timeline = vec![point(-0.25), point(0.0), point(0.25)];
        let page = page(&ResultFile::new(vec![run]));
        for outside in ["http:", "https:", "src=", "href=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("&lt;b&gt;&amp;") && !page.contains("<b>&"));
        let charts = [
            "Latency by percentile",
            "Latency over time",
            "Server memory",
        ];
        for part in charts
            .iter()
            .chain(&["2.99 µs", "<code>fanout</code>", "p99.99"])
            .chain(&["1970-01-01T00:00:00Z", "load from core 1"])
        {
            assert!(page.contains(part), "{part}");
        }
    }

    #[test]
    fn repetitions_have_a_row_with_their_medians() {
        let runs = [3_000.0, 9_000.0, 3_100.0].iter().enumerate();
        let file = ResultFile::new(runs.map(|(at, ns)| example(at as u32 + 1, *ns)).collect());
        let page = page(&file);
        let row =
            "<tr class=\"median\"><td>fanout: median of 3</td><td>80,000</td><td>3.10 µs</td>";
        assert!(page.contains(row), "{page}");
        assert_eq!(page.matches("class=\"median\"").count(), 1);
    }

    #[test]
    fn axes_have_round_numbers_of_their_unit() {
        let texts = |axis: Axis| axis.ticks.into_iter().map(|t| t.1).collect::<Vec<_>>();
        let mib = texts(bytes_axis(11.9 * 1024.0 * 1024.0));
        assert_eq!(
            mib,
            ["0 MiB", "2.5 MiB", "5 MiB", "7.5 MiB", "10 MiB", "12.5 MiB"]
        );
        assert_eq!(
            texts(cores_axis(0.05)),
            ["0%", "1%", "2%", "3%", "4%", "5%"]
        );
    }
}
