//! Secrets that stand where they should not: somebody gave one in place of an id or a name, and an
//! error or a note is about to say what was given.

use std::borrow::Cow;

/// How secrets begin, what each is, and how many characters behind that make it one.
const SECRETS: [(&str, &str, usize); 4] = [
    ("sk_live_", "an API secret", 4),
    ("sk_secret_", "a signing secret", 4),
    ("adm_", "an admin token", 32),
    // The beginning of a JSON object, in base64: a signed token.
    ("eyJ", "a connect token", 16),
];

/// What secret there is in a text, with how it begins; `None`: none that can be told.
#[must_use]
pub(crate) fn secret_in(text: &str) -> Option<(&'static str, &'static str)> {
    SECRETS.into_iter().find_map(|(prefix, what, least)| {
        let mut places = text.match_indices(prefix);
        let is_long = |(at, _)| length_behind(text, at + prefix.len()) >= least;
        places.any(is_long).then_some((prefix, what))
    })
}

/// Returns the text with the beginnings only of secrets that are in it.
#[must_use]
pub(crate) fn redacted(text: &str) -> Cow<'_, str> {
    if secret_in(text).is_none() {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let secret = SECRETS.iter().find_map(|(prefix, _, least)| {
            let behind = rest.strip_prefix(prefix)?;
            let length = length_behind(behind, 0);
            (length >= *least).then_some((prefix, &behind[length..]))
        });
        rest = match secret {
            Some((prefix, behind)) => {
                shown.push_str(prefix);
                shown.push('…');
                behind
            }
            None => {
                shown.push(first);
                &rest[first.len_utf8()..]
            }
        };
    }
    Cow::Owned(shown)
}

/// How many characters of a secret there are from a place on. All of them are ASCII.
fn length_behind(text: &str, at: usize) -> usize {
    let is_of_one = |byte: &&u8| byte.is_ascii_alphanumeric() || b"_-.+/=".contains(byte);
    text.as_bytes()[at..].iter().take_while(is_of_one).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_secret_its_beginning_is_shown() {
        let token = format!(
            "eyJ{}.eyJ{}.{}",
            "a".repeat(20),
            "b".repeat(20),
            "c".repeat(43)
        );
        let admin = format!("adm_{}", "d".repeat(43));
        for (text, expected) in [
            (
                "there is no key \"sk_live_0123456789\"",
                "there is no key \"sk_live_…\"",
            ),
            (
                "/etc/sk_secret_abcd/x: no file",
                "/etc/sk_secret_…: no file",
            ),
            (&*format!("got {token}, and {admin}"), "got eyJ…, and adm_…"),
            ("sk_live_abcd sk_live_abcd", "sk_live_… sk_live_…"),
            ("ésk_live_abcdé", "ésk_live_…é"),
        ] {
            assert_eq!(redacted(text), expected);
            assert!(secret_in(text).is_some(), "{text}");
        }
    }

    #[test]
    fn what_is_no_secret_is_left() {
        for text in [
            "",
            "give the signing secret of the key, sk_secret_…",
            "an API secret begins with sk_live_; this one does not",
            "sk_id_0123456789abcdef pk_live_0123456789abcdef",
            "adm_shop eyJ",
        ] {
            assert_eq!(redacted(text), text);
            assert_eq!(secret_in(text), None);
        }
    }
}
