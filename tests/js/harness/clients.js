// Published clients on Node's `ws`, closed when the test that made them is over.

import { MeteredPeer, SignallingClient } from "@metered-ca/realtime";
import jwt from "jsonwebtoken";
import WebSocket from "ws";

import { SECRET_KEY_ID, SIGNING_SECRET } from "./server.js";

/** A connect token, signed as the product's documentation shows it. */
export function token(sub, { lifeSec = 3600, ...claims } = {}) {
  const exp = Math.floor(Date.now() / 1000) + lifeSec;
  return jwt.sign({ sub, exp, ...claims }, SIGNING_SECRET, {
    algorithm: "HS256",
    header: { alg: "HS256", kid: SECRET_KEY_ID },
  });
}

/** A `SignallingClient` of `server`. `options` are its own; `sockets` collects what it opens. */
export function signallingClient(t, server, options) {
  const sockets = [];
  const client = new SignallingClient({
    url: server.url,
    webSocketFactory: (url) => {
      const socket = new WebSocket(url);
      sockets.push(socket);
      return socket;
    },
    ...options,
  });
  t.after(() => client.close());
  return Object.assign(client, { sockets });
}

/** A connected `SignallingClient` with a token for the peer `sub`. */
export async function connectedAs(t, server, sub, claims) {
  const tokenProvider = async () => token(sub, claims);
  const client = signallingClient(t, server, { tokenProvider });
  await client.connect();
  return client;
}

/**
 * A `MeteredPeer` of `server`. It never negotiates WebRTC here, which Node does not have: its
 * connections stay as new as they were made.
 *
 * By default `ws` dispatches all frames of one read without letting promises run in between.
 * A test process that was kept waiting for a core may read an ack and the roster behind it
 * together, however far apart the server wrote them; the client then loses the roster. Where
 * that is not the point of the test, `ws` is told to dispatch frame by frame.
 */
export function meteredPeer(t, server, options, socketOptions) {
  const peer = new MeteredPeer({
    url: server.url,
    webSocketFactory: (url) =>
      new WebSocket(url, { allowSynchronousEvents: false, ...socketOptions }),
    rtcPeerConnectionFactory: () => new DormantConnection(),
    ...options,
  });
  t.after(() => peer.close());
  return peer;
}

/** A `MeteredPeer` with tokens for `sub`, in `channel`. */
export async function joinedAs(t, server, sub, channel, claims) {
  const peer = meteredPeer(t, server, { tokenProvider: async () => token(sub, claims) });
  await peer.join(channel, { includeSenderMetadata: true });
  return peer;
}

class DormantConnection extends EventTarget {
  connectionState = "new";
  signalingState = "stable";
  iceConnectionState = "new";
  localDescription = null;
  remoteDescription = null;
  close() {}
}
