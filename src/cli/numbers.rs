//! Whole numbers as people type them.

use std::fmt::Display;

/// Integers that count something.
pub(super) trait Count: TryFrom<u64> + Display {
    /// The largest.
    const MAX: Self;
}

impl Count for u32 {
    const MAX: Self = Self::MAX;
}

impl Count for u64 {
    const MAX: Self = Self::MAX;
}

/// Reads a number that is not negative.
///
/// # Errors
/// Anything else, or what is too large: what was expected.
pub(super) fn whole_number<T: Count>(text: &str) -> Result<T, String> {
    let number = text.parse::<u64>().ok();
    number
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| format!("expected a whole number from 0 to {}", T::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_say_how_far_they_go() {
        assert_eq!(whole_number::<u32>("7"), Ok(7));
        assert_eq!(whole_number::<u64>("18446744073709551615"), Ok(u64::MAX));
        for text in ["", "-1", "x", "1.5", "4294967296"] {
            let expected = "expected a whole number from 0 to 4294967295";
            assert_eq!(
                whole_number::<u32>(text),
                Err(expected.to_owned()),
                "{text}"
            );
        }
    }
}
