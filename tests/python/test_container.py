"""The container's files: the server behind its filter of system calls, the Dockerfile's rules."""

import json
import re
import subprocess
import sys
import tempfile
import unittest
import urllib.request
from pathlib import Path

from harness import BINARY, LISTENING, REPOSITORY, Lines

TUNING = REPOSITORY / "tuning"
PROFILE = TUNING / "seccomp.json"

# Loads a profile as a container's runtime does, and becomes the program after it. In a process of
# its own, because a filter stays.
BEHIND_THE_FILTER = """
import ctypes, json, os, sys

library = ctypes.CDLL("libseccomp.so.2")
library.seccomp_init.restype = ctypes.c_void_p
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
MASKED_EQ = 7


class Compare(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64),
                ("b", ctypes.c_uint64)]


profile = json.load(open(sys.argv[1]))
left_out = sys.argv[2].split(",")
assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
context = ctypes.c_void_p(library.seccomp_init(ERRNO | profile["defaultErrnoRet"]))
for rule in profile["syscalls"]:
    action = ALLOW if rule["action"] == "SCMP_ACT_ALLOW" else ERRNO | rule["errnoRet"]
    compares = [
        Compare(it["index"], MASKED_EQ, it["value"], it["valueTwo"]) for it in rule.get("args", [])
    ]
    for name in rule["names"]:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number < 0 or name in left_out:
            continue
        array = (Compare * len(compares))(*compares)
        outcome = library.seccomp_rule_add_array(
            context, ctypes.c_uint32(action), number, len(compares), array
        )
        assert outcome == 0, (name, outcome)
assert library.seccomp_load(context) == 0
os.execv(sys.argv[3], sys.argv[3:])
"""


class Filter(unittest.TestCase):
    def start(self, directory, left_out=""):
        (Path(directory) / "ringmesh.toml").write_text(
            'server.listen = ["127.0.0.1:0"]\nadmin.listen = "127.0.0.1:0"\n'
            'store.data_dir = "data"\nserver.shards = 2\n'
        )
        command = [sys.executable, "-c", BEHIND_THE_FILTER, PROFILE, left_out]
        command += [BINARY, "serve", "--config", "ringmesh.toml"]
        return subprocess.Popen(
            command, cwd=directory, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def test_the_server_works_behind_it(self):
        with tempfile.TemporaryDirectory() as directory:
            process = self.start(directory)
            log = Lines(process.stderr)
            try:
                address, admin = log.until(LISTENING.search).groups()
                token = (Path(directory) / "data/admin.token").read_text().strip()
                request = urllib.request.Request(
                    f"http://{admin}/api/internal/v1/apps",
                    json.dumps({"appId": "app_x", "name": "x"}).encode(),
                    {"authorization": f"Bearer {token}", "content-type": "application/json"},
                )
                with urllib.request.urlopen(request) as response:
                    self.assertIn(response.status, (200, 201))
                for url in (f"http://{address}/v1/openapi.json", f"http://{admin}/metrics"):
                    with urllib.request.urlopen(url) as response:
                        self.assertEqual(response.status, 200)
                process.terminate()
                self.assertEqual(process.wait(timeout=30), 0)
            finally:
                process.kill()
                process.wait()
                process.stderr.close()

    def test_without_io_uring_in_it_the_server_says_so(self):
        with tempfile.TemporaryDirectory() as directory:
            process = self.start(directory, "io_uring_setup")
            _, error = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 1)
        self.assertIn("a seccomp filter", error)

    def test_it_lists_each_call_once_and_none_that_leads_out(self):
        profile = json.loads(PROFILE.read_text())
        names = [name for rule in profile["syscalls"] for name in rule["names"]]
        self.assertEqual(len(names), len(set(names)))
        self.assertTrue(all(rule["comment"] for rule in profile["syscalls"]))
        never = {"bpf", "keyctl", "mount", "pivot_root", "process_vm_readv", "ptrace", "setns"}
        never |= {"unshare", "userfaultfd", "init_module", "kexec_load", "open_by_handle_at"}
        self.assertEqual(never & set(names), set())


class Dockerfile(unittest.TestCase):
    """Those of hadolint's rules that a file of this size can break."""

    def lines(self):
        text = (TUNING / "Dockerfile").read_text().replace("\\\n", " ")
        return [line for line in text.splitlines() if line and not line.startswith("#")]

    def test_images_have_tags_and_the_last_user_is_not_root(self):
        images = [line.split()[1] for line in self.lines() if line.startswith("FROM ")]
        for image in images:
            self.assertRegex(image, r":(?!latest$)[\w.-]+$")
        users = [line.split()[1] for line in self.lines() if line.startswith("USER ")]
        self.assertRegex(users[-1], r"^[1-9]\d*:[1-9]\d*$")

    def test_nothing_is_added_or_run_in_a_shell_form(self):
        for line in self.lines():
            word, rest = line.split(maxsplit=1)
            self.assertNotIn(word, ("ADD", "MAINTAINER", "ONBUILD", "SHELL"))
            if word in ("ENTRYPOINT", "CMD"):
                self.assertIsInstance(json.loads(rest), list)
            if word == "WORKDIR":
                self.assertTrue(rest.startswith("/"))
            if word == "RUN":
                self.assertIsNone(re.search(r"\bsudo\b|\bcd \b|\bapt\b|\|", rest))

    def test_what_is_copied_is_there(self):
        for line in self.lines():
            if line.startswith("COPY --from=build"):
                source = line.split()[-2]
                built = " ".join(self.lines())
                self.assertIn(source.rsplit("/", 1)[-1], built.split(line)[0])
        for line in (TUNING / "Dockerfile.dockerignore").read_text().splitlines():
            if line.startswith("!"):
                self.assertTrue((REPOSITORY / line[1:]).exists(), line)

    def test_its_toolchain_is_that_of_the_manifest(self):
        manifest = (REPOSITORY / "Cargo.toml").read_text()
        version = re.search(r'^rust-version = "([\d.]+)"', manifest, re.MULTILINE)
        self.assertIn(f"FROM rust:{version[1]}-", (TUNING / "Dockerfile").read_text())


if __name__ == "__main__":
    unittest.main()
