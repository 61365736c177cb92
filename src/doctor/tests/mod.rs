//! The doctor, on trees that stand for hosts: one in good health, and each fault that it knows.

mod faults;
mod tree;

use std::collections::BTreeSet;

use serde_json::json;

use super::{Diagnosis, Patient, examine};
use crate::cli::{DoctorArgs, Level};
use tree::{NOW_UNIX, Tree};

fn diagnose(tree: &Tree, token: Option<&str>, args: &DoctorArgs) -> Diagnosis {
    let config = tree.config();
    let patient = Patient {
        config: Some(&config),
        running: None,
        token: token.map(|it| it.to_owned().into()),
    };
    examine(&tree.host(), &patient, args)
}

/// The checks that are not good, each with its level.
fn complaints(diagnosis: &Diagnosis) -> BTreeSet<(&'static str, Level)> {
    let findings = diagnosis.findings.all().iter();
    let bad = findings.filter(|finding| finding.level != Level::Ok);
    bad.map(|finding| (finding.check, finding.level)).collect()
}

fn token(claims: &serde_json::Value) -> String {
    use base64::Engine;
    let part = |text: String| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let header = part(r#"{"alg":"HS256"}"#.to_owned());
    format!("{header}.{}.c2ln", part(claims.to_string()))
}

#[test]
fn a_host_in_good_health_has_nothing_to_complain_of() {
    let tree = Tree::new();
    let good = token(&json!({"iat": NOW_UNIX - 5, "exp": NOW_UNIX + 600}));
    let args = DoctorArgs {
        connections: Some(100_000),
        tls: true,
        rate: Some(100),
        fan_out: Some(1_000),
        ..DoctorArgs::default()
    };
    let diagnosis = diagnose(&tree, Some(&good), &args);
    assert_eq!(complaints(&diagnosis), BTreeSet::new());
    let checks = diagnosis.findings.all().iter();
    let checks: BTreeSet<_> = checks.map(|finding| finding.check).collect();
    assert!(checks.len() >= 45, "{}: {checks:?}", checks.len());
    for finding in diagnosis.findings.all() {
        assert!(
            !finding.text.is_empty() && finding.remedy.is_none(),
            "{finding:?}"
        );
    }
}

#[test]
fn every_host_setting_of_the_tuner_is_looked_at() {
    let diagnosis = diagnose(&Tree::new(), None, &DoctorArgs::default());
    // Those for hosts with fewer queues than cores.
    let few = [
        "receive-packet-steering",
        "receive-flow-steering",
        "net.core.rps_sock_flow_entries",
    ];
    let seen: BTreeSet<_> = diagnosis.findings.all().iter().map(|it| it.check).collect();
    let mut names = super::settings::all();
    names.retain(|it| !it.name.starts_with("Limit") && !few.contains(&it.name));
    assert!(names.len() > 15);
    for setting in names {
        assert!(seen.contains(setting.name), "{}", setting.name);
    }
}

#[test]
fn shards_get_physical_cores_and_one_node_first() {
    let tree = Tree::new();
    tree.configure("server.shards = 2");
    let diagnosis = diagnose(&tree, None, &DoctorArgs::default());
    let plan = diagnosis.plan.json();
    assert_eq!(plan[0]["core"], 0);
    assert_eq!(
        plan[1],
        json!({
            "shard": 1, "core": 1, "package": 0, "physicalCore": 1, "node": 0,
            "queues": ["eth0-TxRx-1"],
        })
    );
    // Two on each node of memory, before any second thread.
    tree.configure("server.shards = 5");
    let plan = diagnose(&tree, None, &DoctorArgs::default()).plan.json();
    let cores: Vec<_> = plan
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["core"])
        .collect();
    assert_eq!(cores, [0, 1, 2, 3, 4]);
    // What the configuration says stays.
    tree.configure("server.shards = 2\nserver.cores = [5, 1]");
    let diagnosis = diagnose(&tree, None, &DoctorArgs::default());
    assert_eq!(diagnosis.plan.json()[0]["core"], 5);
    assert!(
        diagnosis
            .plan
            .text()
            .contains("shard 1: core 1, physical core 1 of package 0")
    );
}

#[test]
fn limits_are_those_of_the_unit_where_there_is_one() {
    let tree = Tree::new();
    tree.put(
        "usr/lib/systemd/system/ringmesh.service",
        "[Service]\nLimitNOFILE=2048",
    );
    let found = complaints(&diagnose(&tree, None, &DoctorArgs::default()));
    assert_eq!(found, BTreeSet::from([("descriptors", Level::Warn)]));
    let drop_in = "etc/systemd/system/ringmesh.service.d/zz-tuning.conf";
    tree.put(drop_in, "[Service]\nLimitNOFILE=1048576");
    assert!(complaints(&diagnose(&tree, None, &DoctorArgs::default())).is_empty());
}

#[test]
fn a_container_is_not_blamed_for_its_host() {
    let tree = Tree::new();
    tree.put(".dockerenv", "");
    tree.put("proc/sys/vm/swappiness", "60");
    tree.remove("proc/700");
    let diagnosis = diagnose(&tree, None, &DoctorArgs::default());
    assert!(complaints(&diagnosis).is_empty());
    let findings = diagnosis.findings.all();
    assert!(findings.iter().any(|it| it.check == "container"));
}
