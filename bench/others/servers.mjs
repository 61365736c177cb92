// How each server is started, and what its protocol says over a WebSocket to join one room and to
// publish to it. A step is [what a message has in it, what is then sent]; "" is the open socket.

import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { userInfo } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const PATHS = [...(process.env.PATH ?? "").split(":"), "/usr/sbin", "/usr/local/sbin"];
const NCHAN = process.env.NCHAN_MODULE ?? "/usr/lib/nginx/modules/ngx_nchan_module.so";

/** The path of a program, or null if there is none. */
function program(name, variable, otherwise = []) {
  const asked = process.env[variable];
  const paths = asked ? [asked] : [...otherwise, ...PATHS.map((path) => join(path, name))];
  return paths.find((path) => existsSync(path)) ?? null;
}

/** The first version that a command prints. */
function version(command, ...args) {
  const shell = ["-c", '"$@" 2>&1; true', "sh", command, ...args];
  return /\d+\.\d+(\.\d+)?/.exec(execFileSync("sh", shell, { encoding: "latin1" }))?.[0] ?? "?";
}

const npmVersion = (name) =>
  JSON.parse(readFileSync(here(`node_modules/${name}/package.json`), "utf8")).version;

/** Writes a configuration to the server's own directory, and returns its path. */
function file(directory, text) {
  const path = join(directory, "configuration");
  writeFileSync(path, text);
  return path;
}

/** A packet of MQTT 3.1.1 of less than 16 KB. */
function mqtt(type, ...parts) {
  const body = Buffer.concat(parts.map((part) => Buffer.from(part, "latin1")));
  const { length } = body;
  const size = length < 128 ? [length] : [(length & 127) | 128, length >> 7];
  return Buffer.concat([Buffer.from([type, ...size]), body]);
}

const ringmesh = {
  name: "ringmesh",
  install: "cargo build --release, or set RINGMESH_BIN",
  binary: program("ringmesh", "RINGMESH_BIN", [here("../../target/release/ringmesh")]),
  version: (binary) => version(binary, "--version"),
  args: (port, directory) => [
    "serve",
    "--config",
    file(
      directory,
      `
      server.listen = ["127.0.0.1:${port}"]
      admin.listen = ""
      store.data_dir = "${directory}"
      limits = { message_rate = 0, connects_per_address = 0 }
      [[apps]]
      id = "app_compare"
      [[apps.keys]]
      id = "pk_live_compare"
      channel_patterns = ["room"]
      actions = ["publish", "subscribe"]`,
    ),
  ],
  path: () => "/v1?key=pk_live_compare",
  subscribe: [
    ['"welcome"', '{"type":"subscribe","channel":"room","requestId":"1"}'],
    ['"ack"', null],
  ],
  publisher: [['"welcome"', null]],
  publish: (data) => `{"type":"publish","channel":"room","data":"${data}"}`,
};

const HELLO = 'CONNECT {"verbose":false,"pedantic":false,"protocol":1}\r\n';
const nats = {
  name: "nats",
  install: "apt-get install nats-server, or set NATS_BIN",
  binary: program("nats-server", "NATS_BIN"),
  version: (binary) => version(binary, "--version"),
  args: (port, directory) => [
    "--config",
    file(
      directory,
      `listen: "127.0.0.1:-1"\nwebsocket { listen: "127.0.0.1:${port}", no_tls: true }\n`,
    ),
  ],
  path: () => "/",
  subscribe: [
    ["INFO", Buffer.from(`${HELLO}SUB room 1\r\nPING\r\n`)],
    ["PONG", null],
  ],
  publisher: [
    ["INFO", Buffer.from(`${HELLO}PING\r\n`)],
    ["PONG", null],
  ],
  publish: (data) => Buffer.from(`PUB room ${data.length}\r\n${data}\r\n`),
  heartbeats: { "PING\r\n": Buffer.from("PONG\r\n") },
};

