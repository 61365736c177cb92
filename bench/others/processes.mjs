// A server's processes: starting them, what they have used, and ending them.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { DEADLINE_MS } from "./wait.mjs";

const proc = (path) => readFileSync(`/proc/${path}`, "latin1");

const threads = (pid) => readdirSync(`/proc/${pid}/task`);

/** A process and its descendants. */
function tree(pid) {
  const children = threads(pid).flatMap((id) =>
    proc(`${pid}/task/${id}/children`).split(" ").filter(Boolean),
  );
  return [pid, ...children.flatMap(tree)];
}

/** Nanoseconds of CPU, user and system, of all threads: what `utime` and `stime` count in ticks. */
export const cpuNs = (pid) =>
  tree(pid)
    .flatMap((it) => threads(it).map((id) => proc(`${it}/task/${id}/schedstat`)))
    .reduce((sum, line) => sum + Number(line.split(" ")[0]), 0);

export const residentBytes = (pid) =>
  tree(pid)
    .map((it) => 1024 * Number(/VmRSS:\s+(\d+)/.exec(proc(`${it}/status`))[1]))
    .reduce((sum, bytes) => sum + bytes, 0);

async function freePort() {
  const listener = createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address();
  listener.close();
  await once(listener, "close");
  return port;
}

async function accepts(port) {
  const socket = connect(port, "127.0.0.1");
  return once(socket, "connect").then(() => true, () => false).finally(() => socket.destroy());
}

/** Starts a server, hands its pid and port to `use`, and ends it with all of its processes. */
export async function withServer(server, use) {
  const directory = mkdtempSync(join(tmpdir(), "ringmesh-compare-"));
  const port = await freePort();
  const child = spawn(server.binary, server.args(port, directory), {
    cwd: directory,
    env: { ...process.env, NODE_ENV: "production" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let log = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("latin1").on("data", (text) => (log = (log + text).slice(-4000)));
  }
  const ended = once(child, "exit");
  const end = () => {
    if (child.exitCode === null) {
      for (const pid of tree(child.pid)) process.kill(Number(pid), "SIGKILL");
    }
    rmSync(directory, { recursive: true, force: true });
  };
  process.once("exit", end);
  try {
    const began = performance.now();
    while (!(await accepts(port))) {
      if (child.exitCode !== null || performance.now() - began > DEADLINE_MS) {
        throw new Error(`${server.name} does not listen`);
      }
      await sleep(20);
    }
    return await use(child.pid, port);
  } catch (error) {
    throw new Error(`${server.name}: ${error.message}\n${log}`, { cause: error });
  } finally {
    process.off("exit", end);
    end();
    await ended;
  }
}
