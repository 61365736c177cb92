// One connection of the Console: what it may send, its frames, its channels, "copy as".

import { h, keyed, put, text } from "../dom.js";
import { bytes, duration, micros, plural, whole } from "../format.js";
import { badge, button, copyButton, field, icon, input, select } from "../widgets.js";

const DRAW_EVERY_MS = 60;
/** What can be sent, and the fields of each. */
const COMMANDS = {
  subscribe: ["channel"], publish: ["channel", "data"], send: ["to", "data"], ping: [],
  unsubscribe: ["channel"], raw: ["raw"],
};
const TONES = { connecting: "", open: "good", closed: "bad" };

/** The element of a connection. */
export function pane(wire, options) {
  const state = h("p", { class: "hint" });
  const name = h("h2", { id: `pane-${options.number}` });
  const roster = h("div", {});
  const list = h("ol", { class: "frames", tabindex: "0", "aria-label": "Frames" });
  const totals = h("span", { class: "hint" });
  const close = button("", options.close, { class: "quiet small", icon: "close",
    "aria-label": "Close this connection" });
  const hang = button("Disconnect", () => wire.end(), { class: "small" });
  const node = h("section", { class: "card", "aria-labelledby": name.id },
    h("header", { class: "card-head" }, name, h("div", { class: "actions" }, state, hang, close)),
    composer(wire, options), roster, list,
    h("footer", { class: "card-head" }, totals, copyAs(options, wire)));

  let timer = 0;
  let sticks = true;
  list.addEventListener("scroll", () => {
    sticks = list.scrollHeight - list.scrollTop - list.clientHeight < 24;
  });
  const draw = () => {
    timer = 0;
    keyed(list, wire.frames, ({ id }) => id, frameRow);
    if (sticks) list.scrollTop = list.scrollHeight;
    text(totals, `${whole(wire.counts.in)} in, ${whole(wire.counts.out)} out`);
  };
  wire.addEventListener("frame", () => (timer ||= setTimeout(draw, DRAW_EVERY_MS)));
  const showState = () => {
    text(name, wire.peerId ?? options.name);
    put(state, badge(wire.state, TONES[wire.state]));
    hang.disabled = wire.state === "closed";
    if (wire.close) {
      put(roster, h("p", { class: "remedy" }, h("strong", {}, `Closed ${wire.close.code}`),
        wire.close.reason ? ` ${wire.close.reason}` : "", `. ${wire.close.duty}`));
    }
  };
  wire.addEventListener("state", showState);
  wire.addEventListener("roster", () => put(roster, channelsOf(wire)));
  showState();
  draw();
  return node;
}

function channelsOf(wire) {
  return [...wire.channels].map(([channel, peers]) => h("p", { class: "hint" },
    h("strong", {}, channel), ` ${plural(peers.size, "other peer")}`,
    peers.size > 0 && `: ${[...peers].slice(0, 8).join(", ")}${peers.size > 8 ? " …" : ""}`));
}

const WAYS = { in: "↓", out: "↑", fact: "·" };
const WORDS = { in: "received", out: "sent", fact: "" };

function frameRow() {
  const [way, meta] = [h("span", { class: "way" }), h("span", { class: "meta" })];
  const content = button("", () => {
    row.classList.toggle("open");
    content.setAttribute("aria-expanded", String(row.classList.contains("open")));
    row.refresh(row.frame);
  }, { class: "body", "aria-expanded": "false" });
  const row = h("li", {}, way, content, meta);
  row.refresh = (frame) => {
    row.frame = frame;
    row.classList.add(frame.way);
    if (frame.tone) row.classList.add(frame.tone);
    put(way, h("span", { "aria-hidden": "true" }, WAYS[frame.way]),
      h("span", { class: "unseen" }, WORDS[frame.way]));
    text(content, row.classList.contains("open") ? pretty(frame.text) : frame.text);
    const acked = frame.ackMs !== undefined;
    const parts = [acked && `${frame.failed ? "refused" : "ack"} ${micros(frame.ackMs * 1_000)}`,
      frame.bytes !== null && bytes(frame.bytes), frame.gapMs > 0.5 && `+${duration(frame.gapMs)}`];
    text(meta, parts.filter(Boolean).join(" · "));
  };
  return row;
}

