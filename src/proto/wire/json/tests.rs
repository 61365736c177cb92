//! The reader of JSON against tables, and against two libraries that read JSON.
//!
//! serde_json's `RawValue` validates by the same grammar and remembers what was written, so it
//! must agree in everything, depth apart. simd-json converts as it reads, so it must agree
//! wherever it accepts.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::value::RawValue;

use super::*;

fn members(text: &str) -> Result<Vec<(String, &str)>, JsonFault> {
    let mut members = Vec::new();
    for_each_member(text, |key, value| {
        members.push((key.decode().unwrap().into_owned(), value));
    })?;
    Ok(members)
}

fn check(text: &str, expected: Result<&[(&str, &str)], JsonFault>) {
    let expected = expected.map(|members| {
        members
            .iter()
            .map(|&(key, value)| (key.to_owned(), value))
            .collect::<Vec<_>>()
    });
    assert_eq!(members(text), expected, "{text:?}");
}

#[test]
fn members_are_found_as_they_were_written() {
    check("{}", Ok(&[]));
    check(" \t\r\n{ } \n", Ok(&[]));
    check(r#"{"a":1}"#, Ok(&[("a", "1")]));
    check(
        " { \"a\" : [ 1 , { } ] \n,\"b\":\t\"x \\\" }\" } ",
        Ok(&[("a", "[ 1 , { } ]"), ("b", "\"x \\\" }\"")]),
    );
    check(
        r#"{"a":1,"a":{"a":2},"a":3}"#,
        Ok(&[("a", "1"), ("a", "{\"a\":2}"), ("a", "3")]),
    );
    check(
        r#"{"\u0064ata":null,"":""}"#,
        Ok(&[("data", "null"), ("", "\"\"")]),
    );
    check(
        r#"{"né":"日本","x":"\ud83d"}"#,
        Ok(&[("né", "\"日本\""), ("x", r#""\ud83d""#)]),
    );
}

#[test]
fn every_json_value_is_a_value() {
    let digits = "9".repeat(400);
    let numbers = "0 -0 10 -12.050 1e400 1E+0 0.1e-5"
        .split(' ')
        .chain([&digits[..]]);
    let containers = "true false null [] {} [[],{}] [{\"a\":[]},0]".split(' ');
    let strings = r#""" "né" "\"\\\/\b\f\n\r\t\u00aF" "\udead\ud83d""#.split(' ');
    for value in numbers
        .chain(containers)
        .chain(strings)
        .chain(["\"\u{7f}\u{2028} \""])
    {
        check(&format!("{{\"a\":{value}}}"), Ok(&[("a", value)]));
        check(
            &format!("{{\"a\" : {value}\n, \"b\":0}}"),
            Ok(&[("a", value), ("b", "0")]),
        );
    }
}

#[test]
fn nothing_else_is_a_value() {
    let numbers = "- +1 01 -01 1. .5 1.e1 1e 1e+ 0x1 1_0 NaN Infinity -Infinity".split(' ');
    let words = "nul nulll True undefined 'a' a /**/1".split(' ');
    let containers = r#"[ ] [1,] [,1] [1} {1} {"a"} {"a":} {"a":1,} {,} {"a":1] {a:1}"#;
    let strings = r#"" "\x" "\" "\u12" "\u12g4" "\U0041""#.split(' ');
    let spaced = [
        "",
        "[1 2]",
        "{\"a\" 1}",
        "1 2",
        "\u{a0}1",
        "\"\n\"",
        "\"\t\"",
    ];
    let controls = ["\"\0\"", "\"\u{1f}\"", "\0", "1\0"];
    let values = numbers
        .chain(words)
        .chain(containers.split(' '))
        .chain(strings);
    for value in values.chain(spaced).chain(controls) {
        check(&format!("{{\"a\":{value}}}"), Err(JsonFault::Syntax));
        check(&format!("{{\"a\":[{value},0]}}"), Err(JsonFault::Syntax));
    }
}

#[test]
fn a_text_is_one_object_and_nothing_more() {
    for text in [
        "",
        " ",
        "[]",
        "1",
        "null",
        "\"{}\"",
        "\u{feff}{}",
        "}",
        "x{}",
        "\0",
    ] {
        check(text, Err(JsonFault::NotAnObject));
    }
    for text in [
        "{",
        "{}}",
        "{}{}",
        "{},",
        "{} x",
        "{}\0",
        "{\"a\":1},",
        "{,}",
        "{\"a\":1,}",
    ] {
        check(text, Err(JsonFault::Syntax));
    }
}

#[test]
fn no_text_ends_early() {
    let text = r#"{"a":[-1.5e+3,true,{"b\n":"\u00e9"}],"c":null,"d":{}}"#;
    assert!(members(text).is_ok());
    for end in 1..text.len() {
        check(&text[..end], Err(JsonFault::Syntax));
    }
}

#[test]
fn levels_are_counted_from_the_outermost_object() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nested = |levels: usize, core| {
            let inner = levels - 1;
            format!(
                "{{\"a\":{}{core}{}}}",
                open.repeat(inner),
                close.repeat(inner)
            )
        };
        for core in ["0", "\"[\""] {
            assert!(members(&nested(128, core)).is_ok());
            check(&nested(129, core), Err(JsonFault::TooDeep));
            check(&nested(50_000, core), Err(JsonFault::TooDeep));
        }
        // Empty containers are levels, too.
        for core in ["[]", "{}"] {
            assert!(members(&nested(127, core)).is_ok());
            check(&nested(128, core), Err(JsonFault::TooDeep));
        }
    }
    // Levels, not containers.
    assert!(members(&format!("{{\"a\":[{}0]}}", "[{}],".repeat(1_000))).is_ok());
}

#[test]
fn the_kind_of_each_level_is_remembered() {
    for kinds in 0u32..64 {
        let (mut text, mut closing) = (String::from("{\"a\":"), String::from("}"));
        for level in 0..6 {
            let is_object = kinds >> level & 1 == 1;
            text.push_str(if is_object { "{\"a\":" } else { "[" });
            closing.insert(0, if is_object { '}' } else { ']' });
        }
        let text = format!("{text}0{closing}");
        assert!(members(&text).is_ok(), "{text}");
        // Each closing bracket but that of the outermost object, replaced by the other one.
        for at in text.len() - 7..text.len() - 1 {
            let other = if &text[at..=at] == "}" { "]" } else { "}" };
            check(
                &format!("{}{other}{}", &text[..at], &text[at + 1..]),
                Err(JsonFault::Syntax),
            );
        }
    }
}

/// Checks the verdict on one text, and the members if there are any.
fn check_verdict(text: &str) {
    let mut members = BTreeMap::new();
    let is_accepted = for_each_member(text, |key, value| {
        // A key that is no Unicode is compared as it was written.
        let bytes = || String::from_utf8(key.as_bytes().to_vec()).unwrap();
        members.insert(key.decode().map_or_else(bytes, Into::into), value);
    })
    .is_ok();
    let raw = serde_json::from_str::<&RawValue>(text);
    let is_object = raw.is_ok_and(|raw| raw.get().starts_with('{'));
    assert_eq!(is_accepted, is_object, "serde_json on {text:?}");
    if let Ok(expected) = serde_json::from_str::<BTreeMap<String, &RawValue>>(text) {
        let expected: BTreeMap<_, _> = expected
            .into_iter()
            .map(|(key, value)| (key, value.get()))
            .collect();
        assert_eq!(members, expected, "{text:?}");
    }
    let mut copy = text.as_bytes().to_vec();
    let simd_tape = simd_json::to_tape(&mut copy);
    if simd_tape.is_ok_and(|tape| matches!(tape.0[0], simd_json::Node::Object { .. })) {
        assert!(is_accepted, "simd-json on {text:?}");
    }
}

/// Checks each text of up to `length_max` of the `symbols`, between `before` and `after`.
fn check_all_verdicts(before: &str, symbols: &[&str], length_max: u32, after: &str) {
    let base = symbols.len();
    for length in 0..=length_max {
        for number in 0..base.pow(length) {
            let mut text = String::from(before);
            let mut rest = number;
            for _ in 0..length {
                text.push_str(symbols[rest % base]);
                rest /= base;
            }
            text.push_str(after);
            check_verdict(&text);
        }
    }
}

#[test]
fn all_short_texts_of_structure_are_judged_alike() {
    check_all_verdicts(
        "",
        &["{", "}", "[", "]", ",", ":", "\"a\"", "0", " "],
        5,
        "",
    );
    check_all_verdicts("{\"a\":", &["{", "}", "[", "]", ",", "\"b\":", "1"], 5, "}");
}

#[test]
fn all_short_numbers_are_judged_alike() {
    check_all_verdicts("{\"a\":", &["-", "0", "7", ".", "e", "E", "+"], 5, "}");
}

#[test]
fn all_short_strings_are_judged_alike() {
    let symbols = ["\\", "\"", "u", "d83d", "de00", "n", "\n", "é"];
    check_all_verdicts("{\"a\":\"", &symbols, 4, "\"}");
    check_all_verdicts("{\"", &symbols, 4, "\":0}");
}

fn space() -> impl Strategy<Value = &'static str> {
    select(&["", "", "", " ", "\n\t", "\r\n  "][..])
}

fn string() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[ !#-\\[\\]-~]{0,90}",
        "[\u{7f}-\u{10ffff}]{1,4}",
        "\\\\[\"\\\\/bfnrt]",
        "\\\\u[0-9a-fA-F]{4}",
        "\\\\ud83d\\\\ude00",
    ];
    prop::collection::vec(piece, 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

/// Any JSON value as a text, with whitespace in all places where it may stand.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        select(&["true", "false", "null", "0", "-0", "1e400"][..]).prop_map(String::from),
        "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,9})?([eE][+-]?[0-9]{1,4})?",
        string(),
    ];
    leaf.prop_recursive(6, 40, 6, |inner| {
        let element =
            (space(), inner.clone(), space()).prop_map(|(a, value, b)| [a, &value, b].concat());
        let array = prop::collection::vec(element, 0..6);
        prop_oneof![
            (space(), array).prop_map(|(space, elements)| match &elements[..] {
                [] => format!("[{space}]"),
                elements => format!("[{}]", elements.join(",")),
            }),
            object(string(), inner),
        ]
    })
}

