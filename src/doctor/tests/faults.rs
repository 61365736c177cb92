//! Faults that are planted one at a time: each is found, and nothing else is.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::tree::{NOW_UNIX, Tree};
use super::{complaints, diagnose, token};
use crate::cli::{DoctorArgs, Level};

const GROUP: &str = "sys/fs/cgroup/system.slice/ringmesh.service";
const NET: &str = "proc/sys/net";
const CARD: &str = "sys/class/net/eth0";
const CPU: &str = "sys/devices/system/cpu";
const CLOCK: &str = "sys/devices/system/clocksource/clocksource0/current_clocksource";

/// Files that are changed, and the check that must complain.
const OF_FILES: &[(&str, &str, &str, Level)] = &[
    (
        "proc/sys/kernel/osrelease",
        "5.15.0-91",
        "kernel",
        Level::Fail,
    ),
    (
        "proc/sys/kernel/io_uring_disabled",
        "2",
        "io_uring",
        Level::Fail,
    ),
    (
        "proc/sys/kernel/random/entropy_avail",
        "20",
        "entropy",
        Level::Warn,
    ),
    (
        "proc/sys/kernel/numa_balancing",
        "1",
        "kernel.numa_balancing",
        Level::Warn,
    ),
    (CLOCK, "hpet", "clock-source", Level::Warn),
    (
        "NET/core/somaxconn",
        "128",
        "net.core.somaxconn",
        Level::Warn,
    ),
    (
        "NET/core/netdev_max_backlog",
        "1000",
        "net.core.netdev_max_backlog",
        Level::Warn,
    ),
    (
        "NET/ipv4/tcp_max_syn_backlog",
        "512",
        "net.ipv4.tcp_max_syn_backlog",
        Level::Warn,
    ),
    (
        "NET/ipv4/tcp_syncookies",
        "0",
        "net.ipv4.tcp_syncookies",
        Level::Warn,
    ),
    (
        "NET/ipv4/tcp_mem",
        "190000 250000 380000",
        "net.ipv4.tcp_mem",
        Level::Warn,
    ),
    (
        "NET/ipv4/ip_local_port_range",
        "32768 60999",
        "net.ipv4.ip_local_port_range",
        Level::Warn,
    ),
    (
        "NET/ipv4/tcp_slow_start_after_idle",
        "1",
        "net.ipv4.tcp_slow_start_after_idle",
        Level::Warn,
    ),
    (
        "NET/netfilter/nf_conntrack_buckets",
        "65536",
        "net.netfilter.nf_conntrack_buckets",
        Level::Warn,
    ),
    (
        "NET/netfilter/nf_conntrack_count",
        "900000",
        "conntrack",
        Level::Fail,
    ),
    (
        "NET/netfilter/nf_conntrack_max",
        "262144",
        "net.netfilter.nf_conntrack_max",
        Level::Warn,
    ),
    ("proc/sys/fs/nr_open", "65536", "fs.nr_open", Level::Warn),
    ("proc/sys/fs/file-max", "100000", "fs.file-max", Level::Warn),
    (
        "proc/sys/fs/file-nr",
        "95000 0 100000",
        "open-files",
        Level::Fail,
    ),
    ("proc/sys/vm/swappiness", "60", "vm.swappiness", Level::Warn),
    (
        "proc/sys/vm/zone_reclaim_mode",
        "1",
        "vm.zone_reclaim_mode",
        Level::Warn,
    ),
    (
        "proc/sys/vm/overcommit_memory",
        "2",
        "overcommit",
        Level::Warn,
    ),
    (
        "sys/kernel/mm/transparent_hugepage/enabled",
        "[always] madvise never",
        "transparent-hugepages",
        Level::Warn,
    ),
    (
        "sys/kernel/mm/transparent_hugepage/defrag",
        "[always] defer madvise never",
        "transparent-hugepages-defrag",
        Level::Warn,
    ),
    (
        "CPU/cpu5/cpufreq/scaling_governor",
        "powersave",
        "cpu-governor",
        Level::Warn,
    ),
    (
        "CPU/cpu2/cpuidle/state3/disable",
        "0",
        "cpu-idle-states",
        Level::Warn,
    ),
    ("CARD/duplex", "half", "link", Level::Warn),
    (
        "CARD/statistics/rx_missed_errors",
        "90000",
        "card-drops",
        Level::Warn,
    ),
    (
        "CARD/queues/tx-3/xps_cpus",
        "00",
        "transmit-packet-steering",
        Level::Warn,
    ),
    (
        "proc/irq/94/smp_affinity_list",
        "0",
        "nic-interrupts",
        Level::Warn,
    ),
    (
        "proc/net/softnet_stat",
        "00100000 00010000 00000000",
        "backlog-drops",
        Level::Warn,
    ),
    (
        "proc/pressure/memory",
        "some avg10=9.00 avg60=8.10",
        "memory-pressure",
        Level::Warn,
    ),
    (
        "proc/pressure/cpu",
        "some avg10=60.00 avg60=55.00",
        "cpu-pressure",
        Level::Warn,
    ),
    ("GROUP/cpu.max", "150000 100000", "cpu-quota", Level::Ok),
    ("GROUP/cpu.max", "50000 100000", "cpu-quota", Level::Warn),
    ("GROUP/pids.max", "20", "threads", Level::Fail),
    (
        "GROUP/memory.high",
        "520000000",
        "memory-limit",
        Level::Warn,
    ),
];

