// The real server over TLS: that of the JavaScript tests, with a certificate for its clients.

import { Server } from "../../js/harness/server.js";

/** Starts `ringmesh serve` with `certificate`; `wss` is its URL. Options are those of `Server`. */
export async function startTls(certificate, { sections = {}, ...options } = {}) {
  const all = { tls: certificate.tls, ...sections };
  const server = await Server.start({ ...options, sections: all });
  return Object.defineProperty(server, "wss", { get: () => `wss://${server.address}` });
}
