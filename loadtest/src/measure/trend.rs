//! The trend of a series of readings: does memory grow while the load stays the same?

/// A least-squares line through readings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Trend {
    /// Units of y per unit of x.
    pub slope: f64,
    /// Share of the variance that the line explains, 0 to 1.
    pub r_squared: f64,
}

/// Fits a line through `(x, y)` pairs; `None` for fewer than three, or all at one x.
pub(crate) fn fit(points: &[(f64, f64)]) -> Option<Trend> {
    if points.len() < 3 {
        return None;
    }
    let count = points.len() as f64;
    let mean_x = points.iter().map(|p| p.0).sum::<f64>() / count;
    let mean_y = points.iter().map(|p| p.1).sum::<f64>() / count;
    let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
    for (x, y) in points {
        xx += (x - mean_x).powi(2);
        xy += (x - mean_x) * (y - mean_y);
        yy += (y - mean_y).powi(2);
    }
    if xx == 0.0 {
        return None;
    }
    let r_squared = if yy == 0.0 { 1.0 } else { xy * xy / (xx * yy) };
    Some(Trend {
        slope: xy / xx,
        r_squared,
    })
}

/// The middle value; for an even count the mean of the two in the middle. `None` when empty.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_and_noise_is_not_explained() {
        let line: Vec<_> = (0..10)
            .map(|x| (f64::from(x), 3.0 * f64::from(x) + 1.0))
            .collect();
        let trend = fit(&line).expect("enough points");
        assert!((trend.slope - 3.0).abs() < 1e-9 && (trend.r_squared - 1.0).abs() < 1e-9);
        let zigzag: Vec<_> = (0..100).map(|x| (f64::from(x), f64::from(x % 2))).collect();
        assert!(fit(&zigzag).expect("enough points").r_squared < 0.01);
        assert_eq!(fit(&line[..2]), None);
        assert_eq!(fit(&[(1.0, 1.0); 5]), None);
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
