// A certificate for loopback, generated with the openssl program for one run.

import { execFile } from "node:child_process";
import { createHash, X509Certificate } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/**
 * Makes a key and a certificate in a new directory: `tls` is the section of a configuration,
 * `publicKeyHash` is what Chromium knows the key by, `remove` removes them.
 */
export async function makeCertificate() {
  const directory = await mkdtemp(join(tmpdir(), "ringmesh-certificate-"));
  const tls = { cert: join(directory, "cert.pem"), key: join(directory, "key.pem") };
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  const names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
  const files = ["-keyout", tls.key, "-out", tls.cert];
  await run("openssl", ["req", "-x509", "-days", "2", ...key, ...names, ...files]);
  const { publicKey } = new X509Certificate(await readFile(tls.cert));
  const der = publicKey.export({ type: "spki", format: "der" });
  const publicKeyHash = createHash("sha256").update(der).digest("base64");
  return { tls, publicKeyHash, remove: () => rm(directory, { recursive: true }) };
}
