//! A tree of files that stands for a host in good health: two packages of two physical cores with
//! two hyperthreads each, two nodes of memory, one card with a queue for each core, 16 GiB.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::config::{Config, Environment};
use crate::doctor::host::{Asked, Disk, Host};

/// Now, in seconds since 1970.
pub(super) const NOW_UNIX: u64 = 1_790_000_000;

/// The files of the healthy host, in their order: a pattern with `{}` is one for each core.
const FILES: &[(&str, &str)] = &[
    ("proc/sys/kernel/osrelease", "6.12.0-1-amd64"),
    ("proc/sys/kernel/io_uring_disabled", "0"),
    ("proc/sys/kernel/random/entropy_avail", "256"),
    ("proc/sys/kernel/numa_balancing", "0"),
    ("proc/sys/net/core/somaxconn", "4096"),
    ("proc/sys/net/core/netdev_max_backlog", "4096"),
    ("proc/sys/net/ipv4/tcp_max_syn_backlog", "4096"),
    ("proc/sys/net/ipv4/tcp_syncookies", "1"),
    ("proc/sys/net/ipv4/tcp_mem", "524288\t784334\t1048576"),
    ("proc/sys/net/ipv4/ip_local_port_range", "10240\t65535"),
    ("proc/sys/net/ipv4/tcp_slow_start_after_idle", "0"),
    ("proc/sys/net/netfilter/nf_conntrack_buckets", "262144"),
    ("proc/sys/net/netfilter/nf_conntrack_max", "1048576"),
    ("proc/sys/net/netfilter/nf_conntrack_count", "5000"),
    ("proc/sys/fs/nr_open", "1048576"),
    ("proc/sys/fs/file-max", "9223372036854775807"),
    ("proc/sys/fs/file-nr", "2000\t0\t9223372036854775807"),
    ("proc/sys/vm/swappiness", "10"),
    ("proc/sys/vm/zone_reclaim_mode", "0"),
    ("proc/sys/vm/overcommit_memory", "0"),
    (
        "proc/meminfo",
        "MemTotal:       16777216 kB\nMemAvailable:   12582912 kB\n\
         SwapTotal:       2097152 kB\nSwapFree:        2097152 kB",
    ),
    ("proc/cpuinfo", "flags\t\t: fpu vme de"),
    ("proc/stat", "cpu  1000 0 1000 90000 0 0 0 0 0 0\n"),
    (
        "proc/net/softnet_stat",
        "00100000 00000000 00000000\n00100000 00000002 00000000",
    ),
    ("proc/net/tcp", "  sl  local_address rem_address   st"),
    ("proc/self/cgroup", "0::/system.slice/ringmesh.service"),
    (
        "proc/self/mountinfo",
        "24 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n\
         31 24 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n\
         40 24 8:2 / /var rw,relatime - xfs /dev/sda2 rw",
    ),
    (
        "proc/self/status",
        "Name:\tringmesh\nCapEff:\t0000000000000400\nSeccomp:\t0\nCpus_allowed_list:\t0-7",
    ),
    (
        "proc/self/limits",
        "Max locked memory         67108864             67108864             bytes\n\
         Max open files            1024                 1048576              files",
    ),
    ("proc/700/comm", "chronyd"),
    (
        "sys/fs/cgroup/system.slice/ringmesh.service/cpu.max",
        "max 100000",
    ),
    (
        "sys/fs/cgroup/system.slice/ringmesh.service/memory.max",
        "max",
    ),
    (
        "sys/fs/cgroup/system.slice/ringmesh.service/memory.current",
        "500000000",
    ),
    (
        "sys/fs/cgroup/system.slice/ringmesh.service/pids.max",
        "14000",
    ),
    ("sys/devices/system/cpu/online", "0-7"),
    ("sys/devices/system/node/node0/cpulist", "0-1,4-5"),
    ("sys/devices/system/node/node1/cpulist", "2-3,6-7"),
    (
        "sys/kernel/mm/transparent_hugepage/enabled",
        "always [madvise] never",
    ),
    (
        "sys/kernel/mm/transparent_hugepage/defrag",
        "always defer [madvise] never",
    ),
    ("sys/class/net/eth0/duplex", "full"),
    ("sys/class/net/eth0/speed", "10000"),
    ("sys/class/net/eth0/statistics/rx_packets", "90000000"),
    ("sys/class/net/eth0/statistics/rx_missed_errors", "3"),
    ("sys/class/net/lo/statistics/rx_missed_errors", "900"),
    ("sys/class/net/eth0/queues/rx-{}/rps_cpus", "00"),
    ("sys/class/net/eth0/device/msi_irqs/9{}", "msix"),
    (
        "sys/devices/system/cpu/cpu{}/cpufreq/scaling_governor",
        "performance",
    ),
    ("sys/devices/system/cpu/cpu{}/cpuidle/state1/latency", "2"),
    ("sys/devices/system/cpu/cpu{}/cpuidle/state1/disable", "0"),
    ("sys/devices/system/cpu/cpu{}/cpuidle/state3/latency", "200"),
    ("sys/devices/system/cpu/cpu{}/cpuidle/state3/disable", "1"),
    ("proc/irq/9{}/eth0-TxRx-{}/name", ""),
];

