//! Percentiles of latencies, and what of two series of them may be compared.

/// Latencies of one phase.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Latencies {
    /// How many.
    pub count: usize,
    /// Median, ms.
    pub p50_ms: f64,
    /// 99th percentile, ms.
    pub p99_ms: f64,
    /// Longest, ms.
    pub max_ms: f64,
}

impl Latencies {
    /// `None` without any.
    pub(super) fn of(mut ns: Vec<u64>) -> Option<Latencies> {
        ns.sort_unstable();
        let last = *ns.last()?;
        let at = |share: f64| {
            let rank = (share * ns.len() as f64).ceil() as usize;
            ns[rank.clamp(1, ns.len()) - 1] as f64 / 1e6
        };
        Some(Latencies {
            count: ns.len(),
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            max_ms: last as f64 / 1e6,
        })
    }
}

/// How often `base` goes into `value`, where a `base` below `floor` counts as `floor`: the ratio
/// of two small times says nothing but how busy the machine was.
pub(super) fn ratio(value: f64, base: f64, floor: f64) -> f64 {
    value / base.max(floor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let latencies = Latencies::of((1..=200).map(|ms| ms * 1_000_000).collect());
        let expected = Latencies {
            count: 200,
            p50_ms: 100.0,
            p99_ms: 198.0,
            max_ms: 200.0,
        };
        assert_eq!(latencies, Some(expected));
        assert_eq!(Latencies::of(Vec::new()), None);
        let one = Latencies::of(vec![3_000_000]).expect("one sample");
        assert_eq!((one.p50_ms, one.p99_ms, one.max_ms), (3.0, 3.0, 3.0));
    }

    #[test]
    fn a_quiet_machine_does_not_make_ratios_large() {
        assert_eq!(ratio(10.0, 0.05, 2.0), 5.0);
        assert_eq!(ratio(10.0, 5.0, 2.0), 2.0);
    }
}
