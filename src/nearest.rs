//! What a name that nobody knows was probably meant to be.

/// Similarity (Jaro's, 0 to 1) from which a name counts as a misspelling of another.
const SIMILARITY_MIN: f64 = 0.75;
/// Bytes of a name that is compared: the comparison takes time that grows with the product of
/// both lengths, and no name of ours is nearly as long.
const NAME_BYTES_MAX: usize = 64;

/// Returns the known name that has the same letters as `unknown`, or else the one that is spelled
/// most like it; `None` if none is much like it.
pub(crate) fn nearest<'n>(
    unknown: &str,
    known: impl Iterator<Item = &'n str> + Clone,
) -> Option<&'n str> {
    if unknown.len() > NAME_BYTES_MAX {
        return None;
    }
    let letters = letters_of(unknown);
    let same = known.clone().find(|name| letters_of(name) == letters);
    same.or_else(|| {
        known
            .map(|name| (strsim::jaro(name, unknown), name))
            .filter(|(similarity, _)| *similarity > SIMILARITY_MIN)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, name)| name)
    })
}

/// Returns a name in lower case, without what separates its words.
#[must_use]
pub(crate) fn letters_of(name: &str) -> String {
    name.replace(['.', '_', '-'], "").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_name_has_a_nearest_one() {
        let known = [
            "peerId",
            "channels",
            "permissions",
            "metadata",
            "peerMetadata",
        ];
        for (unknown, expected) in [
            ("chanels", Some("channels")),
            ("Channels", Some("channels")),
            ("peer_id", Some("peerId")),
            ("permisions", Some("permissions")),
            ("peer_metadata", Some("peerMetadata")),
            ("metaData", Some("metadata")),
            ("x", None),
            ("", None),
        ] {
            let found = nearest(unknown, known.into_iter());
            assert_eq!(found, expected, "{unknown}");
        }
        assert_eq!(nearest(&"channels".repeat(9), known.into_iter()), None);
    }
}
