//! Settings as `ringmesh dev` has them: it has no file, but a few arguments, and variables of the
//! environment for the rest.
//!
//! Texts name settings by their dotted keys, wherever they come from. For a reader without a file
//! the keys are translated where texts leave the process: in the failure that ends it, and in the
//! log.

use std::borrow::Cow;

use super::difference::keys;
use super::overrides::variable_of;

/// The settings for which `dev` has an argument.
pub(super) const ARGUMENTS: [(&str, &str); 4] = [
    ("server.listen", "--listen"),
    ("admin.listen", "--admin"),
    ("server.shards", "--shards"),
    ("store.data_dir", "--data-dir"),
];

/// Returns the text with each dotted key in it as the argument of `dev` or the variable that sets
/// it: `limits.message_rate` becomes `RINGMESH_LIMITS__MESSAGE_RATE`.
#[must_use]
pub(crate) fn in_words_of_dev(text: &str) -> Cow<'_, str> {
    let mut translated = String::new();
    let mut rest = text;
    while let Some((before, word, behind)) = next_key(rest) {
        translated.push_str(before);
        let argument = ARGUMENTS.iter().find(|(key, _)| *key == word);
        match argument {
            Some((_, argument)) => translated.push_str(argument),
            None => translated.push_str(&variable_of(word)),
        }
        rest = behind;
    }
    if translated.is_empty() {
        return Cow::Borrowed(text);
    }
    translated.push_str(rest);
    Cow::Owned(translated)
}

/// The first key in a text, with what stands before and behind it.
fn next_key(text: &str) -> Option<(&str, &str, &str)> {
    let is_part = |char: char| char.is_ascii_alphanumeric() || "._-/".contains(char);
    let mut from = 0;
    loop {
        let start = from + text[from..].find(is_part)?;
        let end = text[start..].find(|char| !is_part(char));
        let end = end.map_or(text.len(), |length| start + length);
        // A sentence may end with a key.
        let word = text[start..end].trim_end_matches('.');
        if keys().any(|key| key == word) {
            return Some((&text[..start], word, &text[start + word.len()..]));
        }
        from = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(in_words_of_dev(text), expected);
    }

    #[test]
    fn keys_become_arguments_and_variables() {
        check(
            "set store.data_dir to another directory",
            "set --data-dir to another directory",
        );
        check(
            "choose server.listen or tls.listen.",
            "choose --listen or RINGMESH_TLS__LISTEN.",
        );
        check("admin.listen, server.shards", "--admin, --shards");
        check(
            "see limits.memory_bytes",
            "see RINGMESH_LIMITS__MEMORY_BYTES",
        );
        check(
            "(rest.accept_bare_key_id) is on",
            "(RINGMESH_REST__ACCEPT_BARE_KEY_ID) is on",
        );
    }

    #[test]
    fn what_only_looks_like_a_key_stays() {
        for text in [
            "",
            "all is well",
            "ringmesh-data/admin.token: Permission denied",
            "/x/tls.key",
            "log.level.x and xlog.level and log.levels",
            "limits.messageRate: must be at most 5",
            "é server listen …",
        ] {
            check(text, text);
        }
    }
}
