//! Figures as people read them: three significant digits and a unit.

/// Nanoseconds with a fitting unit.
pub(crate) fn duration(ns: u64) -> String {
    let value = ns as f64;
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{} µs", three_digits(value / 1e3)),
        1_000_000..1_000_000_000 => format!("{} ms", three_digits(value / 1e6)),
        _ => format!("{} s", three_digits(value / 1e9)),
    }
}

/// A percentile of `samples` latencies: a dash where less than one sample lies beyond it, because
/// then it is only the longest of them.
pub(crate) fn percentile(samples: u64, percentile: f64, ns: u64) -> String {
    if is_resolved(samples, percentile) {
        duration(ns)
    } else {
        "–".into()
    }
}

/// Whether so many samples tell a percentile from their maximum, or it is the maximum.
pub(crate) fn is_resolved(samples: u64, percentile: f64) -> bool {
    // Of 1,000 samples one lies at p99.9; the small term makes up for rounding.
    percentile >= 100.0 || samples as f64 * (100.0 - percentile) + 1e-6 >= 100.0
}

/// Bytes with a fitting unit of 1,024; may be negative.
pub(crate) fn bytes(value: f64) -> String {
    match value.abs() {
        n if n < 10.0 * 1024.0 => format!("{value:.0} B"),
        n if n < 10.0 * 1024.0 * 1024.0 => format!("{} KiB", three_digits(value / 1024.0)),
        n if n < 1024.0 * 1024.0 * 1024.0 * 10.0 => {
            format!("{} MiB", three_digits(value / (1024.0 * 1024.0)))
        }
        _ => format!("{} GiB", three_digits(value / (1024.0 * 1024.0 * 1024.0))),
    }
}

/// A count, with commas between groups of three digits.
pub(crate) fn count(value: f64) -> String {
    if value.abs() < 100.0 && value.fract().abs() > 0.05 {
        return format!("{value:.1}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut out = String::from(if value < -0.5 { "-" } else { "" });
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn three_digits(value: f64) -> String {
    match value.abs() {
        n if n < 9.995 => format!("{value:.2}"),
        n if n < 99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readable() {
        assert_eq!(percentile(1_000, 99.9, 5), "5 ns");
        assert_eq!(percentile(999, 99.9, 5), "–");
        assert_eq!(percentile(1, 100.0, 5), "5 ns");
        assert_eq!(duration(999), "999 ns");
        assert_eq!(duration(2_991), "2.99 µs");
        assert_eq!(duration(15_040_000), "15.0 ms");
        assert_eq!(duration(120_000_000_000), "120 s");
        assert_eq!(bytes(444.0), "444 B");
        assert_eq!(bytes(-3.0 * 1024.0 * 1024.0), "-3072 KiB");
        assert_eq!(bytes(64.0 * 1024.0 * 1024.0), "64.0 MiB");
        assert_eq!(count(1_234_567.0), "1,234,567");
        assert_eq!(count(80.0), "80");
        assert_eq!(count(0.5), "0.5");
        assert_eq!(count(-1_000.0), "-1,000");
    }
}