fn object(
    key: impl Strategy<Value = String>,
    value: impl Strategy<Value = String>,
) -> impl Strategy<Value = String> {
    let member = (space(), key, space(), space(), value, space())
        .prop_map(|(a, key, b, c, value, d)| [a, &key, b, ":", c, &value, d].concat());
    (space(), prop::collection::vec(member, 0..6)).prop_map(|(space, members)| match &members[..] {
        [] => format!("{{{space}}}"),
        members => format!("{{{}}}", members.join(",")),
    })
}

/// An object with keys that commands know, some written with escapes, some twice.
fn message() -> impl Strategy<Value = String> {
    const KNOWN_KEYS: &[&str] = &[
        "\"data\"",
        "\"\\u0064ata\"",
        "\"d\\u0061t\\u0061\"",
        "\"type\"",
        "\"channel\"",
    ];
    let key = prop_oneof![3 => select(KNOWN_KEYS).prop_map(String::from), 1 => string()];
    (space(), object(key, value()), space()).prop_map(|(a, object, b)| [a, &object, b].concat())
}

/// Characters that mean something in JSON, and some that may not stand there.
const DAMAGE: &str = "[{}\\[\\],:\"\\\\ \n0-9eE.+atnu-é\0]";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn valid_texts_are_accepted_with_the_same_members(text in message()) {
        prop_assert!(for_each_member(&text, |_, _| ()).is_ok(), "{}", text);
        check_verdict(&text);
    }

    #[test]
    fn damaged_texts_are_judged_alike(
        text in message(),
        damages in prop::collection::vec((any::<Index>(), 0..3, DAMAGE), 1..3),
    ) {
        let mut chars: Vec<char> = text.chars().collect();
        for (index, damage, character) in damages {
            let at = index.index(chars.len());
            match damage {
                0 => drop(chars.remove(at)),
                1 => chars.splice(at..at, character.chars()).for_each(drop),
                _ => chars.splice(at..=at, character.chars()).for_each(drop),
            }
            if chars.is_empty() {
                break;
            }
        }
        check_verdict(&chars.into_iter().collect::<String>());
    }

    #[test]
    fn any_text_is_judged_alike(
        text in any::<String>(),
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        check_verdict(&text);
        let lossy = String::from_utf8_lossy(&bytes);
        for payload in [&text[..], &lossy, &format!("{{\"type\":{text}}}"), &format!("{{{lossy}")] {
            check_verdict(payload);
        }
    }
}
