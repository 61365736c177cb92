//! What has inner walls: the parts of a value that must not know it, nor each other.

use crate::{check, sources};

/// The parts of a shard's loop, and which parts each may name beside what is measured. Only the
/// loop itself, `src/runtime/shard_loop.rs`, names more.
const LOOP_PARTS: &[(&str, &[&str])] = &[
    ("accepting", &["net"]),
    ("control", &[]),
    ("flushing", &["length", "net", "writing"]),
    ("frozen", &["net"]),
    ("length", &[]),
    ("links", &["measure"]),
    ("measure", &[]),
    ("memory", &[]),
    ("net", &[]),
    ("parts", &[]),
    ("reading", &["length", "measure", "net"]),
    ("sleep", &[]),
    ("storing", &[]),
    // Reading goes on in it.
    ("transported", &["measure", "net", "reading"]),
    ("writing", &[]),
];

#[test]
fn the_parts_of_a_shards_loop_do_not_know_the_loop() {
    let (mut offences, mut found) = (Vec::new(), 0);
    for source in sources() {
        let Some(name) = source.path.strip_prefix("src/runtime/shard_loop/") else {
            continue;
        };
        let name = name.trim_end_matches(".rs");
        let Some((_, allowed)) = LOOP_PARTS.iter().find(|(part, _)| *part == name) else {
            offences.push(format!("{}: add it to LOOP_PARTS", source.path));
            continue;
        };
        found += 1;
        for (number, code) in source.code_lines() {
            let place = format!("{}:{number}", source.path);
            if code.contains("ShardLoop") || code.contains("use super::{") {
                offences.push(format!(
                    "{place}: a part names the loop, or more than one part"
                ));
            }
            let others = LOOP_PARTS.iter().map(|(part, _)| part);
            for part in others.filter(|part| **part != name && !allowed.contains(part)) {
                if code.contains(&format!("super::{part}::")) {
                    offences.push(format!("{place}: {name} names {part}"));
                }
            }
        }
    }
    assert_eq!(found, LOOP_PARTS.len(), "the parts of the loop");
    check("a part of a shard's loop names no other", &offences);
}
