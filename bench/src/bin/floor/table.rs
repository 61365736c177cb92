//! Rows of figures beside what they are to reach, as a table in Markdown.

use std::fmt;

/// What a row is to reach.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reach {
    /// At most so many times the floor.
    Ratio(f64),
    /// At most so much.
    AtMost(Amount),
}

/// A figure.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Amount {
    /// Time, in microseconds.
    Us(f64),
    /// Memory.
    Bytes(f64),
}

/// See the top of this file.
#[derive(Debug)]
pub(crate) struct Row {
    pub what: String,
    pub reach: Reach,
    /// Of what ratios are to.
    pub floor: Option<Amount>,
    /// Of the floor that sends through io_uring.
    pub uring: Option<Amount>,
    pub ringmesh: Amount,
}

impl Amount {
    fn value(self) -> f64 {
        match self {
            Self::Us(value) | Self::Bytes(value) => value,
        }
    }
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        self.floor
            .map(|floor| self.ringmesh.value() / floor.value())
    }

    /// Whether it is as good as it is to be.
    pub(crate) fn is_reached(&self) -> bool {
        match self.reach {
            // A ratio is compared as it is printed.
            Reach::Ratio(most) => self
                .ratio()
                .is_some_and(|ratio| (ratio * 100.0).round() <= (most * 100.0).round()),
            Reach::AtMost(most) => self.ringmesh.value() <= most.value(),
        }
    }
}

/// The whole table.
pub(crate) struct Table<'a>(pub &'a [Row]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| what | reach | floor | io_uring floor | ringmesh | ratio | reached |"
        )?;
        write!(f, "| --- | --- | --- | --- | --- | --- | --- |")?;
        for row in self.0 {
            let amount = |amount: Option<Amount>| amount.map_or(String::new(), |it| it.to_string());
            let ratio = row.ratio().map_or(String::new(), |it| format!("{it:.2}"));
            write!(
                f,
                "\n| {} | {} | {} | {} | {} | {ratio} | {} |",
                row.what,
                row.reach,
                amount(row.floor),
                amount(row.uring),
                row.ringmesh,
                if row.is_reached() { "yes" } else { "**no**" },
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ratio(ratio) => write!(f, "{ratio} × floor"),
            Self::AtMost(amount) => amount.fmt(f),
        }
    }
}

impl fmt::Display for Amount {
    /// Times with three digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, unit) = match *self {
            Self::Bytes(bytes) => return write!(f, "{} B", grouped(bytes.round() as usize)),
            Self::Us(us) if us >= 999.5 => (us / 1_000.0, "ms"),
            Self::Us(us) => (us, "µs"),
        };
        let decimals = match value {
            value if value >= 99.95 => 0,
            value if value >= 9.995 => 1,
            value if value >= 0.9995 => 2,
            _ => 3,
        };
        write!(f, "{value:.decimals$} {unit}")
    }
}

/// A number with commas between its thousands.
pub(crate) fn grouped(number: usize) -> String {
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", grouped(number / 1_000), number % 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        for (us, text) in [
            (0.2356, "0.236 µs"),
            (0.9996, "1.00 µs"),
            (2.6891, "2.69 µs"),
            (39.62, "39.6 µs"),
            (163.9, "164 µs"),
            (999.6, "1.00 ms"),
            (3_743.7, "3.74 ms"),
        ] {
            assert_eq!(Amount::Us(us).to_string(), text);
        }
        assert_eq!(Amount::Bytes(643.6).to_string(), "644 B");
        assert_eq!(Amount::Bytes(1_024.0).to_string(), "1,024 B");
        assert_eq!(grouped(12_000_034), "12,000,034");
    }

    #[test]
    fn a_row_says_whether_it_is_reached() {
        let mut row = Row {
            what: "connect".into(),
            reach: Reach::Ratio(1.05),
            floor: Some(Amount::Us(2.0)),
            uring: None,
            ringmesh: Amount::Us(2.1),
        };
        let table = Table(std::slice::from_ref(&row)).to_string();
        let last = table.lines().last().unwrap();
        assert_eq!(
            last,
            "| connect | 1.05 × floor | 2.00 µs |  | 2.10 µs | 1.05 | yes |"
        );
        row.ringmesh = Amount::Us(2.12);
        assert!(!row.is_reached());
        row.reach = Reach::AtMost(Amount::Us(20.0));
        assert!(row.is_reached());
        row.ringmesh = Amount::Us(20.1);
        assert!(!row.is_reached());
    }
}
