//! The pattern language against a naive matcher: a pattern in the first line, names behind it.

use ringmesh::limits::PATTERN_BYTES_MAX;
use ringmesh::proto::pattern::{CompiledPatterns, Pattern};

use super::naive_pattern::{matches, parse};

pub(crate) fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split('\n');
    let source = lines.next().unwrap_or_default();
    let parts = parse(source).filter(|_| (1..=PATTERN_BYTES_MAX).contains(&source.len()));
    let pattern = Pattern::parse(source);
    assert_eq!(pattern.is_ok(), parts.is_some(), "{source:?}");
    let (Ok(pattern), Some(parts)) = (pattern, parts) else {
        return;
    };
    assert_eq!(pattern.as_str(), source);
    let compiled: CompiledPatterns = [pattern.clone()].into_iter().collect();
    for name in lines {
        let expected = matches(&parts, name);
        assert_eq!(pattern.matches(name), expected, "{source:?} and {name:?}");
        assert_eq!(compiled.any_matches(name), expected, "compiled");
    }
}
