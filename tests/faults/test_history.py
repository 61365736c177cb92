"""kill -9 again and again while history is written: nothing that was acked as stored is lost.

`RINGMESH_KILLS` says how often, 20 times by default.
"""

import json
import os
import random
import tempfile
import threading
from collections import defaultdict

from machine import DEADLINE_SEC, MachineTest, until
from websockets.exceptions import ConnectionClosed

KILLS = int(os.environ.get("RINGMESH_KILLS", "20"))
CHANNELS = [f"kept/{number}" for number in range(4)]
SETTINGS = {
    "history.ack": "stored",
    "history.replay_messages": 100_000,
    "history.replay_bytes": 64 << 20,
}
RULE = {"pattern": "kept/**", "messages": 100_000, "bytes": 64 << 20, "store": "disk"}


class Writer(threading.Thread):
    """Publishes into a channel until the connection breaks, and notes what was acked."""

    def __init__(self, client, channel, first):
        super().__init__()
        self.client, self.channel = client, channel
        self.acked, self.next = {}, first

    def run(self):
        try:
            while True:
                self.client.send(
                    "publish", channel=self.channel, data=self.next, id=f"m-{self.next}",
                    position=True, requestId="1",
                )
                ack = self.client.until("ack")
                self.acked[ack["seq"]] = self.next
                self.next += 1
        except (ConnectionClosed, OSError):
            self.next += 1


class History(MachineTest):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="ringmesh-history-")
        self.directory = self.enterContext(directory)
        self.random = random.Random(KILLS)

    def start_here(self):
        settings = {**SETTINGS, "store.data_dir": self.directory}
        return self.start(settings, app={"history": [RULE]})

    def kept(self, server, channel):
        """Number and data of all that a channel keeps."""
        reader = self.client(server)
        reader.send("subscribe", channel=channel, since={"last": 100_000}, requestId="1")
        count = reader.until("ack")["count"]
        messages = [reader.until("message") for _ in range(count)]
        reader.socket.socket.close()
        return {message["seq"]: message["data"] for message in messages}

    def check(self, server, acked):
        for channel in CHANNELS:
            kept = self.kept(server, channel)
            numbers = sorted(kept)
            self.assertEqual(numbers, list(range(1, len(numbers) + 1)), "a gap")
            data = [kept[number] for number in numbers]
            self.assertEqual(data, sorted(set(data)), "twice, or in another order")
            for number, data in acked[channel].items():
                self.assertEqual(kept.get(number), data, f"{channel}: {number} was acked")

    def test_nothing_that_was_acked_is_lost_by_kills(self):
        acked, first = defaultdict(dict), dict.fromkeys(CHANNELS, 1)
        server = self.start_here()
        for _ in range(KILLS):
            writers = [Writer(self.client(server), it, first[it]) for it in CHANNELS]
            for writer in writers:
                writer.start()
            wanted = self.random.randrange(1, 200)
            until("some are acked", lambda: sum(len(it.acked) for it in writers) >= wanted)
            server.signal(9)
            server.wait()
            for writer in writers:
                writer.join(DEADLINE_SEC)
                acked[writer.channel].update(writer.acked)
                first[writer.channel] = writer.next
            server = self.start_here()
            self.check(server, acked)
        self.assertTrue(all(acked.values()), json.dumps(acked))
