"""A process or one of its shards that stands still: nobody healthy is dropped, nothing is lost."""

import ctypes
import os
import signal
import time
from pathlib import Path

from machine import MachineTest, handshake, metric, token, until

# The defaults of the server: a sign of life is asked for after 25 s of silence.
LONG_SEC, SHORT_SEC = 40, 3
MEMBERS = 30
PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH, WAIT_ALL = 0x4206, 0x4207, 17, 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


class WholeProcess(MachineTest):
    def test_three_seconds(self):
        self.stand_still(SHORT_SEC)

    def test_forty_seconds(self):
        self.stand_still(LONG_SEC)

    def stand_still(self, seconds):
        server = self.start()
        watcher = self.client(server, f"token={token('watcher')}")
        watcher.subscribe("room", presence=True)
        members = [self.client(server, f"token={token(f'm{at}')}") for at in range(MEMBERS)]
        for member in members:
            member.subscribe("room")
        here = {"watcher"}
        while len(here) <= MEMBERS:
            here |= {peer["peerId"] for peer in watcher.until("presence")["joined"]}

        server.signal(signal.SIGSTOP)
        for number, member in enumerate(members):
            member.send("publish", channel="room", data=number)
        newcomers = [self.enterContext(handshake(server.address)) for _ in range(8)]
        time.sleep(seconds)
        server.signal(signal.SIGCONT)

        # Everybody hears everybody else, in one order, and of nobody who leaves.
        orders = []
        for number, member in enumerate(members):
            heard = [member.until("message")["data"] for _ in range(MEMBERS - 1)]
            self.assertEqual(sorted([*heard, number]), list(range(MEMBERS)))
            orders.append(heard)
        seen = []
        while len(seen) < MEMBERS:
            message = watcher.recv()
            self.assertEqual(message["type"], "message", message)
            seen.append(message["data"])
        for number, heard in enumerate(orders):
            self.assertEqual(heard, [it for it in seen if it != number])
        for newcomer in newcomers:
            self.assertIn(b" 101 ", newcomer.recv(64))
        watcher.publish("other", 1)
        until("nobody is missing", lambda: metric(server, "connections") == MEMBERS + 9)
        server.log.until(lambda line: "the shard stood still" in line)


class OneShard(MachineTest):
    def setUp(self):
        self.server = self.start()
        self.clients = {0: [], 1: []}
        # The kernel deals connections out to the shards.
        while min(map(len, self.clients.values())) < 4:
            before = self.connections()
            client = self.client(self.server)
            [shard] = [at for at in (0, 1) if self.connections()[at] > before[at]]
            self.clients[shard].append(client)

    def connections(self):
        return [metric(self.server, "connections", shard=str(at)) for at in (0, 1)]

    def thread(self, name):
        for task in Path(f"/proc/{self.server.pid}/task").iterdir():
            if (task / "comm").read_text().strip() == name:
                return int(task.name)
        raise LookupError(name)

    def stop(self, thread):
        """Stops one thread of the server, and no other."""
        for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
            if LIBC.ptrace(request, thread, None, None) != 0:
                error = ctypes.get_errno()
                self.skipTest(f"ptrace of a thread: {os.strerror(error)}")
        os.waitpid(thread, WAIT_ALL)

    def resume(self, thread):
        self.assertEqual(LIBC.ptrace(PTRACE_DETACH, thread, None, None), 0)

    def test_the_other_goes_on_and_nothing_is_lost(self):
        here, there = self.clients[0], self.clients[1]
        channels = [f"room{at}" for at in range(16)]
        for member in (here[0], there[0]):
            for channel in channels:
                member.subscribe(channel)
        thread = self.thread("shard-1")
        self.stop(thread)
        began = time.monotonic()
        stuck, sender = there[1], here[1]
        stuck.send("ping", requestId="stuck")
        for channel in channels:
            sender.send("publish", channel=channel, data=channel, requestId=channel)
        # About half of the channels belong to the shard that goes on.
        acked = {sender.until("ack")["requestId"]}
        heard = [here[0].until("message")["data"]]
        for number in range(100):
            sender.send("ping", requestId=str(number))
            while (answer := sender.recv())["type"] != "pong":
                acked.add(answer["requestId"])
        with self.assertRaises(TimeoutError):
            stuck.recv(timeout=max(0, began + 1 - time.monotonic()))
        self.assertLess(len(acked), len(channels))
        self.resume(thread)

        self.assertEqual(stuck.until("pong")["requestId"], "stuck")
        while len(acked) < len(channels):
            acked.add(sender.until("ack")["requestId"])
        heard += [here[0].until("message")["data"] for _ in channels[1:]]
        self.assertEqual(sorted(heard), sorted(channels))
        missed = [there[0].until("message")["data"] for _ in channels]
        self.assertEqual(sorted(missed), sorted(channels))
        # What the other shard had sent waited for it.
        longest = metric(self.server, "mesh_hop_seconds", shard="1", quantile="1")
        self.assertGreater(longest, 0.9)
        self.assertEqual(sum(self.connections()), sum(map(len, self.clients.values())))