const CONNECT = mqtt(0x10, "\0\x04MQTT\x04\x02\0\0\0\0");
const mosquitto = {
  name: "mosquitto",
  install: "apt-get install mosquitto, or set MOSQUITTO_BIN",
  binary: program("mosquitto", "MOSQUITTO_BIN"),
  version: (binary) => version(binary, "-h"),
  args: (port, directory) => [
    "-c",
    file(
      directory,
      // It wants a listener without WebSocket, too.
      `listener 0 ${directory}/socket
      listener ${port} 127.0.0.1
      protocol websockets
      allow_anonymous true
      user ${userInfo().username}`.replaceAll(/^ +/gm, ""),
    ),
  ],
  path: () => "/",
  protocols: ["mqtt"],
  subscribe: [
    ["", CONNECT],
    ["\x20\x02\0\0", mqtt(0x82, "\0\x01\0\x04room\0")],
    ["\x90", null],
  ],
  publisher: [
    ["", CONNECT],
    ["\x20\x02\0\0", null],
  ],
  publish: (data) => mqtt(0x30, "\0\x04room", data),
};

const nchan = {
  name: "nchan",
  install: "apt-get install libnginx-mod-nchan, or set NGINX_BIN and NCHAN_MODULE",
  binary: existsSync(NCHAN) ? program("nginx", "NGINX_BIN") : null,
  version: (binary) =>
    `${version("dpkg-query", "-W", "libnginx-mod-nchan")} in nginx ${version(binary, "-v")}`,
  args: (port, directory) => [
    "-p",
    directory,
    "-e",
    "stderr",
    "-c",
    file(
      directory,
      `load_module ${NCHAN};
      daemon off; pid nginx.pid; error_log stderr;
      user ${userInfo().username};
      events { worker_connections 16384; }
      http {
        access_log off;
        client_body_temp_path a; proxy_temp_path b; fastcgi_temp_path c; uwsgi_temp_path d;
        scgi_temp_path e;
        server {
          listen 127.0.0.1:${port};
          nchan_message_buffer_length 100; nchan_subscriber_first_message newest;
          location = /subscribe { nchan_channel_id room; nchan_subscriber websocket; }
          location = /publish { nchan_channel_id room; nchan_publisher websocket http; }
        }
      }`,
    ),
  ],
  path: (role) => `/${role}`,
  subscribe: [["", null]],
  publisher: [["", null]],
  publish: (data) => data,
  /** How many have joined: the handshake alone does not say it. */
  async members(port) {
    const answer = await fetch(`http://127.0.0.1:${port}/publish`);
    return Number(/subscribers: (\d+)/.exec(await answer.text())?.[1] ?? 0);
  },
};

const socketIo = {
  name: "socket.io",
  install: "npm ci",
  binary: existsSync(here("node_modules/socket.io")) ? process.execPath : null,
  version: (node) => `${npmVersion("socket.io")}, Node ${version(node, "--version")}`,
  args: (port) => [here("node_servers.mjs"), "socket.io", port],
  path: () => "/socket.io/?EIO=4&transport=websocket",
  subscribe: [
    ["0{", "40"],
    ["40{", '421["subscribe"]'],
    ["431[", null],
  ],
  publisher: [
    ["0{", "40"],
    ["40{", null],
  ],
  publish: (data) => `42["publish","${data}"]`,
  heartbeats: { 2: "3" },
};

const ws = {
  name: "ws",
  install: "npm ci",
  binary: existsSync(here("node_modules/ws")) ? process.execPath : null,
  version: (node) => `${npmVersion("ws")}, Node ${version(node, "--version")}`,
  args: (port) => [here("node_servers.mjs"), "ws", port],
  path: (role) => `/${role}`,
  subscribe: [["", null]],
  publisher: [["", null]],
  publish: (data) => data,
};

export const SERVERS = [ringmesh, nats, mosquitto, nchan, socketIo, ws];
