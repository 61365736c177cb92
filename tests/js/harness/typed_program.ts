// Uses everything that `client.d.ts` names; only its types are checked.

import {
  OversizedPayloadError, SignallingClient, SignallingConnectError,
} from "../../../src/client/client.js";
import type { Gap, Position, Published, State } from "../../../src/client/client.js";

const client = new SignallingClient({
  tokenProvider: async () => "token",
  url: "wss://example.com",
  reconnect: { initialDelayMs: 1, multiplier: 2, maxDelayMs: 3, maxAttempts: 4 },
  autoResubscribe: true,
  atLeastOnce: false,
  publishTimeoutMs: 1,
  ackTimeoutMs: 1,
  connectTimeoutMs: 1,
  inactivityTimeoutMs: 0,
  tokenProviderTimeoutMs: 1,
  webSocketFactory: () => ({ send() {}, close() {}, addEventListener() {} }),
});
const state: State = client.state;
const peerId: string | null = client.peerId;
client.on("state", ({ state, message, code }) => `${state}${message}${code?.toFixed()}`);
client.on("message", ({ channel, from, data, seq, replayed }) =>
  [channel, from, data, seq, replayed]);
client.on("gap", ({ channel, reason, missed }: Gap) => [channel, reason, missed?.toFixed()]);
client.once("peer-joined", ({ channel, peerId, metadata }) => [channel, peerId, metadata]);
client.off("direct", ({ from }) => from);
// @ts-expect-error There is no such event.
client.on("nothing", () => {});
// @ts-expect-error A credential is needed in one form at least, as an object.
new SignallingClient();

export async function use(): Promise<unknown[]> {
  await client.connect({ retry: true });
  const since: Position | null = client.position("c");
  const { epoch, recovered, count } = await client.subscribe("c", { since: since ?? undefined });
  await client.subscribe("d", { last: 20, includeSenderMetadata: true });
  const published: Published = await client.publish("c", { any: [1] }, { atLeastOnce: true });
  await client.send("bob", null);
  await client.unsubscribe("c");
  await client.close(1000, "done");
  const errors = [OversizedPayloadError, SignallingConnectError].map((it) => it.name);
  return [state, peerId, epoch, recovered, count, published.seq, client.peers("c"), errors];
}
