"""A data directory on a disk that is full, or mounted for reading only: a tmpfs of its own.

Each call that fails, and slow disks, are in `tests/it/broken_disk.rs` and `tests/it/power_loss.rs`.
"""

import contextlib
import os
import subprocess
import tempfile

from machine import BINARY, DEADLINE_SEC, MachineTest, admin, get, metric, until

SIZE_BYTES = 4 << 20
HISTORY = {
    "history.ack": "stored",
    "history.replay_messages": 10_000,
    "history.replay_bytes": 64 << 20,
}
RULE = {"pattern": "kept/**", "messages": 10_000, "bytes": 64 << 20, "store": "disk"}
CHANNEL = "kept/1"


def run(*command):
    subprocess.run(command, check=True)


def fill(directory):
    """Fills the disk to the last byte. Returns what to remove."""
    filler = directory / "filler"
    with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    return filler


class Disk(MachineTest):
    def setUp(self):
        if os.geteuid() != 0:
            self.skipTest("mounting needs root")
        self.directory = tempfile.mkdtemp(prefix="ringmesh-disk-")
        self.addCleanup(os.rmdir, self.directory)
        try:
            run("mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES},mode=700", "none", self.directory)
        except subprocess.CalledProcessError as error:
            self.skipTest(f"no tmpfs can be mounted: {error}")
        self.addCleanup(run, "umount", self.directory)

    def start_here(self, settings=None, app=None):
        server = self.start({"store.data_dir": self.directory, **(settings or {})}, app)
        # Where the harness looks for the token.
        os.symlink(self.directory, server.directory / "data")
        return server

    def test_a_full_disk_is_told_and_passes(self):
        server = self.start_here()
        self.assertEqual(admin(server, "POST", "/apps", {"appId": "app_0"})[0], 201)
        member, sender = self.client(server), self.client(server)
        member.subscribe("room")
        filler = fill(server.directory / "data")
        acknowledged, refused = ["app_0"], None
        for number in range(1, 2_000):
            # What fits into pages that are there already still does.
            status, answer = admin(server, "POST", "/apps", {"appId": f"app_{number}"})
            if status != 201:
                refused = status, answer["message"]
                break
            acknowledged.append(f"app_{number}")
        self.assertEqual(refused[0], 503)
        for part in ("store.redb", "No space left", "free space", "no restart"):
            self.assertIn(part, refused[1])
        ready = get(server.admin_address, "/readyz")
        self.assertEqual(ready[0], 503)
        self.assertIn("free space", ready[2])
        self.assertEqual(get(server.admin_address, "/healthz")[0], 200)
        for number in range(100):
            sender.publish("room", number)
            self.assertEqual(member.until("message")["data"], number)
        server.log.until(lambda line: "ERROR" in line and "No space left" in line)

        filler.unlink()
        until("ready again", lambda: get(server.admin_address, "/readyz")[0] == 200)
        server.log.until(lambda line: "the store can be written again" in line)
        self.assertEqual(admin(server, "POST", "/apps", {"appId": "app_after"})[0], 201)
        acknowledged.append("app_after")
        self.kill(server)
        server = self.start_here()
        apps = [app["appId"] for app in admin(server, "GET", "/apps")[1]["apps"]]
        self.assertEqual(set(acknowledged), set(apps) - {"app_faults"})

    def test_history_goes_on_in_memory_while_the_disk_is_full(self):
        app = {"history": [RULE]}
        server = self.start_here(HISTORY, app)
        filler = server.directory / "data/filler"
        filler.write_bytes(bytes(512 << 10))
        reader, writer = self.client(server), self.client(server)
        reader.send("subscribe", channel=CHANNEL, position=True, requestId="s")
        epoch = reader.until("ack")["epoch"]

        def publish(data):
            """Returns the answer. Members hear of it whatever that is."""
            writer.send("publish", channel=CHANNEL, data=data, position=True, requestId="p")
            self.assertEqual(reader.until("message")["data"], data)
            return writer.recv()

        published = 1
        while (answer := publish("x" * 16_000))["type"] == "ack":
            published += 1
            self.assertLess(published * 16_000, SIZE_BYTES)
        self.assertEqual((answer["type"], answer["code"]), ("error", "backend_error"))
        server.log.until(
            lambda line: "history is kept in memory only" in line and "No space left" in line
        )
        until("the metric", lambda: metric(server, "history_failing") == 1)
        until("the channel", lambda: metric(server, "history_channels_behind") == 1)
        self.assertGreater(metric(server, "history_errors_total"), 0)
        # It serves on, and the store of the apps can be written.
        for path in ("/healthz", "/readyz"):
            self.assertEqual(get(server.admin_address, path)[0], 200)
        self.assertEqual(publish("in memory")["code"], "backend_error")
        published += 1
        ack, kept = self.kept(server, {"last": 10_000})
        self.assertEqual((ack["epoch"], len(kept)), (epoch, published))

        filler.unlink()
        until("room again", lambda: metric(server, "history_failing") == 0)
        server.log.until(lambda line: "history is written to disk again" in line)
        until("what it lacks", lambda: metric(server, "history_channels_behind") == 0)
        after = [f"after {number}" for number in range(3)]
        for data in after:
            self.assertEqual(publish(data)["type"], "ack")
        self.kill(server)
        server = self.start_here(HISTORY, app)
        # The disk has got what it lacked: nothing is missing, for whoever comes from where.
        ack, kept = self.kept(server, {"last": 10_000})
        self.assertEqual((ack["seq"], len(kept)), (published + 3, published + 3))
        self.assertEqual(kept[-4:], ["in memory", *after])
        self.assertNotEqual(ack["epoch"], epoch)
        for seq in (published, published - 1, 1):
            ack, kept = self.kept(server, {"epoch": epoch, "seq": seq})
            self.assertEqual((ack["recovered"], len(kept)), (True, published + 3 - seq))

    def kept(self, server, since):
        """The ack of a subscription, and the data of what is replayed."""
        reader = self.client(server)
        reader.send("subscribe", channel=CHANNEL, since=since, requestId="s")
        ack = reader.until("ack")
        return ack, [reader.until("message")["data"] for _ in range(ack["count"])]

    def test_a_start_without_a_disk_to_write_is_one_line(self):
        server = self.start_here()
        self.kill(server)
        run("mount", "-o", "remount,ro", self.directory)
        said = self.fails(server)
        for part in ("Read-only file system", "mount the disk that it is on for writing again"):
            self.assertIn(part, said)
        run("mount", "-o", "remount,rw", self.directory)
        for name in os.listdir(self.directory):
            os.unlink(os.path.join(self.directory, name))
        fill(server.directory / "data")
        said = self.fails(server)
        for part in ("No space left", "free space there"):
            self.assertIn(part, said)

    def kill(self, server):
        server.signal(9)
        server.wait()

    def fails(self, server):
        """The one line of a server that cannot start."""
        done = subprocess.run(
            [BINARY, "serve", "--config", "ringmesh.toml"],
            cwd=server.directory,
            env={"PATH": os.environ["PATH"]},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SEC,
        )
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
        return done.stderr
