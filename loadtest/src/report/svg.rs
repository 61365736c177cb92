//! Line charts as inline SVG.

use std::fmt::Write;

/// Size of a chart in its own units. Two of them stand side by side on a wide page.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 210.0;
/// Room for the labels of the axes.
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 26.0;
const TOP: f64 = 10.0;
const RIGHT: f64 = 34.0;
/// Lines are told apart by colour (see [`STYLE`]) and, for who cannot see it, by these dashes.
const DASHES: [&str; 6] = ["", "6 3", "2 3", "8 3 2 3", "1 2", "10 4"];

/// The style sheet of the charts. On a phone they shrink, and their text grows in return.
pub(crate) const STYLE: &str = "\
:root{--line0:#0b62c4;--line1:#c4450b;--line2:#1a7f37;--line3:#7a3fb8;--line4:#8a6d00;\
--line5:#b0125b;--grid:#e6e9ec;--label:#57606a;--before:#f4f6f8}\
@media(prefers-color-scheme:dark){:root{--line0:#6cb0ff;--line1:#ff9a6b;--line2:#5fd07a;\
--line3:#c49bff;--line4:#e0c050;--line5:#ff7ab0;--grid:#333a42;--label:#aab2bb;\
--before:#1e2329}}\
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));\
gap:1rem 1.5rem;margin:1rem 0}figure{margin:0}figcaption{font-weight:600}\
figure>svg{display:block;width:100%}\
figure text{font-size:11px;fill:var(--label)}text.y{text-anchor:end}text.x{text-anchor:middle}\
.grid{stroke:var(--grid)}.before{fill:var(--before)}polyline{fill:none;stroke-width:1.6}\
.line0{stroke:var(--line0)}.line1{stroke:var(--line1)}.line2{stroke:var(--line2)}\
.line3{stroke:var(--line3)}.line4{stroke:var(--line4)}.line5{stroke:var(--line5)}\
.legend{margin:.2rem 0;font-size:.85rem}.legend span{margin-right:1rem;white-space:nowrap}\
@media(max-width:480px){figure text{font-size:14px}}";

/// One line.
pub(crate) struct Line {
    /// For the legend.
    pub name: String,
    /// In order of x.
    pub points: Vec<(f64, f64)>,
}

/// Labelled places of an axis.
pub(crate) struct Axis {
    /// Place and text.
    pub ticks: Vec<(f64, String)>,
    /// Lowest and highest place.
    pub range: (f64, f64),
}

impl Axis {
    /// From 0 to a round number of `unit`s above `max`, with four or five ticks. `text` gets the
    /// number of units.
    pub(crate) fn linear_in(unit: f64, max: f64, text: impl Fn(f64) -> String) -> Axis {
        let axis = Axis::linear(max / unit, text);
        let scaled = axis.ticks.into_iter().map(|(at, text)| (at * unit, text));
        Axis {
            ticks: scaled.collect(),
            range: (0.0, axis.range.1 * unit),
        }
    }

    /// From 0 to a round number above `max`, with four or five ticks.
    pub(crate) fn linear(max: f64, text: impl Fn(f64) -> String) -> Axis {
        let max = if max.is_finite() && max > 0.0 {
            max
        } else {
            1.0
        };
        let power = 10f64.powf((max / 4.0).log10().floor());
        let steps = [1.0, 2.0, 2.5, 5.0, 10.0];
        let step = steps
            .into_iter()
            .map(|s| s * power)
            .find(|s| max / s <= 5.0);
        let step = step.unwrap_or(max / 4.0);
        let count = (max / step).ceil() as u32;
        let place = |i: u32| rounded(f64::from(i) * step);
        let ticks = (0..=count).map(|i| (place(i), text(place(i))));
        Axis {
            ticks: ticks.collect(),
            range: (0.0, place(count)),
        }
    }

    /// From `range.0` to `range.1`, with round ticks between.
    pub(crate) fn spanning(range: (f64, f64), text: impl Fn(f64) -> String) -> Axis {
        let span = (range.1 - range.0).max(1e-9);
        let width = Axis::linear(span, |_| String::new()).ticks[1].0;
        let first = (range.0 / width).ceil() as i64;
        let last = (range.1 / width).floor() as i64;
        let place = |i: i64| rounded(i as f64 * width);
        let ticks = (first..=last).map(|i| (place(i), text(place(i))));
        Axis {
            ticks: ticks.collect(),
            range: (range.0, range.0 + span),
        }
    }

    fn place(&self, value: f64) -> f64 {
        ((value - self.range.0) / (self.range.1 - self.range.0)).clamp(0.0, 1.0)
    }
}