/// The tree, and what stands beside it.
pub(super) struct Tree {
    root: TempDir,
    pub asked: Asked,
}

impl Tree {
    /// A host in good health.
    pub(super) fn new() -> Self {
        let disk = Disk {
            free_bytes: 50 << 30,
            all_bytes: 100 << 30,
            sync: Some(Duration::from_millis(2)),
        };
        let tree = Self {
            root: tempfile::tempdir().unwrap(),
            asked: Asked {
                io_uring_fault: None,
                disk: Some(disk),
                now_unix: NOW_UNIX,
            },
        };
        for (path, text) in FILES {
            let cores = 0..if path.contains("{}") { 8 } else { 1 };
            for core in cores {
                tree.put(&path.replace("{}", &core.to_string()), text);
            }
        }
        for core in 0..8_u32 {
            let directory = format!("sys/devices/system/cpu/cpu{core}/topology");
            tree.put(&format!("{directory}/core_id"), &(core % 2).to_string());
            let package = (core / 2 % 2).to_string();
            tree.put(&format!("{directory}/physical_package_id"), &package);
            let affinity = format!("proc/irq/9{core}/smp_affinity_list");
            tree.put(&affinity, &core.to_string());
            let mask = format!("sys/class/net/eth0/queues/tx-{core}/xps_cpus");
            tree.put(&mask, &format!("{:02x}", 1 << core));
        }
        let clock = "sys/devices/system/clocksource/clocksource0";
        tree.put(&format!("{clock}/current_clocksource"), "tsc");
        tree.put(
            &format!("{clock}/available_clocksource"),
            "tsc hpet acpi_pm",
        );
        for what in ["cpu", "memory", "io"] {
            let text = "some avg10=0.00 avg60=0.10 avg300=0.00 total=1";
            tree.put(&format!("proc/pressure/{what}"), text);
        }
        tree.configure("");
        tree.certify(NOW_UNIX as i64 - 86_400, NOW_UNIX as i64 + 60 * 86_400);
        tree
    }

    /// Puts a text into a file, in place of what is there.
    pub(super) fn put(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    /// Replaces a file's text, or removes it. Returns what was there.
    pub(super) fn replace(&self, path: &str, text: Option<&str>) -> Option<String> {
        let before = fs::read_to_string(self.root.path().join(path)).ok();
        match text {
            Some(text) => self.put(path, text),
            None => self.remove(path),
        }
        before
    }

    /// Removes a file or directory.
    pub(super) fn remove(&self, path: &str) {
        let path = self.root.path().join(path);
        match path.is_dir() {
            true => fs::remove_dir_all(path).unwrap(),
            false => fs::remove_file(path).unwrap(),
        }
    }

    /// Writes the configuration, with more settings of `[server]` at its beginning.
    pub(super) fn configure(&self, server: &str) {
        let text = format!(
            "server.listen = [\"127.0.0.1:8443\"]\n{server}\n\
             [tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n\
             [store]\ndata_dir = \"../../var/lib/ringmesh\"\n"
        );
        self.put("etc/ringmesh/ringmesh.toml", &text);
    }

    /// Writes a certificate that is good from one time to another, and its key.
    pub(super) fn certify(&self, from_unix: i64, to_unix: i64) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["rt.example.com".into()]).unwrap();
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let after = |seconds: i64| epoch + Duration::from_secs(seconds as u64);
        params.not_before = after(from_unix);
        params.not_after = after(to_unix);
        let certificate = params.self_signed(&key).unwrap();
        self.put("etc/ringmesh/cert.pem", &certificate.pem());
        self.put("etc/ringmesh/key.pem", &key.serialize_pem());
    }

    /// The host that the tree stands for.
    pub(super) fn host(&self) -> Host {
        Host::new(self.root.path().to_owned(), self.asked.clone())
    }

    /// Its configuration.
    pub(super) fn config(&self) -> Config {
        let file = self.root.path().join("etc/ringmesh/ringmesh.toml");
        let root: &Path = self.root.path();
        let mut config = Config::load(&file, &Environment::default()).unwrap();
        // As a file of this host would name it.
        config.store.data_dir = root.join("var/lib/ringmesh");
        config
    }
}
