//! Text that comes from elsewhere, so that a terminal shows it and does not obey it.

use serde_json::Value;

use crate::redact::redacted;

/// What turns text around that is written from right to left, and what ends lines unseen.
const TURNS: [char; 13] = [
    '\u{200e}', '\u{200f}', '\u{2028}', '\u{2029}', '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}',
    '\u{202e}', '\u{2066}', '\u{2067}', '\u{2068}', '\u{2069}',
];

/// Whether a terminal would obey a character rather than show it.
fn is_obeyed(char: char) -> bool {
    char.is_control() || TURNS.contains(&char)
}

/// Returns a text without what a terminal would obey, for people. All text that comes from
/// elsewhere, a server, a file or another user, is printed so.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|char| if is_obeyed(char) { '\u{fffd}' } else { char })
        .collect()
}

/// Returns the text of JSON without what a terminal would obey: escaped, so that its values stay.
pub(crate) fn printable_json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            // Between values.
            '\n' => shown.push(char),
            // None of them is outside of the plane that four digits name.
            _ if is_obeyed(char) => shown += &format!("\\u{:04x}", u32::from(char)),
            _ => shown.push(char),
        }
    }
    shown
}

/// Returns JSON as it is printed for scripts.
pub(crate) fn json(value: &Value) -> String {
    printable_json(&format!("{value:#}\n"))
}

/// Returns what is said of something, a line: what was given, which it may repeat, can neither
/// command the terminal nor be read as a secret.
pub(super) fn told(text: &str) -> String {
    printable(&redacted(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clear screen, a title, a colour in eight bits, a line that is written over, and a name
    /// that is read backwards.
    const FOREIGN: &str = "a\u{1b}[2J\u{1b}]0;x\u{7}\u{9b}31m\r\u{7f}\u{202e}b é";

    #[test]
    fn a_terminal_is_told_nothing_by_others() {
        assert_eq!(
            printable(FOREIGN),
            "a\u{fffd}[2J\u{fffd}]0;x\u{fffd}\u{fffd}31m\u{fffd}\u{fffd}\u{fffd}b é"
        );
        assert_eq!(
            told("no key sk_live_0123456789\n"),
            "no key sk_live_…\u{fffd}"
        );
    }

    #[test]
    fn json_says_the_same_without_what_is_obeyed() {
        let value = serde_json::json!({"text": FOREIGN, "list": [FOREIGN]});
        let shown = printable_json(&format!("{value:#}\n"));
        assert!(
            shown.chars().all(|char| char == '\n' || !is_obeyed(char)),
            "{shown:?}"
        );
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&shown).unwrap(),
            value
        );
    }
}
