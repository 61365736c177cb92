// `ringmesh dev` as a stranger starts it, on free ports and with its store in a new directory.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { BINARY } from "../../js/harness/server.js";

/** Starts it; `demo` is the URL that it prints, `stop` ends it with a signal and resolves. */
export async function startDev(t) {
  const directory = await mkdtemp(join(tmpdir(), "ringmesh-dev-"));
  const free = "127.0.0.1:0";
  const args = ["dev", "--listen", free, "--admin", free, "--data-dir", directory];
  const child = spawn(BINARY, args, { stdio: ["ignore", "pipe", "ignore"] });
  const ended = once(child, "exit");
  t.after(async () => {
    child.kill("SIGKILL");
    await ended;
    await rm(directory, { recursive: true });
  });
  let printed = "";
  for await (const text of child.stdout) {
    printed += text;
    const demo = /^ +demo +(http:\S+)$/m.exec(printed);
    if (demo) return { demo: demo[1] };
  }
  throw new Error(`ringmesh dev ended: ${printed}`);
}
