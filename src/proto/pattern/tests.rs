//! The language against its table, read naively; containment against all short names and
//! against determinising; the cost of both in steps.

use proptest::prelude::*;

use super::automaton::{BUILT, STEPS};
use super::compiled::Compiled;
use super::*;

fn pattern(source: &str) -> Pattern {
    Pattern::parse(source).unwrap_or_else(|error| panic!("{source:?}: {error}"))
}

fn patterns(sources: &[&str]) -> Vec<Pattern> {
    sources.iter().map(|source| pattern(source)).collect()
}

fn compiled(patterns: &[Pattern]) -> CompiledPatterns {
    patterns.iter().cloned().collect()
}

fn is_contained(inner: &Pattern, outer: &Compiled) -> bool {
    containment::contained(inner, outer, &mut containment::Budget::default())
}

#[track_caller]
fn check(source: &str, matching: &[&str], others: &[&str]) {
    let pattern = pattern(source);
    for channel in matching {
        assert!(
            pattern.matches(channel),
            "{source:?} should match {channel:?}"
        );
    }
    for channel in others {
        assert!(
            !pattern.matches(channel),
            "{source:?} should not match {channel:?}"
        );
    }
}

/// The table in the module's header, word for word and on characters.
mod naive {
    #[derive(Clone, Copy, PartialEq)]
    pub(super) enum Glob {
        Star,
        DoubleStar,
        Itself(char),
    }

    pub(super) fn parse(source: &str) -> Option<Vec<Glob>> {
        let mut rest = source.chars().peekable();
        let mut globs = Vec::new();
        while let Some(next) = rest.next() {
            globs.push(match (next, rest.peek()) {
                ('*', Some('*')) => {
                    rest.next();
                    Glob::DoubleStar
                }
                ('*', _) => Glob::Star,
                ('\\', None) => return None,
                ('\\', Some(&escaped @ ('*' | '\\'))) => {
                    rest.next();
                    Glob::Itself(escaped)
                }
                (itself, _) => Glob::Itself(itself),
            });
        }
        Some(globs)
    }

    pub(super) fn matches(globs: &[Glob], name: &[char]) -> bool {
        let Some((glob, globs_after)) = globs.split_first() else {
            return name.is_empty();
        };
        let runs = |over: fn(char) -> bool| {
            (0..=name.len())
                .take_while(|&end| name[..end].iter().all(|&c| over(c)))
                .any(|end| matches(globs_after, &name[end..]))
        };
        match glob {
            Glob::Star => runs(|c| c != '/'),
            Glob::DoubleStar => runs(|_| true),
            Glob::Itself(c) => name.first() == Some(c) && matches(globs_after, &name[1..]),
        }
    }
}

/// All strings of `min` to `max` symbols.
fn words(alphabet: &str, min: usize, max: usize) -> Vec<String> {
    let mut all = Vec::new();
    let mut of_length = vec![String::new()];
    for length in 0..=max {
        if length >= min {
            all.extend(of_length.iter().cloned());
        }
        of_length = of_length
            .iter()
            .flat_map(|word| {
                alphabet
                    .chars()
                    .map(move |symbol| format!("{word}{symbol}"))
            })
            .collect();
    }
    all
}

/// Compares each pattern with the naive matcher on each name.
fn check_against_naive(patterns: &[String], names: &[String]) {
    let names: Vec<(&String, Vec<char>)> = names
        .iter()
        .map(|name| (name, name.chars().collect()))
        .collect();
    for source in patterns {
        let Some(globs) = naive::parse(source) else {
            assert_eq!(
                Pattern::parse(source),
                Err(PatternError::TrailingBackslash),
                "{source:?}"
            );
            continue;
        };
        let pattern = pattern(source);
        let compiled = compiled(std::slice::from_ref(&pattern));
        for (name, chars) in &names {
            let expected = naive::matches(&globs, chars);
            assert_eq!(pattern.matches(name), expected, "{source:?} and {name:?}");
            assert_eq!(compiled.any_matches(name), expected, "compiled {source:?}");
        }
    }
}

