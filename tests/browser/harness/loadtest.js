// The load harness of this repository, as a program.

import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";

import { BINARY } from "../../js/harness/server.js";

const LOADTEST = join(dirname(BINARY), "ringmesh-loadtest");
const run = promisify(execFile);

/**
 * Runs a scenario, TOML, against a server of `startDev`; returns the path of its HTML report.
 * Throws what the harness says unless it ends well. The report goes when the test is over.
 */
export async function loadReport(t, server, scenario) {
  const directory = await mkdtemp(join(tmpdir(), "ringmesh-report-"));
  t.after(() => rm(directory, { recursive: true }));
  const [file, report] = ["scenario.toml", "report.html"].map((name) => join(directory, name));
  await writeFile(file, scenario);
  const to = ["--url", server.url, "--key", server.key, "--server-pid", String(server.pid)];
  await run(LOADTEST, [...to, "--quiet", "--scenario", file, "--report", report]);
  return report;
}
