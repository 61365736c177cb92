"""The unit for systemd: what it must say, and how exposed systemd finds it."""

import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from harness import REPOSITORY

UNIT = REPOSITORY / "tuning/ringmesh.service"
SOCKET = REPOSITORY / "tuning/activation/ringmesh.socket"
# Tenths, as --threshold takes them. Version 252 says 1.7; others may look at more.
EXPOSURE_MAX = 25


def has_offline_analysis():
    """Version 250 and later judge a file without a running systemd."""
    if not shutil.which("systemd-analyze"):
        return False
    version = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True)
    return int(re.search(r"systemd (\d+)", version.stdout)[1]) >= 250


class Unit(unittest.TestCase):
    def settings(self):
        lines = UNIT.read_text().splitlines()
        return [line.split("=", 1) for line in lines if re.match(r"[A-Z]\w+=", line)]

    def test_it_is_told_of_the_state_and_leaves_no_core(self):
        settings = dict(self.settings())
        self.assertEqual(settings["Type"], "notify")
        self.assertEqual(settings["LimitCORE"], "0")
        self.assertEqual(settings["ExecReload"], "kill -HUP $MAINPID")
        self.assertEqual(settings["RestartPreventExitStatus"], "2")

    def test_a_drain_has_the_time_that_it_takes_by_default(self):
        example = (REPOSITORY / "src/config/example.toml").read_text()
        drain_ms = int(re.search(r"^drain_ms = (\d+)", example, re.MULTILINE)[1])
        # And the last close handshakes take 2 s and some at most.
        stop_sec = int(dict(self.settings())["TimeoutStopSec"])
        self.assertGreater(stop_sec * 1_000, drain_ms + 5_000)

    def test_each_capability_and_family_has_its_reason(self):
        text = UNIT.read_text()
        reasons = text.split("[Unit]")[0]
        for name in ("CAP_NET_BIND_SERVICE", "AF_UNIX", "@resources", "ProcSubset", "PrivateUsers"):
            self.assertIn(name, reasons)

    def test_each_paragraph_says_why_it_is_there(self):
        for text in (UNIT.read_text(), SOCKET.read_text()):
            service = re.split(r"^\[(?:Service|Socket)\]$", text, flags=re.MULTILINE)[1]
            for paragraph in re.split(r"\n\n|\n\[Install\]", service)[:-1]:
                plain = ("Type=", "ExecStart=", "Restart=")
                lines = [it for it in paragraph.strip().splitlines() if not it.startswith(plain)]
                self.assertTrue(any(line.startswith("# ") for line in lines), paragraph)

    def test_the_socket_unit_is_the_servers_default_port_and_no_line_is_unknown(self):
        text = SOCKET.read_text()
        settings = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
        example = (REPOSITORY / "src/config/example.toml").read_text()
        listen = re.search(r'^listen = \["(.*)"\]', example, re.MULTILINE)[1]
        self.assertEqual(settings["ListenStream"], listen)
        # The server takes listeners, and no connections.
        self.assertNotIn("Accept", settings)
        if shutil.which("systemd-analyze"):
            command = ["systemd-analyze", "verify", "--man=no", SOCKET]
            outcome = subprocess.run(command, capture_output=True, text=True)
            self.assertNotRegex(outcome.stderr, r"ringmesh\.socket:\d+: ")

    @unittest.skipUnless(has_offline_analysis(), "no systemd-analyze that judges files here")
    def test_systemd_finds_little_exposed(self):
        with tempfile.TemporaryDirectory() as directory:
            unit = Path(directory) / "ringmesh.service"
            # The unit names its program without a directory, and it may not be installed here.
            unit.write_text(UNIT.read_text().replace("ExecStart=ringmesh", "ExecStart=/bin/true"))
            command = ["systemd-analyze", "security", "--offline=true", "--no-pager"]
            command += [f"--threshold={EXPOSURE_MAX}", unit]
            outcome = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual(outcome.returncode, 0, outcome.stdout + outcome.stderr)


if __name__ == "__main__":
    unittest.main()