#[test]
fn the_examples_of_the_contract() {
    check(
        "room-*",
        &["room-42", "room-"],
        &["room/42", "room-42/main", "room", "Room-42"],
    );
    check("room/*", &["room/42"], &["room/42/main", "room"]);
    check(
        "app_xyz/**",
        &["app_xyz/", "app_xyz/a", "app_xyz/a/b"],
        &["app_xyz", "app_xy/a"],
    );
    check("**", &["", "a", "/", "a/b/c"], &[]);
    check("*", &["", "a", "ab"], &["/", "a/b"]);
    check("a/*/c", &["a/b/c", "a//c"], &["a/c", "a/b/b/c"]);
    check("a/**/c", &["a/b/c", "a/b/b/c", "a//c"], &["a/c"]);
    check("*/end", &["/end", "a/end"], &["end", "a/b/end"]);
    check("***", &["", "a/b"], &[]);
    check("a***b", &["ab", "a/b", "a//b"], &["a/"]);
}

#[test]
fn escapes() {
    check(r"a\*", &["a*"], &["a", "ab", r"a\*"]);
    check(r"a\\", &[r"a\"], &["a", r"a\\"]);
    check(r"a\b", &[r"a\b"], &["ab", "a"]);
    check(r"\/*", &[r"\/", r"\/x"], &["/", r"\x"]);
    check(r"\\*", &[r"\", r"\x"], &[r"\x/", "x"]);
    check(r"\**", &["*", "*x"], &["*/", "x"]);
    check(r"\***", &["*", "*x/y"], &["x"]);
    check(r"a\\**c\*", &[r"a\c*", r"a\b/c*"], &[r"a\c", "ac*"]);
}

#[test]
fn characters_of_several_bytes() {
    check("é*ü", &["éü", "éßü", "é€𝄞ü"], &["é/ü", "é", "eü", "éu"]);
    check("**é", &["é", "a/é", "éé"], &["è", "é/"]);
    // They share their last byte, or their first.
    check("*©", &["©"], &["é", "\u{29}"]);
    check("*Ã*", &["Ã", "aÃb"], &["é", "©"]);
}

#[test]
fn what_is_no_pattern() {
    assert_eq!(Pattern::parse(""), Err(PatternError::Empty));
    assert_eq!(Pattern::parse("\\"), Err(PatternError::TrailingBackslash));
    assert_eq!(Pattern::parse("a*\\"), Err(PatternError::TrailingBackslash));
    assert_eq!(
        Pattern::parse(r"a\\\"),
        Err(PatternError::TrailingBackslash)
    );
    assert!(Pattern::parse(r"a\\").is_ok());
    assert_eq!(Pattern::parse(&"a".repeat(257)), Err(PatternError::TooLong));
    assert_eq!(Pattern::parse(&"é".repeat(129)), Err(PatternError::TooLong));
}

#[test]
fn patterns_of_the_greatest_length() {
    let a = |count| "a".repeat(count);
    check(&a(256), &[&a(256)], &[&a(255), &a(257)]);
    check(&format!("*{}", a(255)), &[&a(255), &a(300)], &[&a(254), ""]);
    check(&format!("*{}*", a(254)), &[&a(254), &a(300)], &[&a(253)]);
    check(&"*a".repeat(128), &[&a(128), &a(256)], &[&a(127)]);
    check(
        &"*/".repeat(128),
        &[&"/".repeat(128), &"x/".repeat(128)],
        &[&"/".repeat(129)],
    );
    check(
        &format!("**{}", r"\*".repeat(127)),
        &[&"*".repeat(200)],
        &[&"*".repeat(126)],
    );
    // Around the end of the automaton's words.
    for literals in [62, 63, 64, 65, 127, 128, 129, 191, 192, 193] {
        let source = format!("*{}", a(literals));
        check(
            &source,
            &[&a(literals), &a(literals + 9)],
            &[&a(literals - 1)],
        );
    }
}

#[test]
fn every_pattern_and_name_agrees_with_the_naive_matcher() {
    check_against_naive(&words(r"a/*", 1, 6), &words("ab/", 0, 6));
    check_against_naive(&words(r"a/*\", 1, 4), &words(r"a/*\", 0, 5));
    check_against_naive(&words(r"ab/*\", 1, 6), &words(r"ab/*\", 0, 2));
}

#[test]
fn no_input_costs_more_than_one_step_for_each_of_its_bytes() {
    let bombs = [
        format!("{}b", "*a".repeat(127)),
        format!("{}b", "**a".repeat(85)),
        format!("*{}b", "a".repeat(254)),
        format!("**{}", "/*a".repeat(84)),
        format!("{}x", "a*".repeat(100)),
    ];
    for source in &bombs {
        let bomb = pattern(source);
        for channel in ["a".repeat(256), "a/".repeat(128), "/".repeat(256)] {
            let before = STEPS.get();
            assert!(!bomb.matches(&channel));
            assert!(STEPS.get() - before <= 256, "{source:?}");
        }
    }
}

/// Checks a pair as it is, and behind an equal beginning that no other part can match and that
/// makes the automaton wide.
#[track_caller]
fn check_contained(inner: &str, outer: &str, expected: bool) {
    let lead = format!("*{}", "x".repeat(70));
    for lead in ["", &lead] {
        let (inner, outer) = (format!("{lead}{inner}"), format!("{lead}{outer}"));
        let contained = is_contained(&pattern(&inner), &Compiled::new(pattern(&outer)));
        assert_eq!(contained, expected, "{inner:?} in {outer:?}");
    }
}

#[test]
fn containment_by_example() {
    for (inner, outer) in [
        ("a", "a"),
        ("room-1", "room-*"),
        ("room-*", "room-**"),
        ("room-*", "*"),
        ("app/*/x", "app/**"),
        ("app/*/x", "app/*/*"),
        ("**", "***"),
        ("*", "**"),
        ("**/a/**", "**a**"),
        ("a**b", "a**"),
        ("a/**/b", "a/**b"),
        ("a/**", "**/**"),
        ("**a", "**"),
        (r"a\*", "a*"),
        (r"a\b", r"a\\b"),
        ("é*", "**é**"),
        ("*a*a*", "*a*"),
        ("**a**a**", "**a**"),
    ] {
        check_contained(inner, outer, true);
    }
    for (inner, outer) in [
        ("room-*", "room-1"),
        ("**", "*"),
        ("**", "*/**"),
        ("room-**", "room-*"),
        ("app/**", "app/*/*"),
        ("a*", r"a\*"),
        ("*", "a*"),
        ("**a**", "**/a/**"),
        ("a/**b", "a/**/b"),
        ("*a*", "*a*a*"),
        ("**", "**/**"),
        ("*é", "*è"),
        ("app_a/**", "app_b/**"),
    ] {
        check_contained(inner, outer, false);
    }
}

/// Exact in both directions: what is answered with yes holds for every name, and for each no
/// there is a name that shows it. `z` is in no pattern.
#[test]
fn containment_agrees_with_all_short_names() {
    let mut names = words(r"abz/*\", 0, 4);
    names.extend(words("az/", 5, 6));
    let mut sources = words(r"ab/*\", 1, 4);
    sources.extend(words("a/*", 5, 5));
    // For each pattern, a bit for each name it matches. Of patterns with the same tokens one
    // will do.
    let mut patterns: Vec<(Compiled, Vec<u64>)> = Vec::new();
    let mut known = std::collections::HashSet::new();
    for pattern in sources
        .iter()
        .filter_map(|source| Pattern::parse(source).ok())
    {
        if known.insert(format!(
            "{:?}",
            Tokens::of(pattern.source.as_bytes()).collect::<Vec<_>>()
        )) {
            let matching = names.chunks(64).map(|chunk| {
                chunk
                    .iter()
                    .rev()
                    .fold(0, |bits, name| bits << 1 | u64::from(pattern.matches(name)))
            });
            let matching = matching.collect();
            patterns.push((Compiled::new(pattern), matching));
        }
    }
    for (inner, by_inner) in &patterns {
        for (outer, by_outer) in &patterns {
            let witness = std::iter::zip(by_inner, by_outer).position(|(a, b)| a & !b != 0);
            let contained = is_contained(&inner.pattern, outer);
            assert_eq!(contained, witness.is_none(), "{inner:?} in {outer:?}");
        }
    }
}

#[test]
fn a_list_needs_one_grantor_for_each_of_its_patterns() {
    let grantor = compiled(&patterns(&["room-*", "app/**"]));
    let nothing = compiled(&[]);
    let within = |list: &[&str], grantor| all_contained(&patterns(list), grantor);
    assert!(within(&["room-1", "app/x/*", "app/**"], &grantor));
    assert!(within(&[], &grantor));
    assert!(within(&[], &nothing));
    assert!(!within(&["room-1", "other"], &grantor));
    assert!(!within(&["room-1"], &nothing));
    // The union of two patterns is no one pattern.
    assert!(!within(&["**"], &compiled(&patterns(&["*", "**/**"]))));
    assert!(grantor.any_matches("app/x/y"));
    assert!(!grantor.any_matches("other"));
    assert!(!nothing.any_matches("room-1"));
}

/// Containment by the book: runs both patterns over all texts at once, as pairs of sets of
/// positions, until no new pair comes.
fn contained_by_determinising(inner: &[naive::Glob], outer: &[naive::Glob]) -> bool {
    use naive::Glob;
    // The positions before further input, in a set with every star skipped or not.
    fn closed(globs: &[Glob], mut set: u32) -> u32 {
        for (at, glob) in globs.iter().enumerate() {
            if set >> at & 1 == 1 && !matches!(glob, Glob::Itself(_)) {
                set |= 2 << at;
            }
        }
        set
    }
    fn step(globs: &[Glob], set: u32, symbol: char) -> u32 {
        let mut next = 0;
        for (at, glob) in globs
            .iter()
            .enumerate()
            .filter(|(at, _)| set >> at & 1 == 1)
        {
            next |= match glob {
                Glob::Star => u32::from(symbol != '/') << at,
                Glob::DoubleStar => 1 << at,
                Glob::Itself(itself) => u32::from(*itself == symbol) << (at + 1),
            };
        }
        closed(globs, next)
    }
    let start = (closed(inner, 1), closed(outer, 1));
    let (mut known, mut open) = (std::collections::HashSet::from([start]), vec![start]);
    while let Some((a, b)) = open.pop() {
        if a >> inner.len() & 1 == 1 && b >> outer.len() & 1 == 0 {
            return false;
        }
        for symbol in ['a', 'b', '/', 'z'] {
            let next = (step(inner, a, symbol), step(outer, b, symbol));
            if known.insert(next) {
                open.push(next);
            }
        }
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// Patterns too long for all names; half of the outer ones are widened inner ones, or few
    /// would contain anything.
    #[test]
    fn containment_of_longer_patterns_agrees_with_determinising(
        inner in "(a|b|/|[*]|[*][*]){1,12}",
        other in "(a|b|/|[*]|[*][*]){1,8}",
        widened in any::<bool>(),
        wide in "(/|[*]|[*][*]){1,3}",
        literal in "[ab/]",
    ) {
        let outer = if widened { inner.replacen(&literal, &wide, 1) } else { other };
        let globs = |source: &str| naive::parse(source).unwrap_or_default();
        let expected = contained_by_determinising(&globs(&inner), &globs(&outer));
        check_contained(&inner, &outer, expected);
    }
}

#[test]
fn a_search_without_end_is_ended_with_no() {
    // Each `**` of the inner pattern chooses anew which segments end with `a`, and the outer
    // pattern must remember the last twenty of them.
    let inner = pattern(&format!("{}{}", "**/a/".repeat(40), "x/".repeat(20)));
    let outer = pattern(&format!("**/*a/{}", "*/".repeat(20)));
    let before = STEPS.get();
    assert!(!all_contained(
        &vec![inner; 100],
        &compiled(&vec![outer; 100])
    ));
    let steps = STEPS.get() - before;
    assert!((1 << 15..=1 << 18).contains(&steps), "{steps}");
    // The same in small is decided.
    check_contained(&format!("{}y/y/", "**/a/".repeat(30)), "**/*a/*/*/", true);
}

#[test]
fn containment_of_usual_lists_is_cheap() {
    let list: Vec<_> = (0..100).map(|n| pattern(&format!("shop/{n}/**"))).collect();
    let grantor: Vec<_> = (0..100)
        .map(|n| pattern(&format!("shop/*/{n}/**/*")))
        .collect();
    let before = STEPS.get();
    assert!(!all_contained(&list, &compiled(&grantor)));
    assert!(all_contained(&list, &compiled(&list)));
    assert!(
        STEPS.get() - before <= 100 * 100,
        "{}",
        STEPS.get() - before
    );
}

/// Automata built and steps taken on this thread by `work`.
fn cost(work: impl FnOnce()) -> (u64, u64) {
    let before = (BUILT.get(), STEPS.get());
    work();
    (BUILT.get() - before.0, STEPS.get() - before.1)
}

/// Lists as awkward as they may be: every pair needs a search of its own up to its end.
fn awkward(numbers: std::ops::Range<u32>, end: &str) -> Vec<Pattern> {
    let of = |n| pattern(&format!("*{n}{}{end}", "*b?".repeat(75)));
    numbers.map(of).collect()
}

#[test]
fn a_keys_automata_are_built_once_for_all_questions() {
    let mut grantor = compiled(&[]);
    let (built, _) = cost(|| grantor = compiled(&awkward(100..200, "x")));
    assert_eq!(built, 100);
    // More than the budget allows: a no, and not for nothing.
    let list = awkward(200..300, "x");
    let (built, steps) = cost(|| assert!(!all_contained(&list, &grantor)));
    assert_eq!(built, 0, "containment builds nothing");
    assert!((1_000..=1 << 18).contains(&steps), "{steps}");
    assert!(all_contained(&awkward(100..110, "x"), &grantor));
    let channel = format!("{}x!", "b?".repeat(119));
    let (built, _) = cost(|| assert!(!grantor.any_matches(&channel)));
    assert_eq!(built, 0, "matching builds nothing");
}

#[test]
fn patterns_that_end_otherwise_are_told_apart_without_a_step() {
    let grantor = compiled(&awkward(100..200, "x"));
    let (built, steps) = cost(|| assert!(!all_contained(&awkward(100..200, "y"), &grantor)));
    assert_eq!((built, steps), (0, 0));
    let own = awkward(100..200, "y");
    let channel = format!("{}y!", "b?".repeat(119));
    let matches = || own.iter().any(|pattern| pattern.matches(&channel));
    assert_eq!(cost(|| assert!(!matches())), (0, 0));
    // Where the ends are escaped, or one may stand before the other, the search decides.
    check_contained(r"*a\*", r"*\*", true);
    check_contained(r"a*\*b", r"*\*b", true);
    check_contained(r"a*x\*b", r"a*\\b", false);
    check_contained("*ab*b", "*b", true);
    check_contained("*b", "*ab*b", false);
    check_contained("**xb", "*/*b", false);
    check_contained("/xb", "*/*b", true);
}

#[test]
fn refusals_say_what_to_do() {
    assert_eq!(
        PatternError::TooLong.to_string(),
        "a channel pattern has at most 256 bytes"
    );
    assert!(PatternError::TrailingBackslash.to_string().contains(r"\\"));
}
