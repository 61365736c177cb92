//! The argument parser's page-long errors on one line: cause, suggestion, where help is.

/// What begins the part of an error that is help rather than cause.
const USAGE: &str = "Usage: ";

/// Folds a rendered error: the lines before the usage, and the command whose usage it is. Where
/// none is shown, that is the one that was `typed`.
pub(super) fn one_line(rendered: &str, typed: &str) -> String {
    let mut line = String::new();
    for part in rendered.lines().map(str::trim) {
        if part.starts_with(USAGE) || part.starts_with("For more information") {
            break;
        }
        let part = part.strip_prefix("error: ").unwrap_or(part);
        let part = part.strip_prefix("tip: ").unwrap_or(part);
        if part.is_empty() {
            continue;
        }
        match line.chars().next_back() {
            None => {}
            // What follows completes the sentence.
            Some(':') => line.push(' '),
            Some(_) => line.push_str("; "),
        }
        line.push_str(part);
    }
    format!(
        "{line}; see '{} --help'",
        command_of(rendered).unwrap_or_else(|| typed.to_owned())
    )
}

/// The command that the usage line shows, without its arguments.
fn command_of(rendered: &str) -> Option<String> {
    let mut lines = rendered.lines();
    let usage = lines.find_map(|line| line.trim().strip_prefix(USAGE))?;
    let is_command = |word: &&str| word.starts_with(|first: char| first.is_ascii_lowercase());
    let words = usage.split_whitespace().take_while(is_command);
    Some(words.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cause_suggestion_and_command_are_kept() {
        let rendered = "error: unexpected argument '--x' found\n\n  tip: a similar argument \
                        exists: '--y'\n\nUsage: ringmesh token mint --y <Y>\n\nFor more \
                        information, try '--help'.\n";
        let expected = "unexpected argument '--x' found; a similar argument exists: '--y'; \
                        see 'ringmesh token mint --help'";
        assert_eq!(one_line(rendered, "ringmesh"), expected);
    }

    #[test]
    fn a_list_completes_its_sentence() {
        let rendered = "error: these are missing:\n  --a <A>\n  --b <B>\n\nUsage: ringmesh x";
        let expected = "these are missing: --a <A>; --b <B>; see 'ringmesh x --help'";
        assert_eq!(one_line(rendered, "ringmesh"), expected);
    }

    #[test]
    fn without_a_usage_the_command_is_the_one_that_was_typed() {
        let line = one_line("error: odd\n", "ringmesh app show");
        assert_eq!(line, "odd; see 'ringmesh app show --help'");
    }
}