function pretty(content) {
  try {
    return JSON.stringify(JSON.parse(content), null, 2);
  } catch {
    return content;
  }
}

/** JSON where it is some, else a text. */
function valueOf(typed) {
  try {
    return JSON.parse(typed);
  } catch {
    return typed;
  }
}

/** What can be sent: one command at a time, or frames as they are. */
function composer(wire, options) {
  const kind = select(Object.keys(COMMANDS).map((it) => [it, it]), "subscribe", {});
  const channel = input({ value: options.channel ?? "room-42" });
  const to = input({ placeholder: "bob" });
  const data = input({ value: '{"hello":"world"}' });
  const raw = h("textarea", { rows: 3, spellcheck: "false", placeholder: '{"type":"ping"}' });
  const fields = {
    channel: field("Channel", channel), to: field("To", to), data: field("Data", data),
    raw: field("One frame a line", raw),
  };
  const shows = (name) => COMMANDS[kind.value].includes(name);
  const change = () => {
    for (const [name, place] of Object.entries(fields)) place.hidden = !shows(name);
  };
  kind.addEventListener("change", change);
  change();
  const submit = (event) => {
    event.preventDefault();
    if (kind.value === "raw") {
      return raw.value.split("\n").filter((it) => it.trim()).forEach((line) => wire.raw(line));
    }
    const command = { type: kind.value };
    if (shows("channel")) command.channel = channel.value;
    if (shows("to")) command.to = to.value;
    if (shows("data")) command.data = valueOf(data.value);
    wire.command(command);
  };
  const go = h("button", {}, icon("play"), "Send");
  options.last = () => ({ channel: channel.value, data: data.value, to: to.value });
  wire.addEventListener("state", () => (go.disabled = wire.state === "closed"));
  return h("form", { class: "form", onsubmit: submit },
    h("div", { class: "fields" }, field("Command", kind), Object.values(fields)),
    h("div", { class: "actions" }, go));
}

/** The same as a program: with the SDK, curl, or the command line. */
function copyAs(options, wire) {
  const of = () => options.last();
  const { url, key, name } = options;
  const credential = key ? `apiKey: "${key}"` : 'tokenProvider: async () => "…"';
  const sdk = () => {
    const channel = JSON.stringify(of().channel);
    return `import { SignallingClient } from "@metered-ca/realtime";\n
const client = new SignallingClient({ url: "${url}", ${credential} });
client.on("message", ({ from, data }) => console.log(from, data));
await client.connect();
await client.subscribe(${channel});
await client.publish(${channel}, ${JSON.stringify(valueOf(of().data))});\n`;
  };
  const curl = () => {
    const base = options.rest ?? url.replace(/^ws/, "http");
    return `curl ${base}/v1/channels/${encodeURIComponent(of().channel)}/publish \\
  -H "Authorization: Bearer sk_live_…" -H "Content-Type: application/json" \\
  -d ${quoted(JSON.stringify({ data: valueOf(of().data) }))}\n`;
  };
  const cli = () => {
    const who = key ? `--key ${key}` : `--as ${quoted(wire.peerId ?? name)}`;
    return `ringmesh pub ${quoted(of().channel)} ${quoted(of().data)} ${who} --url ${url}\n`;
  };
  return h("div", { class: "actions", role: "group", "aria-label": "Copy as" },
    h("span", { class: "hint" }, "Copy as"),
    copyButton(sdk, "SDK"), copyButton(curl, "curl"), copyButton(cli, "CLI"));
}

const quoted = (word) =>
  (/^[\w./:-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
