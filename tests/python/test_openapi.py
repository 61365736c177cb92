"""Requests made up from the server's own OpenAPI document, good and bad, by schemathesis."""

import subprocess
import sys
import unittest
from pathlib import Path

from harness import Server

# Far above what the examples below take.
TIMEOUT_SEC = 300
# What it expects of answers, where that is not its default.
SETTINGS = Path(__file__).with_name("schemathesis.toml")
# Of each operation: a number, and not a time, so that every run makes the same requests.
EXAMPLES = 150

CONFIGURATION = """
[server]
listen = ["127.0.0.1:0"]
shards = 2
[admin]
listen = "127.0.0.1:0"
[store]
data_dir = "data"
[rest]
rate_per_key = 0
[[apps]]
id = "app_fuzzed"
[[apps.keys]]
id = "sk_id_fuzzed"
signing_secret_file = "signing.secret"
api_secret_file = "api.secret"
channel_patterns = ["**"]
actions = ["publish", "subscribe", "presence", "send"]
"""

API_SECRET = "sk_live_for_schemathesis_on_loopback"


class OpenApi(unittest.TestCase):
    """Every answer is one that the document announces, and none is a fault of the server."""

    def test_answers_are_as_the_document_says(self):
        secrets = {"signing.secret": "sk_secret_of_the_fuzzed_0123456789", "api.secret": API_SECRET}
        with Server(CONFIGURATION, secrets) as server:
            run = subprocess.run(
                [
                    str(Path(sys.executable).with_name("schemathesis")),
                    f"--config-file={SETTINGS}",
                    "run",
                    f"http://{server.address}/v1/openapi.json",
                    f"--header=Authorization: Bearer {API_SECRET}",
                    # Names are bounded in bytes and schemas count characters: a seed that
                    # makes a long enough name of wide characters would prove nothing.
                    "--seed=1",
                    # Not the stateful phase: the document declares no links. Those that are
                    # guessed lead nowhere, and how far it comes depends on the time.
                    "--phases=examples,coverage,fuzzing",
                    f"--max-examples={EXAMPLES}",
                    "--continue-on-failure",
                    "--no-color",
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=TIMEOUT_SEC,
            )
            self.assertEqual(run.returncode, 0, run.stdout)
            self.assertIn("Tested: 8", run.stdout)
            # It is still there, and in order.
            status, _ = server.rest("GET", "/v1/usage", API_SECRET)
            self.assertEqual(status, 200)


if __name__ == "__main__":
    unittest.main()
