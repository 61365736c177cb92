"""A mixed load for an hour, with everything that an operator does to a server meanwhile.

    cargo build --release --workspace
    RINGMESH_BIN=target/release/ringmesh python tests/python/soak.py --report tuning/soak.md

`ringmesh-loadtest soak` keeps its users busy over wss and checks that every message arrives once
and in order. Beside it, over and over: presence storms, members that read nothing, keys that are
made, rotated and revoked, peers that are kicked, publications over REST, certificates that are
replaced. At the end the load is gone, and the server must hold what it held before.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import re
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.error
import urllib.request
from pathlib import Path

import websockets
from harness import BINARY, REPOSITORY, Server

LOADTEST = os.environ.get(
    "RINGMESH_LOADTEST_BIN", str(REPOSITORY / "target/release/ringmesh-loadtest")
)
CONFIGURATION = """
[server]
listen = ["127.0.0.1:0"]
[tls]
cert = "cert.pem"
key = "key.pem"
listen = ["127.0.0.1:0"]
[admin]
listen = "127.0.0.1:0"
[store]
data_dir = "data"
[limits]
message_rate = 0
connects_per_address = 0
[rest]
rate_per_key = 0
"""

# A trend below this is none: one percent of what the server holds, in an hour.
SLOPE_MAX = 0.01
# A shorter run says nothing of a trend: buffers still fill.
TREND_SEC_MIN = 1_800
# Descriptors that may be open beyond those before the load: a client of the sampler's, and a
# file of the store that is being written.
DESCRIPTORS_SLACK = 8
SAMPLE_SEC = 5
# How often each disturbance comes, in seconds.
STORM_SEC, SLOW_SEC, REVOKE_SEC, ROTATE_SEC, KICK_SEC, REST_SEC, CERTIFICATE_SEC = (
    30, 20, 15, 30, 10, 1, 60,
)
STORM_PEERS = 200


class Soak:
    """A server, what disturbs it, and what was counted."""

    def __init__(self, server, token):
        self.server = server
        self.pid = server.pid
        self.token = token
        self.counts = {}
        self.faults = []
        self.samples = []
        self.stopping = asyncio.Event()

    # --- what the operator's commands say ---------------------------------------------------

    async def command(self, *arguments):
        """Runs `ringmesh` against the server; its JSON."""
        process = await asyncio.create_subprocess_exec(
            BINARY,
            *arguments,
            "--json",
            "--admin-url",
            f"http://{self.server.admin_address}",
            env={**os.environ, "RINGMESH_ADMIN_TOKEN": self.token},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"ringmesh {' '.join(arguments)}: {err.decode().strip()}")
        return json.loads(out) if out.strip() else None

    async def key(self, kind):
        return await self.command(
            "key", "create", "--app", "app_soak", "--type", kind, "--channels", "**",
            "--actions", "publish,subscribe,presence,send",
        )  # fmt: skip

    def url(self, key):
        return f"ws://{self.plain}/v1?key={key}"

    async def rest(self, method, path, bearer, body=None):
        return await asyncio.to_thread(self.request, method, path, bearer, body)

    def request(self, method, path, bearer, body):
        request = urllib.request.Request(
            f"http://{self.plain}{path}",
            method=method,
            headers={"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"},
            data=None if body is None else json.dumps(body).encode(),
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    # --- disturbances -----------------------------------------------------------------------

    async def client(self, key, channel=None):
        """A connection that has its `welcome` and, for a channel, its `ack`."""
        socket = await websockets.connect(self.url(key), max_size=None, ping_interval=None)
        welcome = json.loads(await socket.recv())
        if channel is not None:
            command = {"type": "subscribe", "channel": channel, "requestId": "s"}
            await socket.send(json.dumps(command))
            await heard(socket, lambda it: it.get("requestId") == "s")
        return socket, welcome["peerId"]

    async def presence_storm(self):
        """Peers join one channel together and leave together; one that stays hears of each."""
        watcher, _ = await self.client(self.pk, "storm")
        sockets = await asyncio.gather(
            *(self.client(self.pk, "storm") for _ in range(STORM_PEERS))
        )
        joined = {peer for _, peer in sockets}
        await changes(watcher, "joined", joined)
        await asyncio.gather(*(socket.close() for socket, _ in sockets))
        await changes(watcher, "left", joined)
        await watcher.close()

    async def slow_consumer(self):
        """A member that reads nothing is closed with 1013, and its channel goes on."""
        deaf = await websockets.connect(
            self.url(self.pk), max_queue=1, ping_interval=None, close_timeout=60
        )
        await deaf.recv()
        await deaf.send(json.dumps({"type": "subscribe", "channel": "slow"}))
        await deaf.recv()
        publisher, _ = await self.client(self.pk)
        data = "x" * 60_000
        for number in range(200):
            message = {"type": "publish", "channel": "slow", "data": data, "requestId": f"{number}"}
            await publisher.send(json.dumps(message))
            await heard(publisher, lambda it, n=number: it.get("requestId") == f"{n}")
        await publisher.close()
        try:
            while True:
                await asyncio.wait_for(deaf.recv(), 30)
        except websockets.ConnectionClosed as closed:
            # Without a code where it has not read for two seconds more.
            code = closed.rcvd.code if closed.rcvd else 1013
            expect(code == 1013, f"a member that reads nothing is closed with {code}")

    async def revocation(self):
        """Revoking a key closes what was connected with it, and lets nobody in again."""
        key = await self.key("publishable")
        sockets = [(await self.client(key["keyId"], "revoked"))[0] for _ in range(10)]
        await self.command("key", "revoke", "--yes", key["keyId"])
        codes = await asyncio.gather(*(close_code(socket) for socket in sockets))
        expect(set(codes) == {4001}, f"connections of a revoked key are closed with {set(codes)}")
        try:
            await websockets.connect(self.url(key["keyId"]))
            expect(False, "a revoked key lets somebody in")
        except websockets.InvalidStatus as refused:
            expect(refused.response.status_code == 401, str(refused))

    async def rotation(self):
        """With a grace both API secrets are good, without it only the new one."""
        key = await self.key("secret")
        old = key["apiSecret"]
        new = (await self.command("key", "rotate", key["keyId"], "--grace", "60"))["apiSecret"]
        for secret in (old, new):
            await self.rest("GET", "/v1/usage", secret)
        newest = await self.command("key", "rotate", key["keyId"], "--grace", "0", "--yes")
        await self.rest("GET", "/v1/usage", newest["apiSecret"])
        try:
            await self.rest("GET", "/v1/usage", old)
            expect(False, "an old secret is still good")
        except urllib.error.HTTPError as refused:
            expect(refused.code == 401, f"an old secret gets {refused.code}")
        await self.command("key", "revoke", "--yes", key["keyId"])

    async def kick(self):
        """A peer that is kicked hears 4020."""
        socket, peer = await self.client(self.pk, "kicked")
        await self.rest("DELETE", f"/v1/peers/{peer}", self.secret)
        code = await close_code(socket)
        expect(code == 4020, f"a kicked peer is closed with {code}")

    async def publication(self):
        """What is published over REST reaches a member."""
        socket, _ = await self.client(self.pk, "rest")
        await self.rest("POST", "/v1/channels/rest/publish", self.secret, {"data": {"n": 1}})
        await heard(socket, lambda it: it.get("type") == "message")
        peers = await self.rest("GET", "/v1/channels/rest/peers", self.secret)
        expect(len(peers["peers"]) >= 1, "a member is not listed")
        await socket.close()

    async def certificate(self):
        """A new certificate is served after SIGHUP to whoever connects then."""
        write_certificate(Path(self.server._directory.name))
        expected = (Path(self.server._directory.name) / "cert.pem").read_text()
        os.kill(self.pid, signal.SIGHUP)
        for _ in range(300):
            served = await asyncio.to_thread(ssl.get_server_certificate, self.tls_address())
            if served.split() == expected.split():
                return
            await asyncio.sleep(0.1)
        expect(False, "the new certificate is not served")

    def tls_address(self):
        host, port = self.tls.rsplit(":", 1)
        return host, int(port)

    async def over_and_over(self, disturbance, every):
        """Calls a disturbance until the end. What goes wrong is noted, and the rest goes on."""
        name = disturbance.__name__.replace("_", " ")
        self.counts[name] = 0
        while not self.stopping.is_set():
            try:
                await asyncio.wait_for(disturbance(), 300)
                self.counts[name] += 1
            except Exception as error:  # noqa: BLE001 - each is a finding
                self.faults.append(f"{name}: {type(error).__name__}: {error}")
                print(f"soak: {self.faults[-1]}", flush=True)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), every)

    # --- what is watched --------------------------------------------------------------------

    def gauges(self):
        with urllib.request.urlopen(f"http://{self.server.admin_address}/metrics") as response:
            text = response.read().decode()
        found = {}
        for line in text.splitlines():
            if match := re.match(r"(ringmesh_\w+)(?:\{[^}]*\})? ([0-9.e+]+)$", line):
                found[match[1]] = found.get(match[1], 0) + float(match[2])
        return found

    def event_bytes(self):
        """What the rings of events have filled up: bounded by `events.memory_per_shard`."""
        request = urllib.request.Request(
            f"http://{self.server.admin_address}/api/internal/v1/stats",
            headers={"Authorization": f"Bearer {self.token}"},
        )
        with urllib.request.urlopen(request) as response:
            return json.load(response)["memory"]["events"]

    def sample(self):
        status = Path(f"/proc/{self.pid}/status").read_text()
        gauges = self.gauges()
        return {
            "at": time.monotonic(),
            "rss": int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024,
            "events": self.event_bytes(),
            "threads": int(re.search(r"Threads:\s+(\d+)", status)[1]),
            "descriptors": len(os.listdir(f"/proc/{self.pid}/fd")),
            "connections": gauges["ringmesh_connections"],
            "channels": gauges["ringmesh_channels"],
            "queued": gauges["ringmesh_outbound_queue_bytes"],
            "backlog": gauges["ringmesh_mesh_backlog_messages"],
        }

    async def watch(self):
        while not self.stopping.is_set():
            self.samples.append(await asyncio.to_thread(self.sample))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), SAMPLE_SEC)

    async def settle(self, before):
        """Waits until the server holds what it held before the load. Returns the last sample."""
        for _ in range(120):
            after = await asyncio.to_thread(self.sample)
            if (
                after["connections"] == after["channels"] == after["queued"] == 0
                and after["descriptors"] <= before["descriptors"] + DESCRIPTORS_SLACK
            ):
                break
            await asyncio.sleep(0.5)
        return after


def expect(holds, what):
    if not holds:
        raise AssertionError(what)


async def heard(socket, wanted):
    """The next message that is wanted."""
    while True:
        message = json.loads(await asyncio.wait_for(socket.recv(), 60))
        if wanted(message):
            return message


async def changes(socket, which, peers):
    """Waits until all these peers have been announced, each of them once."""
    missing = set(peers)
    while missing:
        message = await heard(socket, lambda it: it.get("type") == "presence")
        for entry in message[which]:
            if entry["peerId"] in peers:
                expect(entry["peerId"] in missing, f"{entry['peerId']} has {which} twice")
                missing.discard(entry["peerId"])


async def close_code(socket):
    try:
        while True:
            await asyncio.wait_for(socket.recv(), 60)
    except websockets.ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else None


def write_certificate(directory):
    """A new key and certificate; the files appear whole."""
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30"
        " -keyout key.new -out cert.new -subj /CN=localhost"
        " -addext subjectAltName=DNS:localhost,IP:127.0.0.1".split(),
        cwd=directory,
        check=True,
        capture_output=True,
    )
    for name in ("key", "cert"):
        (directory / f"{name}.new").replace(directory / f"{name}.pem")


def slope(points):
    """The least-squares slope of (hours, bytes), in bytes an hour."""
    if len(points) < 3:
        return None
    line = statistics.linear_regression([x for x, _ in points], [y for _, y in points])
    return line.slope


def megabytes(count):
    return f"{count / 1e6:,.1f} MB"


async def soak(minutes, users, directory):
    """Runs all of it; the soak, the samples before and after, and what the load printed."""
    write_certificate(directory)
    files = {name: (directory / name).read_text() for name in ("cert.pem", "key.pem")}
    with Server(CONFIGURATION, files) as server:
        home = Path(server._directory.name)
        it = Soak(server, (home / "data/admin.token").read_text().strip())
        addresses = server.address.rstrip(",").split(",")
        it.plain, it.tls = addresses[0], addresses[-1]
        await it.command("app", "create", "--app", "app_soak")
        it.pk = (await it.key("publishable"))["keyId"]
        it.secret = (await it.key("secret"))["apiSecret"]
        load_key = (await it.key("publishable"))["keyId"]
        await asyncio.sleep(2)
        before = it.sample()
        load = await asyncio.create_subprocess_exec(
            LOADTEST, "--url", f"wss://{it.tls}", "--insecure", "--key", load_key, "--quiet",
            "--server-pid", str(it.pid), "--duration", str(minutes * 60),
            "--json", str(directory / "soak.json"), "soak", "--users", str(users),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        disturbances = [
            (it.presence_storm, STORM_SEC), (it.slow_consumer, SLOW_SEC),
            (it.revocation, REVOKE_SEC), (it.rotation, ROTATE_SEC), (it.kick, KICK_SEC),
            (it.publication, REST_SEC), (it.certificate, CERTIFICATE_SEC),
        ]  # fmt: skip
        tasks = [asyncio.create_task(it.over_and_over(*each)) for each in disturbances]
        tasks.append(asyncio.create_task(it.watch()))
        out, err = await load.communicate()
        it.stopping.set()
        await asyncio.gather(*tasks)
        if load.returncode != 0:
            it.faults.append(f"load: {err.decode().strip()}")
        after = await it.settle(before)
        log = [line for line in server.log.seen if re.search(r"\b(ERROR|panicked)\b", line)]
        it.faults += [f"log: {line}" for line in log]
        return it, before, after, out.decode()


def judge(it, before, after):
    """Adds what is wrong with the figures. Returns the slope as a share of memory, an hour."""
    begin = it.samples[0]["at"]
    span = it.samples[-1]["at"] - begin
    steady = [s for s in it.samples if s["at"] - begin > span / 5]
    points = [((s["at"] - begin) / 3600, s["rss"] - s["events"]) for s in steady]
    rise = slope(points)
    if rise is None or span < TREND_SEC_MIN:
        share = None
    else:
        share = rise / statistics.median(it for _, it in points)
    if share is not None and share > SLOPE_MAX:
        it.faults.append(f"memory rises by {share:.1%} an hour")
    for what in ("connections", "channels", "queued", "backlog"):
        if after[what] != 0:
            it.faults.append(f"{after[what]:.0f} {what} are left")
    if after["descriptors"] > before["descriptors"] + DESCRIPTORS_SLACK:
        it.faults.append(f"{before['descriptors']} descriptors became {after['descriptors']}")
    if after["threads"] > before["threads"]:
        it.faults.append(f"{before['threads']} threads became {after['threads']}")
    for name, count in it.counts.items():
        if count == 0:
            it.faults.append(f"{name} never succeeded")
    return share


def report(it, before, after, summary, minutes, share):
    peak = {what: max(s[what] for s in it.samples) for what in it.samples[0]}
    verdict = "passed" if not it.faults else f"FAILED: {len(it.faults)} faults"
    trend = "too short to tell" if share is None else f"{share:+.2%} an hour"
    rows = [
        ("resident memory", *(megabytes(value["rss"]) for value in (before, peak, after))),
        ("of it, events", *(megabytes(value["events"]) for value in (before, peak, after))),
        ("descriptors", *(value["descriptors"] for value in (before, peak, after))),
        ("threads", *(value["threads"] for value in (before, peak, after))),
        ("connections", *(int(value["connections"]) for value in (before, peak, after))),
        ("channels", *(int(value["channels"]) for value in (before, peak, after))),
        ("bytes queued", *(int(value["queued"]) for value in (before, peak, after))),
    ]
    lines = [
        "# Soak",
        "",
        f"`python tests/python/soak.py --minutes {minutes:g}` on {time.strftime('%Y-%m-%d')}, "
        f"{os.cpu_count()} cores, Linux {platform.release().split('-')[0]}: **{verdict}**.",
        "",
        f"Memory without events after the first fifth: {trend}, of which "
        f"{SLOPE_MAX:.0%} are allowed.",
        "",
        "| | before | at most | after |",
        "|---|---|---|---|",
        *(f"| {' | '.join(str(cell) for cell in row)} |" for row in rows),
        "",
        "| disturbance | times |",
        "|---|---|",
        *(f"| {name} | {count:,} |" for name, count in sorted(it.counts.items())),
        "",
        "What the load saw, which checks that each message arrives once and in order:",
        "",
        "```text",
        *(
            textwrap.fill(line, 98, subsequent_indent=" " * 10, replace_whitespace=False)
            for line in summary.strip().splitlines()
        ),
        "```",
    ]
    if it.faults:
        lines += ["", "Faults:", "", *(f"- {fault}" for fault in it.faults[:50])]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60, help="how long [default: 60]")
    parser.add_argument("--users", type=int, default=1000, help="of the load [default: 1000]")
    parser.add_argument("--report", type=Path, help="a Markdown file to write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ringmesh-soak-") as directory:
        run = soak(arguments.minutes, arguments.users, Path(directory))
        it, before, after, summary = asyncio.run(run)
    share = judge(it, before, after)
    text = report(it, before, after, summary, arguments.minutes, share)
    print(text)
    if arguments.report:
        arguments.report.write_text(text)
    return 1 if it.faults else 0


if __name__ == "__main__":
    sys.exit(main())
