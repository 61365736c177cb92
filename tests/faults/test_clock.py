"""A wall clock that jumps, by hours and by years, there and back: libfaketime sets it."""

import json
import os
import signal
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path

from websockets.exceptions import ConnectionClosed

from machine import API_SECRET, DEADLINE_SEC, MachineTest, get, token, until

HOUR, YEAR = 3_600, 365 * 86_400
# Where Debian puts it, for each architecture.
LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
# A clock that is read so much later than it was set has still been set.
SLACK_SEC = 60


class Clock(MachineTest):
    def setUp(self):
        if not LIBRARIES:
            self.skipTest("libfaketime is not installed (package faketime)")

    def start_at(self, offset_sec, settings=None):
        """A server whose clock differs from ours by so much, and can be set again."""
        directory = tempfile.TemporaryDirectory(prefix="ringmesh-clock-")
        self.file = Path(self.enterContext(directory), "time")
        self.set(offset_sec)
        environment = {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        return self.start(settings, environment=environment)

    def set(self, offset_sec):
        new = self.file.with_suffix(".new")
        new.write_text(f"{offset_sec:+d}")
        os.replace(new, self.file)

    def has_time(self, server, offset_sec):
        date = parsedate_to_datetime(get(server.address, "/healthz")[1]["Date"])
        return abs(date.timestamp() - offset_sec - time.time()) < SLACK_SEC

    def jump(self, server, offset_sec):
        self.set(offset_sec)
        until("the server's clock has jumped", lambda: self.has_time(server, offset_sec))

    def usage(self, server):
        return json.loads(get(server.address, "/v1/usage", API_SECRET)[2])

    def test_live_connections_stay_and_credentials_are_judged_by_the_new_time(self):
        server = self.start_at(0)
        members = [self.client(server) for _ in range(20)]
        members += [self.client(server, f"token={token(f'peer{at}')}") for at in range(20)]
        for member in members:
            member.subscribe("room")
        sender = self.client(server)
        before = self.usage(server)
        for number, offset in enumerate([3 * HOUR, -3 * HOUR, 20 * YEAR, -30 * YEAR, 0]):
            self.jump(server, offset)
            sender.publish("room", number)
            for member in members:
                self.assertEqual(member.until("message")["data"], number)
            now = int(time.time()) + offset
            for claims, status in [
                ({"exp": now + HOUR}, 101),
                ({"iat": now, "exp": now + HOUR}, 101),
                ({"exp": now - HOUR}, 401),
                ({"iat": now + HOUR, "exp": now + 2 * HOUR}, 401),
                ({"nbf": now + HOUR, "exp": now + 2 * HOUR}, 401),
            ]:
                query = f"token={token('new', **claims)}"
                self.assertEqual(self.refused(server, query), status, (offset, claims))
            # A period follows a clock that keeps to its new time for minutes.
            until("it is counted", lambda: self.usage(server)["messagesUsed"] >= number + 1)
            now_used = self.usage(server)
            for field in ("periodStartUnix", "periodEndUnix"):
                self.assertEqual(now_used[field], before[field], offset)
        server.log.until(lambda line: "the system's clock has jumped" in line)

    def test_a_drain_ends_on_time(self):
        window_sec = 10
        server = self.start_at(0, {"shutdown.drain_ms": window_sec * 1_000})
        clients = [self.client(server) for _ in range(16)]
        began = time.monotonic()
        server.signal(signal.SIGTERM)

        def closed_after(client):
            client.until("going_away")
            with self.assertRaises(ConnectionClosed) as end:
                client.recv()
            self.assertEqual(end.exception.rcvd.code, 1001)
            return time.monotonic() - began

        with ThreadPoolExecutor(len(clients)) as pool:
            ends = [pool.submit(closed_after, client) for client in clients]
            for offset in (-30 * YEAR, 30 * YEAR, -3 * HOUR):
                self.set(offset)
                time.sleep(1.2)
            after = sorted(end.result() for end in ends)
        self.assertEqual(server.wait(), 0)
        lasted = time.monotonic() - began
        self.assertGreater(after[-1], window_sec * 0.7, after)
        self.assertLess(after[len(after) // 4], window_sec * 0.6, after)
        self.assertLess(lasted, window_sec + DEADLINE_SEC)

    def test_a_server_starts_whatever_the_time_is(self):
        for year in (1971, 2100):
            offset = (year - 1970) * YEAR - int(time.time())
            server = self.start_at(offset)
            now = int(time.time()) + offset
            client = self.client(server, f"token={token('a', exp=now + HOUR)}")
            client.publish("room", 1)
            self.assertEqual(self.refused(server, f"token={token('a', exp=now - 1)}"), 401)
            usage = self.usage(server)
            self.assertLessEqual(usage["periodStartUnix"], now)
            self.assertGreater(usage["periodEndUnix"], now)
