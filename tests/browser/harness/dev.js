// `ringmesh dev` as a stranger starts it, on free ports and with its store in a new directory.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { BINARY } from "../../js/harness/server.js";

/**
 * Starts it, with `env` besides the environment; it ends with the test. Of what it prints come
 * `demo`, `url` for clients, the publishable `key` and the API `secret`; `admin` is the URL of the
 * admin listener, `token` what it asks for, `pid` its process.
 */
export async function startDev(t, { env = {} } = {}) {
  const directory = await mkdtemp(join(tmpdir(), "ringmesh-dev-"));
  const free = "127.0.0.1:0";
  const args = ["dev", "--listen", free, "--admin", free, "--data-dir", directory];
  const stdio = ["ignore", "pipe", "ignore"];
  const child = spawn(BINARY, args, { stdio, env: { ...process.env, ...env } });
  const ended = once(child, "exit");
  t.after(async () => {
    child.kill("SIGKILL");
    await ended;
    await rm(directory, { recursive: true });
  });
  let printed = "";
  const value = (name) => new RegExp(`^ +${name} +(\\S+)$`, "m").exec(printed)?.[1];
  for await (const text of child.stdout) {
    printed += text;
    const names = ["demo", "clients", "publishable key", "API secret"];
    const [demo, url, key, secret] = names.map(value);
    if (demo && url && key && secret) {
      const token = (await readFile(join(directory, "admin.token"), "utf8")).trim();
      const admin = new URL("/", demo).href;
      return { demo, url, key, secret, admin, token, pid: child.pid };
    }
  }
  throw new Error(`ringmesh dev ended: ${printed}`);
}