/// Without the last digits of a product like 3 × 0.2.
fn rounded(value: f64) -> f64 {
    if value == 0.0 {
        return 0.0;
    }
    let scale = 10f64.powi(9 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}

/// Draws `lines` into an `<svg>` with a legend below; nothing when no line has two points. What
/// lies left of an x of 0, the warm-up, has another background.
pub(crate) fn chart(title: &str, lines: &[Line], x: &Axis, y: &Axis) -> String {
    if lines.iter().all(|line| line.points.len() < 2) {
        return String::new();
    }
    let mut out = format!(
        "<figure><figcaption>{}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"{}\">",
        escape(title),
        escape(title)
    );
    let (inner_width, inner_height) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
    let at_x = |value: f64| LEFT + x.place(value) * inner_width;
    let at_y = |value: f64| TOP + (1.0 - y.place(value)) * inner_height;
    if x.range.0 < 0.0 {
        let width = at_x(0.0) - LEFT;
        put(
            &mut out,
            format_args!(
                "<rect class=\"before\" x=\"{LEFT}\" y=\"{TOP}\" width=\"{width:.1}\" \
                 height=\"{inner_height}\"/>"
            ),
        );
    }
    for (value, text) in &y.ticks {
        let at = at_y(*value);
        put(
            &mut out,
            format_args!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 4.0,
                escape(text)
            ),
        );
    }
    for (value, text) in &x.ticks {
        let at = at_x(*value);
        put(
            &mut out,
            format_args!(
                "<text class=\"x\" x=\"{at:.1}\" y=\"{:.1}\">{}</text>",
                HEIGHT - 8.0,
                escape(text)
            ),
        );
    }
    for (line, (at, dashes)) in lines.iter().zip(DASHES.iter().enumerate().cycle()) {
        put(
            &mut out,
            format_args!("<polyline class=\"line{at}\" stroke-dasharray=\"{dashes}\" points=\""),
        );
        for (px, py) in &line.points {
            put(&mut out, format_args!("{:.1},{:.1} ", at_x(*px), at_y(*py)));
        }
        out.push_str("\"/>");
    }
    out.push_str("</svg><p class=\"legend\">");
    for (line, (at, dashes)) in lines.iter().zip(DASHES.iter().enumerate().cycle()) {
        put(
            &mut out,
            format_args!(
                "<span><svg viewBox=\"0 0 30 8\" width=\"30\" height=\"8\"><line x1=\"0\" y1=\"4\" \
                 x2=\"30\" y2=\"4\" class=\"line{at}\" stroke-width=\"2\" \
                 stroke-dasharray=\"{dashes}\"/></svg> {}</span> ",
                escape(&line.name)
            ),
        );
    }
    out.push_str("</p></figure>");
    out
}

/// Text for HTML and its attributes.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _infallible = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_ticks() {
        let texts = |axis: &Axis| axis.ticks.iter().map(|t| t.1.clone()).collect::<Vec<_>>();
        let axis = Axis::linear(4.8, |v| format!("{v}"));
        assert_eq!(texts(&axis), ["0", "1", "2", "3", "4", "5"]);
        assert_eq!(axis.range, (0.0, 5.0));
        let axis = Axis::linear(0.0, |v| format!("{v}"));
        assert!(axis.range.1 > 0.0);
        let axis = Axis::spanning((-2.0, 10.0), |v| format!("{v}"));
        assert_eq!(texts(&axis), ["0", "2.5", "5", "7.5", "10"]);
        let axis = Axis::spanning((0.0, 1.0), |v| format!("{v}"));
        assert_eq!(texts(&axis), ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        let axis = Axis::linear_in(1024.0, 3000.0, |v| format!("{v}"));
        assert_eq!(texts(&axis), ["0", "1", "2", "3"]);
        assert_eq!(axis.range, (0.0, 3072.0));
    }

    #[test]
    fn a_chart_holds_its_lines_inside() {
        let line = Line {
            name: "a<b".into(),
            points: vec![(0.0, 0.0), (10.0, 50.0), (20.0, 9e9)],
        };
        let (x, y) = (
            Axis::linear(10.0, |v| format!("{v}")),
            Axis::linear(50.0, |v| format!("{v}")),
        );
        let svg = chart("t", &[line], &x, &y);
        assert!(svg.contains("a&lt;b") && !svg.contains("a<b"));
        assert!(svg.contains("70.0,184.0 446.0,10.0 446.0,10.0 "), "{svg}");
        assert!(!svg.contains("class=\"before\""), "there is no warm-up");
        assert_eq!(chart("t", &[], &x, &y), "");
    }

    #[test]
    fn warm_up_has_another_background() {
        let line = Line {
            name: "a".into(),
            points: vec![(-1.0, 0.0), (3.0, 1.0)],
        };
        let x = Axis::spanning((-1.0, 3.0), |v| format!("{v}"));
        let svg = chart("t", &[line], &x, &Axis::linear(1.0, |v| format!("{v}")));
        assert!(
            svg.contains("class=\"before\" x=\"70\" y=\"10\" width=\"94.0\""),
            "{svg}"
        );
    }
}
