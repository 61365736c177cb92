"""A control group that is too small: the ceiling follows it, and nobody is killed by the kernel."""

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from websockets.exceptions import ConnectionClosed

from machine import KEY, MachineTest, metric, until

LIMIT_BYTES = 160 << 20
# 80%.
CEILING_BYTES = LIMIT_BYTES // 100 * 80
QUEUE_BYTES = 16 << 20
MESSAGE_BYTES = 60_000
# What a client's kernel holds for it.
BUFFER_BYTES = 1 << 16
# Members that read nothing of what comes all the time, and that let so many messages wait.
SLOW, LATE, LATE_MESSAGES = 24, 8, 40
# Far more messages than a slow member can let wait.
ROUNDS_MAX = 2 * QUEUE_BYTES // MESSAGE_BYTES


class Group:
    """A control group with so much memory, of version 2 if it has the controller, or else of 1."""

    def __init__(self, name, limit_bytes):
        top = Path("/sys/fs/cgroup")
        for root in (top, top / "unified"):
            controllers = root / "cgroup.controllers"
            if controllers.exists() and "memory" in controllers.read_text().split():
                self._path, limit = root / name, "memory.max"
                (root / "cgroup.subtree_control").write_text("+memory")
                break
        else:
            if not (top / "memory/memory.limit_in_bytes").exists():
                raise OSError("no memory controller is mounted")
            own = self._own_of_version_1()
            self._path, limit = top / "memory" / own / name, "memory.limit_in_bytes"
        self._path.mkdir()
        self._limit = self._path / limit
        self.limit(limit_bytes)

    def limit(self, limit_bytes):
        self._limit.write_text(str(limit_bytes))

    @staticmethod
    def _own_of_version_1():
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if "memory" in controllers.split(","):
                return group.lstrip("/")
        return ""

    def wrapper(self):
        """Words before a command that is to live in it."""
        script = f'echo $$ > "{self._path}/cgroup.procs" && exec "$@"'
        return ["sh", "-c", script, "sh"]

    def kills(self):
        """How many processes the kernel has killed in it."""
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(FileNotFoundError):
                for line in (self._path / name).read_text().splitlines():
                    if line.startswith("oom_kill "):
                        return int(line.split()[1])
        raise OSError("the group does not count what is killed in it")

    def remove(self):
        until("the group is empty", lambda: not (self._path / "cgroup.procs").read_text().strip())
        self._path.rmdir()


class Memory(MachineTest):
    def setUp(self):
        if os.geteuid() != 0:
            self.skipTest("a control group needs root")
        try:
            self.group = Group(f"ringmesh-{os.getpid()}", LIMIT_BYTES)
        except OSError as error:
            self.skipTest(f"no control group can be made: {error}")
        self.addCleanup(self.group.remove)

    def test_the_ceiling_follows_the_limit_while_the_server_runs(self):
        server = self.start(wrapper=self.group.wrapper())
        for limit_bytes in (2 * LIMIT_BYTES, LIMIT_BYTES, 1 << 50):
            self.group.limit(limit_bytes)
            # The machine has less than the last of them.
            ceiling = lambda: metric(server, "memory_ceiling_bytes")
            bound = min(limit_bytes, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
            until("it follows", lambda: abs(ceiling() / (bound * 0.8) - 1) < 0.01)
        server.log.until(lambda line: "another limit of memory" in line)

    def deaf(self, server, channel):
        """A member that reads nothing from now on."""
        member = self.client(server, buffer_bytes=BUFFER_BYTES)
        member.subscribe(channel)
        return member

    def test_the_slowest_are_closed_and_the_kernel_kills_nobody(self):
        # Nobody here is asked for a sign of life, however busy the machine is.
        silence = {"limits.ping_after_ms": 300_000, "limits.drop_after_ms": 600_000}
        settings = {"limits.outbound_queue_bytes": QUEUE_BYTES, **silence}
        server = self.start(settings, wrapper=self.group.wrapper())
        self.assertEqual(metric(server, "memory_ceiling_bytes"), CEILING_BYTES)
        slow = [self.deaf(server, f"slow{at}") for at in range(SLOW)]
        late = [self.deaf(server, f"late{at}") for at in range(LATE)]
        reader, sender = self.client(server), self.client(server)
        reader.subscribe("live")
        data = "x" * MESSAGE_BYTES
        for number in range(LATE_MESSAGES):
            for at in range(LATE):
                sender.publish(f"late{at}", [number, data])
        statuses, most_bytes, rounds = set(), 0, 0
        while metric(server, "dropped_total", cause="memory") == 0:
            for at in range(SLOW):
                sender.publish(f"slow{at}", data)
            sender.publish("live", rounds)
            self.assertEqual(reader.until("message")["data"], rounds)
            most_bytes = max(most_bytes, metric(server, "process_resident_memory_bytes"))
            statuses.add(self.refused(server, f"key={KEY}"))
            rounds += 1
            self.assertLess(rounds, ROUNDS_MAX)
        self.assertEqual(statuses, {101, 503})
        self.assertLess(most_bytes, LIMIT_BYTES)
        server.log.until(lambda line: "memory is near its ceiling" in line)
        server.log.until(lambda line: "memory is at its ceiling" in line)

        # Those who let little wait are there, and get all of it.
        for member in late:
            got = [member.until("message")["data"][0] for _ in range(LATE_MESSAGES)]
            self.assertEqual(got, list(range(LATE_MESSAGES)))
        for at in range(SLOW):
            sender.publish(f"slow{at}", "end")
        with ThreadPoolExecutor(SLOW) as pool:
            codes = [code for code in pool.map(self.end, slow) if code]
        # Who does not begin to read within the time of a close handshake finds the stream cut off.
        self.assertLessEqual(set(codes), {1013, 1006})
        dropped = metric(server, "dropped_total", cause="memory")
        self.assertEqual(len(codes), dropped)
        self.assertEqual(metric(server, "connections_closed_total", code="1013"), dropped)
        until("somebody may come again", lambda: self.refused(server, f"key={KEY}") == 101)
        sender.publish("live", "after")
        self.assertEqual(reader.until("message")["data"], "after")
        self.assertEqual(self.group.kills(), 0)

    def end(self, member):
        """Reads what a slow member can still get. Returns its close code, or nothing."""
        try:
            while member.until("message")["data"] != "end":
                pass
        except ConnectionClosed as end:
            return end.rcvd.code if end.rcvd else 1006
