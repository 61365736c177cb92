// A page that loads the client from the server, which the query names, as any site may. It keeps
// what the client tells; `window.app` is what the tests see of it.

const query = new URLSearchParams(location.search);
const { SignallingClient } = await import(`${query.get("server")}/v1/client.js`);
const sub = query.get("sub");
let tokens = 0;

/** Tokens live for an hour; the first one for as long as the query says. */
async function tokenProvider() {
  const life = tokens++ === 0 ? (query.get("life") ?? "") : "";
  return (await fetch(`/token?sub=${sub}&life=${life}`)).text();
}

const client = new SignallingClient({ tokenProvider, reconnect: { maxDelayMs: 500 } });
const heard = { state: [], message: [], gap: [], recovered: [], refreshed: [], connected: [] };
for (const [event, payloads] of Object.entries(heard)) {
  client.on(event, (payload) => payloads.push(payload));
}
window.app = { client, heard };
