// A real `ringmesh` process on a port of its own, with its store in a temporary directory.

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { within } from "./wait.js";

export const REPOSITORY = fileURLToPath(new URL("../../..", import.meta.url));
export const BINARY = process.env.RINGMESH_BIN ?? join(REPOSITORY, "target/debug/ringmesh");

export const PUBLISHABLE_KEY = "pk_live_tests";
export const SECRET_KEY_ID = "sk_id_tests";
export const SIGNING_SECRET = "sk_secret_of_the_javascript_tests";

/** One app whose clients have no limits that a test would run into unasked. */
const APP = `
[[apps]]
id = "app_tests"
[[apps.keys]]
id = "${PUBLISHABLE_KEY}"
channel_patterns = ["room-*", "app/**", "_*/**"]
actions = ["publish", "subscribe", "presence", "send"]
[[apps.keys]]
id = "${SECRET_KEY_ID}"
signing_secret_file = "signing.secret"
channel_patterns = ["**"]
actions = ["publish", "subscribe", "presence", "send"]
`;

/** TOML of a whole configuration; `sections` replace or add `{section: {key: value}}`. */
function configuration(sections, apps) {
  const all = {
    server: { listen: ["127.0.0.1:0"] },
    admin: { listen: "127.0.0.1:0" },
    store: { data_dir: "data" },
    limits: { message_rate: 0, connects_per_address: 0 },
    shutdown: { drain_ms: 300, retry_after_ms: 250 },
    log: { format: "json" },
  };
  for (const [section, keys] of Object.entries(sections)) {
    all[section] = { ...all[section], ...keys };
  }
  const lines = Object.entries(all).flatMap(([section, keys]) => [
    `[${section}]`,
    ...Object.entries(keys).map(([key, value]) => `${key} = ${JSON.stringify(value)}`),
  ]);
  return `${lines.join("\n")}\n${APP}${apps}`;
}

export class Server {
  #directory;
  #process = null;
  #log = [];
  #printed = "";
  #isDev = false;

  /**
   * Starts `ringmesh serve`. `shards` is their number, `sections` change the configuration,
   * `apps` is TOML that is added to it.
   */
  static async start({ shards = 1, sections = {}, apps = "" } = {}) {
    const server = new Server();
    server.#directory = await mkdtemp(join(tmpdir(), "ringmesh-js-"));
    server.sections = { ...sections, server: { shards, ...sections.server } };
    server.apps = apps;
    await writeFile(join(server.#directory, "signing.secret"), SIGNING_SECRET);
    await server.#serve(["127.0.0.1:0"]);
    return server;
  }

  /** Starts `ringmesh dev`, which makes its own keys and prints them: see `prints`. */
  static async dev() {
    const server = new Server();
    server.#directory = await mkdtemp(join(tmpdir(), "ringmesh-js-"));
    server.#isDev = true;
    await server.#serve(["127.0.0.1:0"]);
    return server;
  }

  /** `host:port` of the public listener. */
  get address() {
    return this.listening.addresses;
  }

  get url() {
    return `ws://${this.address}`;
  }

  /** Waits until standard output has something that matches; returns it. */
  async prints(pattern) {
    const found = new Promise((resolve) => {
      const look = () => {
        const match = pattern.exec(this.#printed);
        if (match) resolve(match[0]);
      };
      this.#process.stdout.on("data", look);
      look();
    });
    return within(`${pattern} on standard output`, found);
  }

  /** Ends it with `signal`, and starts another one on the same port and store. */
  async restart(signal, whileDown = async () => {}) {
    const { address } = this;
    await this.#end(signal);
    await whileDown();
    await this.#serve([address]);
  }

  /** Ends it, and removes its store. */
  async stop() {
    await this.#end("SIGTERM");
    await rm(this.#directory, { recursive: true });
  }

  /** Calls the admin API; returns the body, and throws unless the status is 2xx. */
  async admin(method, path, body) {
    const token = (await readFile(join(this.#directory, "data", "admin.token"), "utf8")).trim();
    const response = await fetch(`http://${this.listening.admin}/api/internal/v1${path}`, {
      method,
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: body && JSON.stringify(body),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return JSON.parse(text);
  }

  /** Runs a command of the executable about this server; returns what it prints. */
  async run(...words) {
    const env = {
      ...process.env,
      RINGMESH_ADMIN_URL: this.listening.admin,
      RINGMESH_ADMIN_TOKEN_FILE: join(this.#directory, "data", "admin.token"),
    };
    const { stdout } = await promisify(execFile)(BINARY, words, { cwd: this.#directory, env });
    return stdout;
  }

  async #serve(listen) {
    if (this.#isDev) {
      const addresses = ["--listen", listen[0], "--admin", "127.0.0.1:0"];
      await this.#spawn(["dev", ...addresses, "--data-dir", "data"]);
      return;
    }
    const sections = { ...this.sections, server: { ...this.sections.server, listen } };
    const file = join(this.#directory, "ringmesh.toml");
    await writeFile(file, configuration(sections, this.apps));
    await this.#spawn(["serve", "--config", file]);
  }

  async #spawn(args) {
    this.#process = spawn(BINARY, args, {
      cwd: this.#directory,
      stdio: ["ignore", "pipe", "pipe"],
    });
    const child = this.#process;
    // A test that fails midway must not leave a server behind.
    const reap = () => child.kill("SIGKILL");
    process.once("exit", reap);
    this.ended = once(child, "exit").then(([code, signal]) => {
      process.off("exit", reap);
      return { code, signal };
    });
    child.stdout.setEncoding("utf8").on("data", (text) => (this.#printed += text));
    const listening = new Promise((resolve) => {
      createInterface({ input: child.stderr }).on("line", (line) => {
        this.#log.push(line);
        const bound = boundAddresses(line);
        if (bound) resolve(bound);
      });
    });
    const early = this.ended.then(({ code }) => {
      throw new Error(`${BINARY} ${args[0]} ended with ${code}:\n${this.#log.join("\n")}`);
    });
    // Once it listens, its end is what the tests ask for.
    early.catch(() => {});
    this.listening = await within("the server listens", Promise.race([listening, early]));
  }

  async #end(signal) {
    this.#process.kill(signal);
    const { code } = await within(`the server ends on ${signal}`, this.ended);
    if (signal === "SIGTERM" && code !== 0) {
      throw new Error(`exit code ${code} after SIGTERM:\n${this.#log.join("\n")}`);
    }
  }
}

/** The addresses of a `listening` line, in either log format. */
function boundAddresses(line) {
  if (line.startsWith("{")) {
    const event = JSON.parse(line);
    return event.message === "listening" ? event : null;
  }
  const match = /INFO listening addresses=(?<addresses>\S+) admin=(?<admin>\S+)/.exec(line);
  return match ? match.groups : null;
}
