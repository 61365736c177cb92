//! The kernel: what the server cannot do without, and its clocks.

use super::host::Host;
use crate::cli::{Findings, Level};
use crate::runtime::is_at_least;

/// The oldest kernel that has everything.
const KERNEL_MIN: (u32, u32) = (6, 1);
/// Clock sources that are read without a system call.
const FAST_CLOCKS: &[&str] = &[
    "tsc",
    "kvm-clock",
    "hyperv_clocksource_tsc_page",
    "arch_sys_counter",
    "riscv_clocksource",
];
/// Programs that set the clock by others.
const TIME_KEEPERS: &[&str] = &["chronyd", "ntpd", "openntpd", "systemd-timesyn", "ptp4l"];
/// Bits of entropy that a kernel has when its generator is ready.
const ENTROPY_BITS_MIN: u32 = 128;

/// Looks at the kernel.
pub(super) fn look(host: &Host, findings: &mut Findings) {
    let release = host.text("/proc/sys/kernel/osrelease").unwrap_or_default();
    let level = match is_at_least(&release, KERNEL_MIN) {
        true => Level::Ok,
        false => Level::Fail,
    };
    let why = "Linux 6.1 is the first whose io_uring has all that a shard needs";
    findings.measured(level, "kernel", release, why, "install a newer kernel");
    io_uring(host, findings);
    clock_source(host, findings);
    time(host, findings);
    if let Some(bits) = host.number::<u32>("/proc/sys/kernel/random/entropy_avail") {
        let level = match bits >= ENTROPY_BITS_MIN {
            true => Level::Ok,
            false => Level::Warn,
        };
        let why = "keys and TLS wait for random numbers until the generator is ready";
        let remedy = "give the virtual machine a virtio-rng device";
        findings.measured(level, "entropy", format!("{bits} bits"), why, remedy);
    }
}

fn io_uring(host: &Host, findings: &mut Findings) {
    let why = "every socket of a shard is served through io_uring";
    let disabled: Option<u8> = host.number("/proc/sys/kernel/io_uring_disabled");
    let filter = host.field("/proc/self/status", "Seccomp");
    let is_filtered = filter.as_deref() == Some("2");
    let fault = &host.asked.io_uring_fault;
    if let Some(level @ 1..) = disabled.filter(|level| *level > 1 || fault.is_some()) {
        let measured = format!("kernel.io_uring_disabled = {level}");
        let remedy = "run sysctl -w kernel.io_uring_disabled=0";
        return findings.measured(Level::Fail, "io_uring", measured, why, remedy);
    }
    match fault {
        Some(fault) if is_filtered => {
            let remedy = "allow io_uring_setup, io_uring_enter and io_uring_register in the \
                          filter: tuning/seccomp.json does";
            findings.measured(Level::Fail, "seccomp", fault.clone(), why, remedy);
        }
        Some(fault) => {
            let remedy = "do what this says, and run ringmesh doctor again";
            findings.measured(Level::Fail, "io_uring", fault.clone(), why, remedy);
        }
        None => {
            findings.measured(Level::Ok, "io_uring", "it works", why, "");
            let measured = match is_filtered {
                true => "a filter that lets io_uring through",
                false => "no filter",
            };
            findings.measured(Level::Ok, "seccomp", measured, why, "");
        }
    }
}

fn clock_source(host: &Host, findings: &mut Findings) {
    let directory = "/sys/devices/system/clocksource/clocksource0";
    let Some(source) = host.text(&format!("{directory}/current_clocksource")) else {
        return;
    };
    let level = match FAST_CLOCKS.contains(&source.as_str()) {
        true => Level::Ok,
        false => Level::Warn,
    };
    let why = "a shard reads the clock several times a turn; others than the processor's own cost \
               a system call each";
    let others = host.text(&format!("{directory}/available_clocksource"));
    let remedy = format!(
        "see dmesg for why the kernel left the better one; it offers {}",
        others.unwrap_or_default()
    );
    findings.measured(level, "clock-source", source, why, remedy);
}

fn time(host: &Host, findings: &mut Findings) {
    let is_marked = host.has("/run/systemd/timesync/synchronized");
    let runs = host.runs(TIME_KEEPERS);
    let why = "tokens are good from one time to another, by this clock and your backend's";
    let (level, measured) = match (is_marked, runs) {
        (true, _) => (Level::Ok, "the clock is set by others"),
        (_, true) => (Level::Ok, "a program that sets the clock runs"),
        _ if host.is_container() => (Level::Ok, "the clock is the host's"),
        _ => (Level::Warn, "nothing is seen that sets the clock"),
    };
    let remedy = "install chrony, or run timedatectl set-ntp true";
    findings.measured(level, "time", measured, why, remedy);
}
