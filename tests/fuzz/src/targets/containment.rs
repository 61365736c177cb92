//! Containment of patterns: what one that is contained matches, the other matches, too.
//!
//! The first line is the inner pattern, the second the outer one; what follows fills the stars
//! of the inner one to names that it matches. What is not contained needs no witness: a budget
//! may have ended the search.

use ringmesh::proto::pattern::{CompiledPatterns, Pattern, all_contained};

use super::Bytes;
use super::naive_pattern::{Part, matches, parse};

/// Witnesses of one input.
const WITNESSES: usize = 32;
/// What stars stand for: what patterns are made of, and what they rarely name.
const ALPHABET: &[u8] = b"ab/*\\-x\xc3\xa9";

pub(crate) fn run(bytes: &[u8]) {
    let mut lines = bytes.splitn(3, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (inner, outer) = (line(), line());
    let (Ok(inner), Ok(outer)) = (str::from_utf8(inner), str::from_utf8(outer)) else {
        return;
    };
    let (Ok(inner_pattern), Ok(outer_pattern)) = (Pattern::parse(inner), Pattern::parse(outer))
    else {
        return;
    };
    let list = std::slice::from_ref(&inner_pattern);
    let everything: CompiledPatterns = Pattern::parse("**").into_iter().collect();
    assert!(all_contained(list, &everything));
    let own: CompiledPatterns = [inner_pattern.clone()].into_iter().collect();
    assert!(all_contained(list, &own), "{inner:?} in itself");
    let outer_compiled: CompiledPatterns = [outer_pattern].into_iter().collect();
    if !all_contained(list, &outer_compiled) {
        return;
    }
    let (inner_parts, outer_parts) = (parse(inner).unwrap(), parse(outer).unwrap());
    let mut script = Bytes(line());
    for _ in 0..WITNESSES {
        let name = witness(&inner_parts, &mut script);
        let Ok(name) = String::from_utf8(name) else {
            continue;
        };
        assert!(matches(&inner_parts, &name) && inner_pattern.matches(&name));
        let is_matched = matches(&outer_parts, &name);
        assert!(
            is_matched,
            "{inner:?} is contained in {outer:?}, but not {name:?}"
        );
        assert!(outer_compiled.any_matches(&name));
    }
}

/// A name that the pattern matches.
fn witness(parts: &[Part], script: &mut Bytes<'_>) -> Vec<u8> {
    let mut name = Vec::new();
    for part in parts {
        match part {
            Part::Itself(byte) => name.push(*byte),
            star => {
                for _ in 0..script.below(4) {
                    let byte = ALPHABET[script.below(ALPHABET.len())];
                    if byte != b'/' || *star == Part::DoubleStar {
                        name.push(byte);
                    }
                }
            }
        }
    }
    name
}
