"""The TURN credentials of a `welcome` against coturn's `turnserver`, on loopback."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import tempfile
import unittest

import aioice.stun
import aioice.turn
from websockets.sync.client import connect

from harness import DEADLINE_SEC, Lines, Server, free_port

SECRET = "shared with the turnserver"

CONFIGURATION = """
[server]
listen = ["127.0.0.1:0"]
shards = 2
[admin]
listen = "127.0.0.1:0"
[store]
data_dir = "data"
[[apps]]
id = "app_turn"
[apps.turn]
urls = ["turn:127.0.0.1:{port}"]
ttl_sec = 600
secret_file = "turn.secret"
[[apps.keys]]
id = "pk_live_turn"
channel_patterns = ["**"]
actions = ["subscribe"]
"""


class TurnServer:
    """A `turnserver` that knows the secret, to be used as a context manager."""

    def __init__(self):
        # It takes no port 0.
        self.port = free_port(socket.SOCK_DGRAM)
        self._directory = tempfile.TemporaryDirectory(prefix="ringmesh-turn-")
        options = {
            "listening-ip": "127.0.0.1",
            "listening-port": self.port,
            "relay-ip": "127.0.0.1",
            "realm": "ringmesh.test",
            "static-auth-secret": SECRET,
            "log-file": "stdout",
            "pidfile": os.path.join(self._directory.name, "pid"),
            "userdb": os.path.join(self._directory.name, "users"),
        }
        flags = ["-n", "--use-auth-secret", "--no-tls", "--no-dtls", "--no-cli", "--simple-log"]
        self._process = subprocess.Popen(
            ["turnserver", *flags, *(f"--{name}={value}" for name, value in options.items())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines = Lines(self._process.stdout)

    def __enter__(self):
        # The last thread it starts; its listeners are open by then.
        try:
            self._lines.until(lambda line: "admin thread" in line)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._directory.cleanup()


def relay_address(port, username, credential):
    """The address that a TURN allocation with these credentials is given."""

    async def allocate():
        transport, _ = await aioice.turn.create_turn_endpoint(
            asyncio.DatagramProtocol, ("127.0.0.1", port), username, credential
        )
        address = transport.get_extra_info("sockname")
        transport.close()
        return address

    return asyncio.run(asyncio.wait_for(allocate(), DEADLINE_SEC))


class Turn(unittest.TestCase):
    """A connection without TURN servers of its own is given the app's."""

    @classmethod
    def setUpClass(cls):
        assert shutil.which("turnserver"), "turnserver is missing; apt-get install coturn"

    def test_a_turnserver_takes_the_credentials_of_a_welcome(self):
        with TurnServer() as turn:
            configuration = CONFIGURATION.format(port=turn.port)
            with Server(configuration, {"turn.secret": SECRET}) as server:
                with connect(f"ws://{server.address}/v1?key=pk_live_turn") as client:
                    welcome = json.loads(client.recv(timeout=DEADLINE_SEC))
            [ice_server] = welcome["metadata"]["iceServers"]
            self.assertEqual(ice_server["urls"], [f"turn:127.0.0.1:{turn.port}"])
            username, credential = ice_server["username"], ice_server["credential"]
            self.assertTrue(username.endswith(":" + welcome["peerId"]))

            host, port = relay_address(turn.port, username, credential)
            self.assertEqual(host, "127.0.0.1")
            self.assertNotEqual(port, turn.port)
            with self.assertRaises(aioice.stun.TransactionFailed):
                relay_address(turn.port, username + "x", credential)


if __name__ == "__main__":
    unittest.main()
