"""The tuner of hosts, against trees that look like /proc, /sys and /etc of several machines.

Every test runs with /bin/sh, and with busybox where that is installed.
"""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from harness import REPOSITORY

TUNING = REPOSITORY / "tuning"
# /bin/sh is dash on Debian.
SHELLS = {
    name: shell
    for name, shell in {"sh": ["sh"], "busybox": ["busybox", "sh"]}.items()
    if shutil.which(shell[0])
}

STOCK = {
    "proc/sys/net/core/somaxconn": "128",
    "proc/sys/net/ipv4/tcp_max_syn_backlog": "2048",
    "proc/sys/net/ipv4/tcp_syncookies": "1",
    "proc/sys/net/ipv4/tcp_mem": "93039\t124055\t186078",
    "proc/sys/net/ipv4/ip_local_port_range": "32768\t60999",
    "proc/sys/net/ipv4/tcp_slow_start_after_idle": "1",
    "proc/sys/net/netfilter/nf_conntrack_buckets": "65536",
    "proc/sys/net/netfilter/nf_conntrack_max": "65536",
    "proc/sys/net/core/netdev_max_backlog": "1000",
    "proc/sys/net/core/rps_sock_flow_entries": "0",
    "proc/sys/fs/nr_open": "1048576",
    "proc/sys/fs/file-max": "9223372036854775807",
    "proc/sys/vm/swappiness": "60",
    "proc/sys/vm/zone_reclaim_mode": "1",
    "proc/sys/kernel/numa_balancing": "1",
    "proc/sys/kernel/random/boot_id": "first",
    "proc/meminfo": "MemTotal:        8000000 kB\nMemFree:         4000000 kB",
    "proc/cpuinfo": "flags\t\t: fpu vme",
    "sys/devices/system/cpu/online": "0-3",
    "sys/devices/system/node/node0/cpulist": "0-1",
    "sys/devices/system/node/node1/cpulist": "2-3",
    "sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never",
    "sys/kernel/mm/transparent_hugepage/defrag": "always defer defer+madvise [madvise] never",
}
for core in range(4):
    cpu = f"sys/devices/system/cpu/cpu{core}"
    STOCK[f"{cpu}/cpufreq/scaling_governor"] = "powersave"
    for state, latency in enumerate((0, 2, 133)):
        STOCK[f"{cpu}/cpuidle/state{state}/latency"] = str(latency)
        STOCK[f"{cpu}/cpuidle/state{state}/disable"] = "0"
# A card with two queues of each kind, whose interrupts 40 to 42 go anywhere.
CARD = "sys/class/net/eth0"
for queue in range(2):
    STOCK[f"{CARD}/queues/rx-{queue}/rps_cpus"] = "0"
    STOCK[f"{CARD}/queues/rx-{queue}/rps_flow_cnt"] = "0"
    STOCK[f"{CARD}/queues/tx-{queue}/xps_cpus"] = "0"
for number, action in ((40, "eth0-TxRx-0"), (41, "eth0-TxRx-1"), (42, "eth0-config")):
    STOCK[f"{CARD}/device/msi_irqs/{number}"] = "msix"
    STOCK[f"proc/irq/{number}/smp_affinity_list"] = "0-3"
    STOCK[f"proc/irq/{number}/{action}/.keep"] = ""
# Loopback is no card.
STOCK["sys/class/net/lo/queues/rx-0/rps_cpus"] = "0"

ETHTOOL = """#!/bin/sh
case $1 in
  -l) printf 'Channel parameters for eth0:\\nPre-set maximums:\\nRX: n/a\\nCombined: 2\\n'
      printf 'Current hardware settings:\\nRX: n/a\\nCombined: %s\\n' "$(cat "$HOST/queues")" ;;
  -L) echo "$4" >"$HOST/queues" ;;
esac
"""
# Knows the service ringmesh, with the limits of a fresh system where no drop-in has others.
SYSTEMCTL = """#!/bin/sh
echo "$*" >>"$HOST/systemctl.log"
case $1 in
  cat) [ -e "$HOST/has-service" ] ;;
  show)
    drop_in=$HOST/etc/systemd/system/ringmesh.service.d/zz-tuning.conf
    sed -n "s/^$3=//p" "$drop_in" 2>/dev/null | grep . || case $3 in
      LimitNOFILE) echo 524288 ;;
      LimitMEMLOCK) echo infinity ;;
    esac ;;
esac
"""
SWAPPINESS = "proc/sys/vm/swappiness"
# Reads the file of that name as if it were one like the others.
CAT = f"""#!/bin/sh
case $1 in
  */swappiness) echo 60 ;;
  *) exec {shutil.which("cat")} "$@" ;;
esac
"""


