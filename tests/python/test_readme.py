"""The Python programs of the documents, run as they stand there; only the address is changed."""

import json
import re
import subprocess
import sys
import unittest

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from harness import DEADLINE_SEC, Lines, Server, documented_program


class Program:
    """A program of a document in a process of its own."""

    def __init__(self, name, server, *arguments):
        text = documented_program(name)
        assert "127.0.0.1:8080" in text
        self._process = subprocess.Popen(
            [sys.executable, "-c", text.replace("127.0.0.1:8080", server.address), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines = Lines(self._process.stdout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


class Readme(unittest.TestCase):
    """One `ringmesh dev`, as the reader has."""

    def test_two_chats_talk(self):
        with Server() as server:
            key = server.key("pk_live")
            with Program("chat.py", server, key) as first:
                # It has come in once somebody else sees it there.
                with connect(f"ws://{server.address}/v1?key={key}") as socket:
                    socket.send(json.dumps({"type": "subscribe", "channel": "room-42"}))
                    while not self.is_arrival(socket.recv(timeout=DEADLINE_SEC)):
                        pass
                with Program("chat.py", server, key):
                    said = first.lines.until(lambda line: line.endswith(": hello from Python"))
            self.assertTrue(said)

    def test_a_backend_mints_publishes_lists_and_kicks(self):
        with Server() as server:
            key, secret = server.key("pk_live"), server.key("sk_live")
            with connect(f"ws://{server.address}/v1?key={key}") as socket:
                peer_id = json.loads(socket.recv(timeout=DEADLINE_SEC))["peerId"]
                subscribe = {"type": "subscribe", "channel": "room-42", "requestId": "1"}
                socket.send(json.dumps(subscribe))
                while json.loads(socket.recv(timeout=DEADLINE_SEC))["type"] != "ack":
                    pass
                with Program("backend.py", server, secret, peer_id) as backend:
                    token = backend.lines.until(re.compile(r"^Alice connects with (\S+)$").match)[1]
                    backend.lines.until(f"In room-42: {peer_id}".__eq__)
                    backend.lines.until(f"Closed 1 of {peer_id}".__eq__)
                with self.assertRaises(ConnectionClosed) as end:
                    while True:
                        said = json.loads(socket.recv(timeout=DEADLINE_SEC))
                        if said["type"] == "message":
                            self.assertEqual(said["data"], "hello from the backend")
                self.assertEqual(end.exception.rcvd.code, 4020)
                self.assertEqual(said["type"], "message")
            with connect(f"ws://{server.address}/v1?token={token}") as socket:
                welcome = json.loads(socket.recv(timeout=DEADLINE_SEC))
                self.assertEqual(welcome["peerId"], "alice")

    def is_arrival(self, text):
        """Whether a frame says that another peer is in the channel."""
        frame = json.loads(text)
        return frame["type"] == "presence" and bool(frame["joined"])


if __name__ == "__main__":
    unittest.main()
