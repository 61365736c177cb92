//! Channel patterns as the documentation tells them, by trying everything.

/// A part of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Any bytes but `/`.
    Star,
    /// Any bytes.
    DoubleStar,
    /// That byte.
    Itself(u8),
}

/// Takes a pattern apart; `None` where it ends in a backslash that stands for nothing.
pub(super) fn parse(source: &str) -> Option<Vec<Part>> {
    let mut rest = source.as_bytes();
    let mut parts = Vec::new();
    while let Some((first, behind)) = rest.split_first() {
        let (part, length) = match (first, behind.first()) {
            (b'*', Some(b'*')) => (Part::DoubleStar, 2),
            (b'*', _) => (Part::Star, 1),
            (b'\\', None) => return None,
            (b'\\', Some(byte @ (b'*' | b'\\'))) => (Part::Itself(*byte), 2),
            (byte, _) => (Part::Itself(*byte), 1),
        };
        parts.push(part);
        rest = &rest[length..];
    }
    Some(parts)
}

/// Whether a name matches: the set of places in the pattern that could be reached, byte by byte.
pub(super) fn matches(parts: &[Part], name: &str) -> bool {
    let mut places = vec![false; parts.len() + 1];
    places[0] = true;
    skip_stars(parts, &mut places);
    for byte in name.bytes() {
        let mut next = vec![false; parts.len() + 1];
        for (at, part) in parts.iter().enumerate().filter(|(at, _)| places[*at]) {
            match part {
                Part::Star => next[at] |= byte != b'/',
                Part::DoubleStar => next[at] = true,
                Part::Itself(own) => next[at + 1] |= byte == *own,
            }
        }
        skip_stars(parts, &mut next);
        places = next;
    }
    places[parts.len()]
}

/// A star may stand for nothing.
fn skip_stars(parts: &[Part], places: &mut [bool]) {
    for (at, part) in parts.iter().enumerate() {
        if places[at] && !matches!(part, Part::Itself(_)) {
            places[at + 1] = true;
        }
    }
}
