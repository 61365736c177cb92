"""The Python programs of the README, run as they stand there; only the address is changed."""

import json
import subprocess
import sys
import unittest

from websockets.sync.client import connect

from harness import DEADLINE_SEC, Lines, Server, readme_program


class Program:
    """A program of the README in a process of its own."""

    def __init__(self, name, server, *arguments):
        text = readme_program(name)
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

    def is_arrival(self, text):
        """Whether a frame says that another peer is in the channel."""
        frame = json.loads(text)
        return frame["type"] == "presence" and bool(frame["joined"])


if __name__ == "__main__":
    unittest.main()
