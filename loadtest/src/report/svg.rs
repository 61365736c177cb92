//! Line charts as inline SVG.

use std::fmt::Write;

/// Size of a chart in its own units.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 240.0;
/// Room for the labels of the axes.
const LEFT: f64 = 76.0;
const BOTTOM: f64 = 26.0;
const TOP: f64 = 10.0;
const RIGHT: f64 = 16.0;
/// Told apart by colour and, for who cannot, by dashes.
const STYLES: [(&str, &str); 6] = [
    ("#0b62c4", ""),
    ("#c4450b", "6 3"),
    ("#1a7f37", "2 3"),
    ("#7a3fb8", "8 3 2 3"),
    ("#8a6d00", "1 2"),
    ("#b0125b", "10 4"),
];

/// One line.
pub struct Line {
    /// For the legend.
    pub name: String,
    /// In order of x.
    pub points: Vec<(f64, f64)>,
}

/// Labelled places of an axis.
pub struct Axis {
    /// Place and text.
    pub ticks: Vec<(f64, String)>,
    /// Lowest and highest place.
    pub range: (f64, f64),
}

impl Axis {
    /// From 0 to a round number above `max`, with four or five ticks.
    pub fn linear(max: f64, text: impl Fn(f64) -> String) -> Axis {
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
        let ticks = (0..=count).map(|i| (f64::from(i) * step, text(f64::from(i) * step)));
        Axis {
            ticks: ticks.collect(),
            range: (0.0, f64::from(count) * step),
        }
    }

    /// From `range.0` to `range.1`, with round ticks between.
    pub fn spanning(range: (f64, f64), text: impl Fn(f64) -> String) -> Axis {
        let span = (range.1 - range.0).max(1e-9);
        let width = Axis::linear(span, |_| String::new()).ticks[1].0;
        let first = (range.0 / width).ceil() as i64;
        let last = (range.1 / width).floor() as i64;
        let ticks = (first..=last).map(|i| (i as f64 * width, text(i as f64 * width)));
        Axis {
            ticks: ticks.collect(),
            range: (range.0, range.0 + span),
        }
    }

    fn place(&self, value: f64) -> f64 {
        ((value - self.range.0) / (self.range.1 - self.range.0)).clamp(0.0, 1.0)
    }
}

/// Draws `lines` into an `<svg>` with a legend below; nothing when no line has two points.
pub fn chart(title: &str, lines: &[Line], x: &Axis, y: &Axis) -> String {
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
    for (line, (colour, dashes)) in lines.iter().zip(STYLES.iter().cycle()) {
        put(
            &mut out,
            format_args!(
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" \
                 stroke-dasharray=\"{dashes}\" points=\""
            ),
        );
        for (px, py) in &line.points {
            put(&mut out, format_args!("{:.1},{:.1} ", at_x(*px), at_y(*py)));
        }
        out.push_str("\"/>");
    }
    out.push_str("</svg><p class=\"legend\">");
    for (line, (colour, dashes)) in lines.iter().zip(STYLES.iter().cycle()) {
        put(
            &mut out,
            format_args!(
                "<span><svg viewBox=\"0 0 30 8\" width=\"30\" height=\"8\"><line x1=\"0\" y1=\"4\" \
                 x2=\"30\" y2=\"4\" stroke=\"{colour}\" stroke-width=\"2\" \
                 stroke-dasharray=\"{dashes}\"/></svg> {}</span> ",
                escape(&line.name)
            ),
        );
    }
    out.push_str("</p></figure>");
    out
}

/// Text for HTML and its attributes.
pub fn escape(text: &str) -> String {
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
        assert!(svg.contains("76.0,214.0 704.0,10.0 704.0,10.0 "), "{svg}");
        assert_eq!(chart("t", &[], &x, &y), "");
    }
}
