//! What whoever asks takes: content codings and types, by their names (RFC 9110, section 12.5).

/// The name of the coding.
pub(crate) const GZIP: &str = "gzip";

/// Returns whether the values of `Accept-Encoding` allow gzip by its name.
pub(crate) fn takes_gzip<'v>(values: impl Iterator<Item = &'v str>) -> bool {
    takes(values, GZIP)
}

/// Returns whether the values of `Accept` or `Accept-Encoding` name something and do not refuse
/// it.
pub(crate) fn takes<'v>(values: impl Iterator<Item = &'v str>, name: &str) -> bool {
    let mut items = values.flat_map(|value| value.split(','));
    items.any(|item| {
        let mut parts = item.split(';').map(str::trim);
        let is_it = parts.next().is_some_and(|it| it.eq_ignore_ascii_case(name));
        // `q=0`, with up to three zeros behind a point, refuses it.
        let is_refused = |it: &str| {
            let weight = it.strip_prefix("q=").or_else(|| it.strip_prefix("Q="));
            weight.is_some_and(|it| it.chars().all(|char| matches!(char, '0' | '.')))
        };
        is_it && !parts.any(is_refused)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_for_those_who_take_it() {
        for (given, expected) in [
            (&["gzip"][..], true),
            (&["gzip, deflate, br, zstd"], true),
            (&["br", "gzip"], true),
            (&["br;q=1.0, GZIP;q=0.8"], true),
            (&["gzip;q=0"], false),
            (&["gzip; q=0.000"], false),
            (&["gzip;q=0.001"], true),
            (&["br, x-gzip-not"], false),
            (&[""], false),
            (&[], false),
        ] {
            assert_eq!(takes_gzip(given.iter().copied()), expected, "{given:?}");
        }
    }
}
