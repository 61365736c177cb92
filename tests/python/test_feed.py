"""The backend in the manual that keeps a roster, killed at random, has the true one in the end."""

import json
import os
import random
import re
import subprocess
import sys
import time
import unittest

from harness import DEADLINE_SEC, REPOSITORY, Server

MANUAL = REPOSITORY / "src/docs/admin-api.md"
SECRET = "sk_secret_0123456789abcdef0123456789abcdef"
CONFIGURATION = """
[server]
listen = ["127.0.0.1:0"]
shards = 2
[admin]
listen = "127.0.0.1:0"
[store]
data_dir = "data"
[limits]
connects_per_address = 0
[[apps]]
id = "app_shop"
feed = { presence = true }
[[apps.keys]]
id = "sk_id_shop"
channel_patterns = ["**"]
actions = ["publish", "subscribe", "presence"]
signing_secret_file = "signing.secret"
api_secret_file = "api.secret"
[[apps.keys]]
id = "pk_live_shop"
channel_patterns = ["**"]
actions = ["subscribe"]
"""
FILES = {"signing.secret": SECRET, "api.secret": "sk_live_0123456789abcdef0123456789"}


class Feed(unittest.TestCase):
    def test_the_manuals_backend_has_the_true_roster_whenever_it_is_killed(self):
        blocks = re.findall(r"```python\n(.*?)```", MANUAL.read_text(), re.DOTALL)
        self.assertEqual(len(blocks), 1)
        with Server(CONFIGURATION, FILES) as server:
            script = server.directory / "roster.py"
            script.write_text(blocks[0])
            roster = server.directory / "roster.json"
            environment = {
                **os.environ,
                "ADMIN_URL": f"http://{server.admin_address}",
                "REST_URL": f"http://{server.address}",
                "APP": "app_shop",
                "API_SECRET": FILES["api.secret"],
                "ROSTER_FILE": str(roster),
            }
            chance = random.Random(20)
            members = []
            for _ in range(8):
                backend = subprocess.Popen([sys.executable, script, "shop/1"], env=environment)
                for _ in range(3):
                    if len(members) > 3:
                        gone = members.pop(chance.randrange(len(members)))
                        gone.kill()
                        gone.wait()
                    members.append(self.member(server))
                time.sleep(chance.random() / 4)
                backend.kill()
                backend.wait()
            backend = subprocess.Popen([sys.executable, script, "shop/1"], env=environment)
            try:
                self.wait_for(server, roster)
            finally:
                backend.kill()
                backend.wait()
                for member in members:
                    member.kill()
                    member.wait()

    def member(self, server):
        binary = os.environ.get("RINGMESH_BIN", str(REPOSITORY / "target/debug/ringmesh"))
        command = [binary, "sub", "shop/1", "--key", "pk_live_shop"]
        command += ["--url", f"ws://{server.address}"]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def wait_for(self, server, file):
        until = time.monotonic() + DEADLINE_SEC
        while True:
            _, listed = server.rest("GET", "/v1/channels/shop%2F1/peers", FILES["api.secret"])
            truth = sorted(peer["peerId"] for peer in listed["peers"])
            known = json.loads(file.read_text()) if file.exists() else {"rosters": {}}
            if truth and sorted(known["rosters"].get("shop/1", [])) == truth:
                return
            self.assertLess(time.monotonic(), until, f"{known}, not {truth}")
            time.sleep(0.1)


if __name__ == "__main__":
    unittest.main()
