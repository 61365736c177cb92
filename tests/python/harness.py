"""A real `ringmesh` process on ports of its own, with its store in a temporary directory."""

import contextlib
import json
import os
import queue
import random
import re
import socket
import subprocess
import tempfile
import threading
import urllib.request
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
BINARY = os.environ.get("RINGMESH_BIN", str(REPOSITORY / "target/debug/ringmesh"))

# Far beyond what anything here ever takes.
DEADLINE_SEC = 30

LISTENING = re.compile(r"INFO listening addresses=(\S+) admin=(\S+)")


def free_port(kind=socket.SOCK_STREAM):
    """A port that nobody has, below those that the system gives to anybody: 32768 and above."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket(socket.AF_INET, kind) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Lines:
    """The lines of a stream as they come, from a thread of its own."""

    def __init__(self, stream):
        self.seen = []
        self._all = []
        self._queue = queue.Queue()
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream):
        for line in stream:
            self._all.append(line.rstrip("\n"))
            self._queue.put(self._all[-1])
        self._queue.put(None)

    def so_far(self):
        """All that has come, waited for or not."""
        return list(self._all)

    def until(self, found):
        """The first true value of `found(line)`; fails at the end of the stream."""
        while True:
            try:
                line = self._queue.get(timeout=DEADLINE_SEC)
            except queue.Empty:
                raise TimeoutError("nothing more came:\n" + "\n".join(self.seen)) from None
            if line is None:
                raise EOFError("it ended:\n" + "\n".join(self.seen))
            self.seen.append(line)
            if value := found(line):
                return value


class Server:
    """A server, to be used as a context manager."""

    def __init__(self, configuration=None, files=None, wrapper=(), environment=None):
        """`ringmesh serve` with this TOML, next to these files; without it, `ringmesh dev`.

        The words of the wrapper stand before the command; the environment is added to ours.
        """
        self._directory = tempfile.TemporaryDirectory(prefix="ringmesh-python-")
        self.directory = directory = Path(self._directory.name)
        for name, text in (files or {}).items():
            (directory / name).write_text(text)
        if configuration is None:
            arguments = ["dev", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
            arguments += ["--data-dir", "data"]
        else:
            (directory / "ringmesh.toml").write_text(configuration)
            arguments = ["serve", "--config", "ringmesh.toml"]
        self._process = subprocess.Popen(
            [*wrapper, BINARY, *arguments],
            cwd=directory,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        self.printed = Lines(self._process.stdout)
        self.log = Lines(self._process.stderr)

    def __enter__(self):
        try:
            self.address, self.admin_address = self.log.until(LISTENING.search).groups()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        # Not by SIGTERM: the drain is tested elsewhere, and would only take time here.
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._process.stderr.close()
        self._directory.cleanup()

    def signal(self, signal):
        self._process.send_signal(signal)

    def wait(self):
        """The exit code, when it has one."""
        return self._process.wait(DEADLINE_SEC)

    def key(self, kind):
        """A key that `ringmesh dev` prints: `pk_live`, `sk_id`, `sk_secret` or `sk_live`."""
        pattern = re.compile(rf"\b{kind}_\w+")
        return self.printed.until(pattern.search).group()

    def rest(self, method, path, bearer, body=None):
        """Calls the public listener; the status and the JSON body."""
        request = urllib.request.Request(
            f"http://{self.address}{path}",
            method=method,
            headers={"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"},
            data=None if body is None else json.dumps(body).encode(),
        )
        with urllib.request.urlopen(request, timeout=DEADLINE_SEC) as response:
            return response.status, json.load(response)


def documented_program(name):
    """The program of the README or of `src/docs` whose first line is a comment with its name."""
    pages = [REPOSITORY / "README.md", *sorted((REPOSITORY / "src/docs").glob("*.md"))]
    text = "\n".join(page.read_text() for page in pages)
    blocks = re.findall(r"^```\w+\n((?:#|//) (\S+)\n.*?)^```$", text, re.M | re.S)
    [program] = [text for text, title in blocks if title == name]
    return program
