"""What the tests of the machine's faults share: a server, its clients, and what it counts."""

import base64
import hashlib
import hmac
import json
import re
import socket
import sys
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

sys.path.append(str(Path(__file__).resolve().parents[1] / "python"))

from harness import BINARY, DEADLINE_SEC, Server  # noqa: E402, F401

KEY = "pk_live_of_the_faults"
KEY_ID = "sk_id_of_the_faults"
SIGNING_SECRET = "sk_secret_of_the_faults_0123456789abcdef"
API_SECRET = "sk_live_of_the_faults_0123456789"
APP = 'id = "app_faults"'
APPS = f"""
[[apps]]
{APP}
[[apps.keys]]
id = "{KEY}"
channel_patterns = ["**"]
actions = ["publish", "subscribe", "send"]
[[apps.keys]]
id = "{KEY_ID}"
signing_secret_file = "signing"
api_secret_file = "api"
channel_patterns = ["**"]
actions = ["publish", "subscribe", "presence", "send"]
"""
DEFAULTS = {
    "server.listen": ["127.0.0.1:0"],
    "server.shards": 2,
    "admin.listen": "127.0.0.1:0",
    "store.data_dir": "data",
    "limits.connects_per_address": 0,
    "limits.message_rate": 0,
    "rest.rate_per_key": 0,
    "rest.unauthenticated_rate_per_address": 0,
    "shutdown.drain_ms": 500,
}


def toml(value):
    """A value of a configuration: lists and tables as they stand on one line."""
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {toml(of)}' for key, of in value.items())} }}"
    return json.dumps(value)


def until(what, holds):
    """The first true value of `holds()`."""
    deadline = time.monotonic() + DEADLINE_SEC
    while True:
        if value := holds():
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: still not")
        time.sleep(0.02)


def token(subject, **claims):
    """A connect token for an hour, unless the claims say otherwise."""
    claims = {"sub": subject, "exp": int(time.time()) + 3_600, **claims}
    parts = [{"alg": "HS256", "kid": KEY_ID}, claims]
    signed = b".".join(base64url(json.dumps(part).encode()) for part in parts)
    signature = hmac.new(SIGNING_SECRET.encode(), signed, hashlib.sha256).digest()
    return (signed + b"." + base64url(signature)).decode()


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def small_socket(address, buffer_bytes):
    """A connection that holds little for a program that does not read."""
    host, port = address.rsplit(":", 1)
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    small.connect((host, int(port)))
    return small


def handshake(address):
    """A connection that has asked to be a WebSocket."""
    host, port = address.rsplit(":", 1)
    newcomer = socket.create_connection((host.strip("[]"), int(port)), timeout=DEADLINE_SEC)
    newcomer.sendall(
        f"GET /v1?key={KEY} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    return newcomer


class Client:
    """A WebSocket that got its `welcome`. It pings nobody by itself."""

    def __init__(self, server, query=f"key={KEY}", buffer_bytes=None):
        # Nobody leaves it: the test's cleanup closes the socket under it.
        self.socket = connect(
            f"ws://{server.address}/v1?{query}",
            sock=buffer_bytes and small_socket(server.address, buffer_bytes),
            open_timeout=DEADLINE_SEC,
            ping_interval=None,
            close_timeout=DEADLINE_SEC,
            max_size=None,
            proxy=None,
        ).__enter__()
        self.peer_id = self.until("welcome")["peerId"]

    def send(self, kind, **fields):
        self.socket.send(json.dumps({"type": kind, **fields}))

    def recv(self, timeout=DEADLINE_SEC):
        return json.loads(self.socket.recv(timeout=timeout))

    def until(self, kind):
        """The next message of this kind; what comes before it is skipped."""
        while True:
            message = self.recv()
            if message["type"] == kind:
                return message

    def subscribe(self, channel, presence=False):
        self.send("subscribe", channel=channel, requestId=channel, presence=presence)
        self.until("ack")

    def publish(self, channel, data):
        """Publishes and waits for the ack."""
        self.send("publish", channel=channel, data=data, requestId="publish")
        self.until("ack")


class MachineTest(unittest.TestCase):
    """A test whose servers neither panic nor outlive it."""

    def start(self, settings=None, app=None, **how):
        """Starts a server; `app` has settings of its app."""
        lines = {**DEFAULTS, **(settings or {})}.items()
        configuration = "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines)
        files = {"signing": SIGNING_SECRET, "api": API_SECRET}
        of_app = "".join(f"{key} = {toml(value)}\n" for key, value in (app or {}).items())
        apps = APPS.replace(f"{APP}\n", f"{APP}\n{of_app}")
        server = Server(configuration + apps, files, **how)
        self.enterContext(server)
        self.addCleanup(self.check_log, server)
        return server

    def check_log(self, server):
        self.assertNotIn("panicked", "\n".join(server.log.so_far()))

    def client(self, *arguments, **options):
        client = Client(*arguments, **options)
        self.addCleanup(client.socket.socket.close)
        return client

    def refused(self, server, query):
        """The status with which a connect is refused; 101 if it is not."""
        try:
            Client(server, query).socket.close()
            return 101
        except InvalidStatus as refusal:
            return refusal.response.status_code


def get(address, path, bearer=""):
    """Status, headers and text of an answer."""
    request = urllib.request.Request(
        f"http://{address}{path}", headers={"Authorization": f"Bearer {bearer}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_SEC) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def admin(server, method, path, body=None):
    """Status and JSON of an answer of the admin API."""
    token = (server.directory / "data/admin.token").read_text().strip()
    request = urllib.request.Request(
        f"http://{server.admin_address}/api/internal/v1{path}",
        method=method,
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        data=None if body is None else json.dumps(body).encode(),
    )
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_SEC) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def metric(server, name, **labels):
    """A metric without its prefix, summed over all that have these labels."""
    page = get(server.admin_address, "/metrics")[2]
    total, found = 0.0, False
    for labelled, value in re.findall(rf"^ringmesh_{name}(\{{.*\}})? (\S+)$", page, re.M):
        if all(f'{label}="{text}"' in labelled for label, text in labels.items()):
            total, found = total + float(value), True
    if not found:
        raise LookupError(f"no metric {name} {labels}")
    return total