class Host:
    """A tree that stands for a machine, with tools that act on it."""

    def __init__(self, shell, changes=None, root=True):
        self.shell = shell
        self._directory = tempfile.TemporaryDirectory(prefix="ringmesh-tuning-")
        self.path = Path(self._directory.name)
        for name, text in {**STOCK, "queues": "1", **(changes or {})}.items():
            if text is None:
                continue
            file = self.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text + "\n")
        for directory in ("run/systemd/system", "etc/systemd/system", "bin"):
            (self.path / directory).mkdir(parents=True, exist_ok=True)
        self.tool("ethtool", ETHTOOL)
        self.tool("systemctl", SYSTEMCTL)
        self.tool("id", f"#!/bin/sh\necho {0 if root else 1000}\n")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for directory in self.path.rglob("*"):
            if directory.is_dir():
                directory.chmod(0o755)
        self._directory.cleanup()

    def tool(self, name, text):
        file = self.path / "bin" / name
        file.write_text(text)
        file.chmod(0o755)

    def run(self, script, *arguments, expect=0):
        """What a script printed, standard error included."""
        outcome = subprocess.run(
            [*self.shell, TUNING / script, *arguments],
            env={
                "PATH": f"{self.path}/bin:{os.environ['PATH']}",
                "TUNING_ROOT": str(self.path),
                "HOST": str(self.path),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        if outcome.returncode != expect:
            raise AssertionError(f"{script}: {outcome.returncode}\n{outcome.stdout}")
        return outcome.stdout

    def read(self, name):
        return (self.path / name).read_text().strip()

    def write(self, name, text):
        (self.path / name).write_text(text + "\n")

    def values(self):
        """Every file of the machine. The tuner's own are left out."""
        return {
            str(file.relative_to(self.path)): file.read_text().strip()
            for file in sorted(self.path.rglob("*"))
            if file.is_file()
            and file.parts[-2] not in ("bin", "ringmesh-tuning")
            and file.name != "systemctl.log"
        }

    def one_line(self, text, name):
        """The one line of a report about a setting."""
        lines = [line for line in text.splitlines() if line.split()[:1] == [name]]
        if len(lines) != 1:
            raise AssertionError(f"{name}: {lines}\n{text}")
        return " ".join(lines[0].split()[1:])


class Cases:
    """What must hold, for the shell of the class that inherits it."""

    def host(self, *arguments, **named):
        return Host(self.shell, *arguments, **named)

    def test_without_yes_nothing_changes(self):
        with self.host() as host:
            before = host.values()
            for arguments in ((), ("--dry-run",), ("--yes", "--dry-run")):
                text = host.run("apply", *arguments)
                self.assertEqual(host.one_line(text, "net.core.somaxconn"), "128 -> 4096")
                self.assertIn("--yes does it", text)
            self.assertIn("nothing was applied", host.run("revert", "--yes"))
            host.run("show", "--long")
            self.assertEqual(host.values(), before)

    def test_every_setting_gets_its_value(self):
        with self.host({"has-service": ""}) as host:
            text = host.run("apply", "--yes")
            # 8,000,000 KB are 2,000,000 pages.
            for name, value in {
                "proc/sys/net/core/somaxconn": "4096",
                "proc/sys/net/ipv4/tcp_max_syn_backlog": "4096",
                "proc/sys/net/ipv4/tcp_mem": "250000 374000 500000",
                "proc/sys/net/ipv4/ip_local_port_range": "10240 65535",
                "proc/sys/net/ipv4/tcp_slow_start_after_idle": "0",
                "proc/sys/net/netfilter/nf_conntrack_buckets": "262144",
                "proc/sys/net/netfilter/nf_conntrack_max": "1048576",
                "proc/sys/net/core/netdev_max_backlog": "4096",
                "proc/sys/net/core/rps_sock_flow_entries": "32768",
                "proc/sys/vm/swappiness": "10",
                "proc/sys/vm/zone_reclaim_mode": "0",
                "proc/sys/kernel/numa_balancing": "0",
                "sys/kernel/mm/transparent_hugepage/enabled": "madvise",
                "sys/devices/system/cpu/cpu3/cpufreq/scaling_governor": "performance",
                "sys/devices/system/cpu/cpu3/cpuidle/state2/disable": "1",
                "queues": "2",
                "proc/irq/40/smp_affinity_list": "0",
                "proc/irq/41/smp_affinity_list": "1",
                f"{CARD}/queues/rx-1/rps_cpus": "0000000f",
                f"{CARD}/queues/rx-1/rps_flow_cnt": "32768",
                f"{CARD}/queues/tx-0/xps_cpus": "00000001",
                f"{CARD}/queues/tx-1/xps_cpus": "00000002",
                # And what is good already, or nobody's business, is left.
                "proc/sys/net/ipv4/tcp_syncookies": "1",
                "proc/sys/fs/file-max": "9223372036854775807",
                "proc/irq/42/smp_affinity_list": "0-3",
                "sys/devices/system/cpu/cpu3/cpuidle/state1/disable": "0",
                "sys/kernel/mm/transparent_hugepage/defrag": STOCK[
                    "sys/kernel/mm/transparent_hugepage/defrag"
                ],
                "sys/class/net/lo/queues/rx-0/rps_cpus": "0",
            }.items():
                self.assertEqual(host.read(name), value, name)
            governor = host.one_line(text, "cpu-governor")
            self.assertEqual(governor, "powersave -> performance, 4 times")
            drop_in = host.read("etc/systemd/system/ringmesh.service.d/zz-tuning.conf")
            self.assertIn("LimitNOFILE=1048576", drop_in)
            self.assertNotIn("LimitMEMLOCK", drop_in)
            unit = host.read("etc/systemd/system/ringmesh-tuning.service")
            self.assertIn(f'ExecStart="{TUNING}/apply" --yes --once', unit)
            self.assertIn("enable --quiet ringmesh-tuning.service", host.read("systemctl.log"))
            self.assertEqual(host.run("show").count("could be better"), 0)

    def test_a_second_time_there_is_nothing_to_do(self):
        with self.host({"has-service": ""}) as host:
            host.run("apply", "--yes")
            after = host.values()
            self.assertTrue(host.run("apply", "--yes").endswith("\n0 changed\n"))
            self.assertEqual(host.values(), after)

    def test_revert_restores_what_was_there_after_two_applies(self):
        with self.host({"has-service": ""}) as host:
            before = host.values()
            host.run("apply", "--yes")
            # Between the two somebody makes one of them worse.
            host.write("proc/sys/vm/swappiness", "40")
            host.run("apply", "--yes")
            self.assertEqual(host.read("proc/sys/vm/swappiness"), "10")
            dry = host.run("revert")
            self.assertIn("128", dry)
            self.assertEqual(host.read("proc/sys/net/core/somaxconn"), "4096")
            text = host.run("revert", "--yes")
            self.assertIn("was set to 40 by somebody else", text)
            after = host.values()
            self.assertEqual(after.pop("proc/sys/vm/swappiness"), "40")
            before.pop("proc/sys/vm/swappiness")
            # The chosen word of several is written alone.
            name = "sys/kernel/mm/transparent_hugepage/enabled"
            self.assertEqual(before.pop(name), "[always] madvise never")
            self.assertEqual(after.pop(name), "always")
            self.assertEqual(after, before)
            self.assertIn("nothing was applied", host.run("revert", "--yes"))

    def test_what_somebody_else_has_set_since_is_left(self):
        with self.host() as host:
            host.run("apply", "--yes", "--once")
            host.write("proc/sys/net/core/somaxconn", "65535")
            text = host.run("revert", "--yes")
            self.assertIn("was set to 65535 by somebody else since, and is left", text)
            self.assertIn(", 1 left", text)
            self.assertEqual(host.read("proc/sys/net/core/somaxconn"), "65535")
            self.assertEqual(host.read("proc/sys/vm/swappiness"), "60")

    def test_a_reboot_takes_the_values_back_and_revert_what_outlived_it(self):
        with self.host({"has-service": ""}) as host:
            before = host.values()
            host.run("apply", "--yes")
            # The kernel begins anew, with a value that happens to be what was applied.
            for name, text in before.items():
                if name.startswith(("proc", "sys")):
                    host.write(name, text)
            host.write("queues", "1")
            host.write("proc/sys/kernel/random/boot_id", "second")
            host.write("proc/sys/vm/swappiness", "10")
            host.run("revert", "--yes")
            after = host.values()
            self.assertEqual(after.pop("proc/sys/vm/swappiness"), "10")
            self.assertEqual(after.pop("proc/sys/kernel/random/boot_id"), "second")
            self.assertEqual(after, {name: before[name] for name in after})

    def test_after_a_reboot_what_the_boot_applied_is_taken_back(self):
        with self.host({"has-service": ""}) as host:
            host.run("apply", "--yes")
            host.write("proc/sys/kernel/random/boot_id", "second")
            host.write("proc/sys/vm/swappiness", "30")
            host.run("apply", "--yes", "--once")
            self.assertEqual(host.read("proc/sys/vm/swappiness"), "10")
            host.run("revert", "--yes")
            self.assertEqual(host.read("proc/sys/vm/swappiness"), "30")
            self.assertFalse((host.path / "etc/systemd/system/ringmesh-tuning.service").exists())

    def test_what_is_better_already_is_left(self):
        better = {
            "proc/sys/net/core/somaxconn": "65535",
            "proc/sys/net/ipv4/tcp_mem": "1000000\t1500000\t2000000",
            "proc/sys/net/ipv4/ip_local_port_range": "1024\t65535",
            "proc/sys/vm/swappiness": "1",
            "sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]",
            # Spread by somebody over other cores, and steered by somebody.
            "proc/irq/40/smp_affinity_list": "3",
            "proc/irq/41/smp_affinity_list": "2",
            f"{CARD}/queues/rx-0/rps_cpus": "6",
            f"{CARD}/queues/tx-0/xps_cpus": "00,00000008",
        }
        with self.host(better) as host:
            host.run("apply", "--yes")
            for name, value in better.items():
                self.assertEqual(host.read(name), value, name)

    def test_a_port_range_that_is_better_at_one_end_keeps_it(self):
        with self.host({"proc/sys/net/ipv4/ip_local_port_range": "1024\t60999"}) as host:
            host.run("apply", "--yes")
            self.assertEqual(host.read("proc/sys/net/ipv4/ip_local_port_range"), "1024 65535")

    def test_masks_of_many_cores_are_in_groups(self):
        with self.host({"sys/devices/system/cpu/online": "0-1,33,64-65"}) as host:
            host.run("apply", "--yes")
            mask = host.read(f"{CARD}/queues/rx-0/rps_cpus")
            self.assertEqual(mask, "00000003,00000002,00000003")
            self.assertEqual(host.read("proc/irq/41/smp_affinity_list"), "1")

    def test_two_interrupts_on_one_core_are_parted(self):
        both = {f"proc/irq/{number}/smp_affinity_list": "0" for number in (40, 41)}
        with self.host(both) as host:
            host.run("apply", "--yes")
            self.assertEqual(host.read("proc/irq/40/smp_affinity_list"), "0")
            self.assertEqual(host.read("proc/irq/41/smp_affinity_list"), "1")

    def test_interrupts_of_one_queue_are_left(self):
        """What follows them is steered instead."""
        with self.host() as host:
            shutil.rmtree(host.path / f"{CARD}/queues/rx-1")
            text = host.run("apply", "--yes")
            self.assertIn("one queue", host.one_line(text, "nic-interrupts"))
            self.assertEqual(host.read("proc/irq/40/smp_affinity_list"), "0-3")
            self.assertEqual(host.read(f"{CARD}/queues/rx-0/rps_cpus"), "0000000f")

    def test_irqbalance_is_not_fought(self):
        with self.host({"proc/77/comm": "irqbalance"}) as host:
            text = host.run("apply", "--yes")
            self.assertIn("irqbalance runs", host.one_line(text, "nic-interrupts"))
            self.assertEqual(host.read("proc/irq/41/smp_affinity_list"), "0-3")

    def test_a_card_with_a_queue_for_every_core_needs_no_steering(self):
        with self.host({"sys/devices/system/cpu/online": "0-1"}) as host:
            text = host.run("apply", "--yes")
            for name in ("receive-packet-steering", "net.core.rps_sock_flow_entries"):
                self.assertIn("none is needed", host.one_line(text, name))
            self.assertEqual(host.read(f"{CARD}/queues/rx-0/rps_cpus"), "0")

    def test_one_node_of_memory_needs_no_numa_settings(self):
        with self.host({"sys/devices/system/node/node1/cpulist": None}) as host:
            text = host.run("apply", "--yes")
            self.assertIn("one node", host.one_line(text, "kernel.numa_balancing"))
            self.assertEqual(host.read("proc/sys/kernel/numa_balancing"), "1")

    def test_what_a_virtual_machine_lacks_is_said(self):
        with self.host({"proc/cpuinfo": "flags : fpu hypervisor"}) as host:
            for directory in ("cpufreq", "cpuidle"):
                for core in range(4):
                    shutil.rmtree(host.path / f"sys/devices/system/cpu/cpu{core}/{directory}")
            text = host.run("apply", "--yes")
            self.assertIn("a virtual machine", text)
            self.assertIn("virtual machine's host", host.one_line(text, "cpu-governor"))
            self.assertIn("virtual machine's host", host.one_line(text, "cpu-idle-states"))

    def test_without_a_card_the_rest_is_done(self):
        with self.host() as host:
            shutil.rmtree(host.path / CARD)
            text = host.run("apply", "--yes")
            self.assertIn("no network card", host.one_line(text, "nic-queues"))
            self.assertIn("no network card", host.one_line(text, "receive-flow-steering"))
            self.assertEqual(host.read("proc/sys/net/core/somaxconn"), "4096")

    def test_without_ethtool_the_rest_is_done(self):
        with self.host() as host:
            host.tool("ethtool", "#!/bin/sh\nexit 1\n")
            text = host.run("apply", "--yes")
            self.assertIn("ethtool may be missing", host.one_line(text, "nic-queues"))
            self.assertEqual(host.read("proc/irq/41/smp_affinity_list"), "1")

    def test_in_a_container_only_its_own_network_is_tuned(self):
        with self.host({".dockerenv": ""}) as host:
            before = host.values()
            text = host.run("apply", "--yes", "--once")
            self.assertIn("a container", text)
            self.assertIn("run this there", host.one_line(text, "vm.swappiness"))
            changed = {name for name, value in host.values().items() if before.get(name) != value}
            self.assertEqual(
                {Path(name).name for name in changed},
                {
                    "somaxconn",
                    "tcp_max_syn_backlog",
                    "ip_local_port_range",
                    "tcp_slow_start_after_idle",
                },
            )

    def test_without_root_nothing_is_tried(self):
        with self.host(root=False) as host:
            before = host.values()
            self.assertIn("needs root", host.run("apply", "--yes", expect=1))
            host.run("apply")
            host.run("show")
            self.assertEqual(host.values(), before)
            self.assertFalse((host.path / "run/ringmesh-tuning").exists())

    def test_a_file_that_cannot_be_written_stops_it_before_the_first_change(self):
        """A directory in its place refuses to be opened for writing, whoever asks."""
        with self.host() as host:
            (host.path / SWAPPINESS).unlink()
            (host.path / SWAPPINESS).mkdir()
            host.tool("cat", CAT)
            before = host.values()
            text = host.run("apply", "--yes", expect=1)
            self.assertIn("cannot be written: is it mounted read-only?", text)
            self.assertIn("nothing was changed", text)
            self.assertEqual(host.values(), before)
            self.assertIn("nothing was applied", host.run("revert", "--yes"))

    def test_a_change_that_fails_takes_those_before_it_back(self):
        """Opens for writing, and takes nothing: /dev/full."""
        with self.host() as host:
            (host.path / SWAPPINESS).unlink()
            os.symlink("/dev/full", host.path / SWAPPINESS)
            host.tool("cat", CAT)
            text = host.run("apply", "--yes", expect=1)
            self.assertIn("the kernel did not take 10", text)
            self.assertIn("everything is as it was", text)
            for changed in ("net/core/somaxconn", "net/ipv4/tcp_mem", "vm/zone_reclaim_mode"):
                self.assertEqual(
                    host.read(f"proc/sys/{changed}").split(),
                    STOCK[f"proc/sys/{changed}"].split(),
                )
            self.assertFalse((host.path / "etc/systemd/system/ringmesh-tuning.service").exists())
            self.assertIn("0 taken back", host.run("revert", "--yes"))

    def test_files_of_others_are_not_overwritten(self):
        name = "etc/systemd/system/ringmesh.service.d/zz-tuning.conf"
        with self.host({name: "[Service]\nLimitNOFILE=7", "has-service": ""}) as host:
            before = host.values()
            self.assertIn("made by somebody else", host.run("apply", "--yes", expect=1))
            host.run("revert", "--yes")
            self.assertEqual(host.values(), before)

    def test_without_systemd_it_says_what_to_do(self):
        with self.host() as host:
            (host.path / "run/systemd/system").rmdir()
            text = host.run("apply", "--yes")
            self.assertIn("no systemd here", text)
            self.assertIn("ulimit -n", host.one_line(text, "LimitNOFILE"))
            self.assertFalse(any((host.path / "etc/systemd/system").iterdir()))

    def test_two_at_once_do_not_meet(self):
        with self.host() as host:
            (host.path / "run/ringmesh-tuning/lock").mkdir(parents=True)
            self.assertIn("another one is at work", host.run("apply", "--yes", expect=1))
            (host.path / "run/ringmesh-tuning/lock").rmdir()
            host.run("apply", "--yes")
            self.assertFalse((host.path / "run/ringmesh-tuning/lock").exists())

    def test_bad_usage_is_refused(self):
        with self.host() as host:
            for script in ("apply", "revert", "show"):
                self.assertIn(script, host.run(script, "--no", expect=2))
                self.assertIn(script, host.run(script, "--help"))

    def test_real_files_are_read_whole(self):
        """A sysctl gives a program that reads byte by byte its first byte only."""
        value = int(Path("/proc/sys/net/ipv4/tcp_max_syn_backlog").read_text())
        show = [*self.shell, TUNING / "show"]
        text = subprocess.run(show, capture_output=True, text=True, check=True).stdout
        line = next(line for line in text.splitlines() if "tcp_max_syn_backlog" in line)
        self.assertIn(f" {value}", line)


for name, shell in SHELLS.items():
    case = type(f"With_{name}", (Cases, unittest.TestCase), {"shell": shell})
    globals()[case.__name__] = case
del case


class Settings(unittest.TestCase):
    """The file of the settings is whole."""

    def settings(self):
        blocks = (TUNING / "settings").read_text().split("\n\n")
        for block in blocks:
            lines = [line for line in block.splitlines() if line and not line.startswith("#")]
            if lines:
                yield dict(line.split(maxsplit=1) for line in lines)

    def test_each_says_why_and_where_that_is_written(self):
        names = set()
        for setting in self.settings():
            name = setting.get("setting") or setting["unit"]
            self.assertNotIn(name, names)
            names.add(name)
            for field in ("want", "default", "why", "effect", "source", "absent"):
                self.assertTrue(setting.get(field), f"{name}: {field}")
            if "setting" in setting:
                self.assertIn(setting["scope"], ("network", "host"), name)
        self.assertGreater(len(names), 20)

    def test_what_it_says_of_the_server_is_so(self):
        listener = (REPOSITORY / "src/runtime/listener.rs").read_text()
        self.assertIn("const BACKLOG: i32 = 4_096;", listener)
        shards = (REPOSITORY / "src/runtime/preflight/shards.rs").read_text()
        self.assertIn("MEMLOCK_BYTES_PER_SHARD: u64 = 160 * 1_024;", shards)

    @unittest.skipUnless(shutil.which("shellcheck"), "no shellcheck here")
    def test_shellcheck_finds_nothing(self):
        scripts = [TUNING / name for name in ("apply", "revert", "show", "lib.sh")]
        outcome = subprocess.run(
            ["shellcheck", "-x", "-s", "sh", *scripts], capture_output=True, text=True, cwd=TUNING
        )
        self.assertEqual(outcome.stdout, "")


if __name__ == "__main__":
    unittest.main()