/// Plants one fault; the checks that complain must be these.
#[track_caller]
fn check(plant: impl FnOnce(&mut Tree), expected: &[(&'static str, Level)]) {
    let mut tree = Tree::new();
    plant(&mut tree);
    let found = complaints(&diagnose(&tree, None, &DoctorArgs::default()));
    assert_eq!(found, expected.iter().copied().collect::<BTreeSet<_>>());
}

#[test]
fn each_bad_file_is_found_and_nothing_else() {
    let tree = Tree::new();
    for (path, text, name, level) in OF_FILES {
        let places = [
            ("NET", NET),
            ("CARD", CARD),
            ("CPU/", "sys/devices/system/cpu/"),
        ];
        let path = places
            .iter()
            .fold((*path).to_owned(), |path, (short, long)| {
                match path.strip_prefix(short) {
                    Some(rest) => format!("{long}{rest}"),
                    None => path,
                }
            });
        let path = path.replace("GROUP", GROUP);
        assert!(!path.contains(CPU) || path.starts_with(CPU));
        let mut expected = BTreeSet::from([(*name, *level)]);
        expected.retain(|(_, level)| *level != Level::Ok);
        let before = tree.replace(&path, Some(text));
        let found = complaints(&diagnose(&tree, None, &DoctorArgs::default()));
        assert_eq!(found, expected, "{path}");
        tree.replace(&path, before.as_deref());
    }
}

#[test]
fn faults_of_the_process_are_found() {
    let limits = |memlock: &str, files: &str| {
        format!(
            "Max locked memory  {memlock}  {memlock}  bytes\nMax open files  1024  {files}  files"
        )
    };
    let put = |tree: &mut Tree, text: &str| tree.put("proc/self/limits", text);
    check(
        |it| put(it, &limits("67108864", "4096")),
        &[("descriptors", Level::Warn)],
    );
    check(
        |it| put(it, &limits("67108864", "512")),
        &[("descriptors", Level::Fail)],
    );
    check(
        |it| put(it, &limits("65536", "1048576")),
        &[("memlock", Level::Fail)],
    );
    check(
        |it| it.asked.io_uring_fault = Some("it is too old; use another".into()),
        &[("io_uring", Level::Fail)],
    );
    let status = "CapEff:\t0\nSeccomp:\t2\nCpus_allowed_list:\t0-7";
    check(
        |it| {
            it.put("proc/self/status", status);
            it.asked.io_uring_fault = Some("a filter refuses it".into());
        },
        &[("seccomp", Level::Fail)],
    );
    check(|it| it.put("proc/self/status", status), &[]);
    check(
        |it| it.configure("server.cores = [0, 9]"),
        &[("cores", Level::Fail)],
    );
    check(
        |it| it.configure("server.shards = 9"),
        &[("cores", Level::Warn)],
    );
    check(|it| it.remove("proc/700"), &[("time", Level::Warn)]);
}

#[test]
fn faults_of_machines_and_cards_are_found() {
    check(
        |tree| {
            tree.put("proc/cpuinfo", "flags : fpu hypervisor");
            tree.put("proc/stat", "cpu  1000 0 1000 8000 0 0 0 900 0 0");
        },
        &[("stolen-time", Level::Warn)],
    );
    let one_queue = |tree: &mut Tree| {
        for queue in 1..8 {
            tree.remove(&format!("{CARD}/queues/rx-{queue}"));
        }
        tree.put("proc/sys/net/core/rps_sock_flow_entries", "32768");
        tree.put(&format!("{CARD}/queues/rx-0/rps_flow_cnt"), "32768");
    };
    let expected = [
        ("nic-queues", Level::Warn),
        ("receive-packet-steering", Level::Warn),
    ];
    check(one_queue, &expected);
    let spread = |tree: &mut Tree| {
        one_queue(tree);
        tree.put(&format!("{CARD}/queues/rx-0/rps_cpus"), "ff");
    };
    check(spread, &[]);
    check(
        |tree| {
            spread(tree);
            tree.put(&format!("{CARD}/queues/rx-0/rps_flow_cnt"), "0");
        },
        &[("receive-flow-steering", Level::Warn)],
    );
}

#[test]
fn shards_that_would_get_no_connects_are_found() {
    let follows = "server.follow_queues = true";
    let warns = [("follow-queues", Level::Warn)];
    check(|it| it.configure(follows), &[]);
    let old = |tree: &mut Tree| {
        tree.configure(follows);
        tree.put("proc/sys/kernel/osrelease", "6.1.0-18-amd64");
    };
    check(old, &warns);
    // Two shards on one core.
    let twice = format!("{follows}\nserver.shards = 9");
    let expected = [("cores", Level::Warn), warns[0]];
    check(|it| it.configure(&twice), &expected);
    let moved = |tree: &mut Tree| tree.put("proc/irq/94/smp_affinity_list", "0");
    let interrupts = ("nic-interrupts", Level::Warn);
    check(moved, &[interrupts]);
    let followed = |tree: &mut Tree| {
        moved(tree);
        tree.configure(follows);
    };
    check(followed, &[interrupts, warns[0]]);
    // What is spread to a core comes in there.
    let spread = |tree: &mut Tree| {
        followed(tree);
        tree.put(&format!("{CARD}/queues/rx-4/rps_cpus"), "10");
    };
    check(spread, &[interrupts]);
    let unseen = |tree: &mut Tree| {
        tree.configure(follows);
        for queue in 0..8 {
            tree.remove(&format!("{CARD}/device/msi_irqs/9{queue}"));
        }
    };
    check(unseen, &warns);
}

#[test]
fn faults_of_memory_are_found() {
    let memory = |available: u64, swapped: u64| {
        format!(
            "MemTotal: 16777216 kB\nMemAvailable: {available} kB\nSwapTotal: 2097152 kB\n\
             SwapFree: {} kB",
            2_097_152 - swapped
        )
    };
    let put = |tree: &mut Tree, text: &str| tree.put("proc/meminfo", text);
    check(
        |it| put(it, &memory(500_000, 0)),
        &[("memory", Level::Warn)],
    );
    check(
        |it| put(it, &memory(12_582_912, 900_000)),
        &[("swap", Level::Warn)],
    );
    check(
        |it| it.configure("limits.memory_bytes = 17000000000"),
        &[("memory-ceiling", Level::Fail)],
    );
    let group = |tree: &mut Tree| {
        tree.put(&format!("{GROUP}/memory.max"), "1000000000");
        tree.put(&format!("{GROUP}/memory.current"), "950000000");
    };
    check(group, &[("memory-limit", Level::Warn)]);
}

#[test]
fn faults_of_the_store_are_found() {
    let disk = |tree: &mut Tree, free_bytes: u64, sync_ms: u64| {
        if let Some(disk) = &mut tree.asked.disk {
            disk.free_bytes = free_bytes;
            disk.sync = Some(Duration::from_millis(sync_ms));
        }
    };
    check(|it| disk(it, 1 << 20, 1), &[("store-space", Level::Fail)]);
    check(|it| disk(it, 500 << 20, 1), &[("store-space", Level::Warn)]);
    check(|it| disk(it, 50 << 30, 300), &[("store-sync", Level::Warn)]);
    check(
        |it| disk(it, 50 << 30, 3_000),
        &[("store-sync", Level::Fail)],
    );
    let mounted = |tree: &mut Tree, line: &str| tree.put("proc/self/mountinfo", line);
    let fail = [("store-disk", Level::Fail)];
    check(
        |it| mounted(it, "40 24 8:2 / /var ro - xfs /dev/sda2 rw"),
        &fail,
    );
    check(
        |it| mounted(it, "40 24 8:2 / /var rw - tmpfs tmpfs rw"),
        &fail,
    );
    let remote = [("store-disk", Level::Warn)];
    check(
        |it| mounted(it, "40 24 8:2 / /var rw - nfs4 a:/b rw"),
        &remote,
    );
}

#[test]
fn faults_of_certificates_ports_and_tokens_are_found() {
    let now = NOW_UNIX as i64;
    let time = |level| [("certificate-time", level)];
    check(
        |it| it.certify(now - 900_000, now - 86_400),
        &time(Level::Fail),
    );
    check(
        |it| it.certify(now - 900_000, now + 5 * 86_400),
        &time(Level::Warn),
    );
    check(
        |it| it.certify(now + 900, now + 50 * 86_400),
        &time(Level::Fail),
    );
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let key = "etc/ringmesh/key.pem";
    check(|it| it.put(key, &other), &[("certificate", Level::Fail)]);
    check(|it| it.remove(key), &[("certificate", Level::Fail)]);
    let listens = "   0: 0100007F:20FB 00000000:0000 0A 0:0";
    check(
        |it| it.put("proc/net/tcp", listens),
        &[("port", Level::Fail)],
    );

    let judged = |claims: serde_json::Value| {
        let diagnosis = diagnose(&Tree::new(), Some(&token(&claims)), &DoctorArgs::default());
        complaints(&diagnosis)
    };
    let bad = |level| BTreeSet::from([("token", level)]);
    let ends = NOW_UNIX + 600;
    assert_eq!(
        judged(json!({"iat": NOW_UNIX + 90, "exp": ends})),
        bad(Level::Fail)
    );
    assert_eq!(
        judged(json!({"iat": NOW_UNIX + 3, "exp": ends})),
        bad(Level::Warn)
    );
    assert_eq!(
        judged(json!({"nbf": NOW_UNIX + 90, "exp": ends})),
        bad(Level::Fail)
    );
    assert_eq!(judged(json!({"exp": NOW_UNIX - 1})), bad(Level::Fail));
    assert_eq!(judged(json!({"sub": "alice"})), bad(Level::Fail));
    let diagnosis = diagnose(&Tree::new(), Some("sk_live_a"), &DoctorArgs::default());
    assert_eq!(complaints(&diagnosis), bad(Level::Fail));
}

#[test]
fn a_size_that_the_host_does_not_have_is_named() {
    let too_much = |args: DoctorArgs, expected: &[&'static str]| {
        let found = complaints(&diagnose(&Tree::new(), None, &args));
        let expected = expected.iter().map(|name| (*name, Level::Fail));
        assert_eq!(found, expected.collect::<BTreeSet<_>>());
    };
    let size = |connections: u64, tls: bool, rate: u32, fan_out: u32| DoctorArgs {
        connections: Some(connections),
        tls,
        rate: Some(rate),
        fan_out: Some(fan_out),
        ..DoctorArgs::default()
    };
    too_much(size(1_000_000, true, 0, 1), &[]);
    let all = ["size-memory", "size-descriptors", "size-cores"];
    too_much(size(2_000_000, true, 0, 1), &all);
    too_much(size(10_000, false, 1_500, 1_000), &["size-cores"]);
    too_much(
        size(10_000, false, 5_000, 1_000),
        &["size-cores", "size-bandwidth"],
    );
}
