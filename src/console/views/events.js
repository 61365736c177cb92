// What just happened to whom, and why: live, with filters that are the address.

import { pathOf } from "../api.js";
import { download, h, put, text } from "../dom.js";
import { ago, clock, plural, words } from "../format.js";
import {
  button, emptyNote, field, icon, input, live, pageHead, say, select,
} from "../widgets.js";
import { ENDS, eventTable } from "./event_rows.js";

const EVENTS_MAX = 500;
const DRAW_EVERY_MS = 150;
const FILTERS = [
  ["peer", "Peer"], ["channel", "Channel"], ["kind", "Kind"], ["cause", "Cause"], ["code", "Code"],
  ["address", "Address"], ["connection", "Connection"], ["key", "Key"], ["app", "App"],
  ["since", "Since"],
];
const PRESETS = [
  ["Everything", {}],
  ["Ends and changes", { kind: ENDS }],
  ["Refused", { kind: "refused" }],
  ["Closed by the server", { kind: "closed", cause: "-client_close,client_gone,reset" }],
  ["Errors", { kind: "error" }],
  ["Traced", { kind: "traced" }],
];

export function show(context, into) {
  const { api, signal, get, href } = context;
  const filters = Object.fromEntries(FILTERS.map(([name]) => [name, context.params[name]])
    .filter(([, value]) => value));
  const state = { events: [], waiting: [], paused: false, skipped: 0, open: false };
  const ids = new Set();
  const rows = eventTable(context, { caption: "Events, the newest first" });
  const bar = filterBar(filters, context);
  const place = live(context, rows.node,
    { ask: async () => {}, take() {}, complain: bar.complain });
  const status = h("span", { class: "hint" });
  const reach = h("p", { class: "hint" });
  const pause = button("Pause", () => togglePause(), { icon: "pause", "data-key": "pause" });
  const save = button("Export", () => exportAll(state.events), { title: "As lines of JSON" });
  into.append(pageHead("Events", status, pause, save), bar.node,
    h("section", { class: "card", "aria-label": "Events" }, place.node), reach);

  /** Adds an event in front, unless it is there already. */
  const take = (event) => {
    if (ids.has(event.id)) return;
    ids.add(event.id);
    state.events.unshift(event);
    if (state.events.length > EVENTS_MAX) ids.delete(state.events.pop().id);
  };
  let timer = 0;
  const draw = () => {
    timer = 0;
    rows.update(state.events);
    if (state.open) place.settle(state.events.length === 0, nothing(filters, href));
    text(reach, reachOf(state));
    const parts = [state.paused ? `paused, ${plural(state.waiting.length, "new one", "new ones")}`
      : state.open ? "live" : state.refused ? "refused" : "connecting"];
    if (state.skipped > 0) parts.push(`${plural(state.skipped, "event")} skipped`);
    text(status, parts.join(" · "));
  };
  const soon = () => {
    timer ||= setTimeout(draw, DRAW_EVERY_MS);
  };
  const togglePause = () => {
    state.paused = !state.paused;
    put(pause, icon(state.paused ? "play" : "pause"), state.paused ? "Go on" : "Pause");
    pause.setAttribute("aria-pressed", String(state.paused));
    if (!state.paused) state.waiting.splice(0).forEach(take);
    say(state.paused ? "Paused" : "Live again");
    draw();
  };
  api.follow(signal, pathOf("events", { ...filters, limit: 200 }), (kind, event) => {
    if (kind === "lost") state.skipped += event.lost;
    else if (!state.paused) take(event);
    else if (state.waiting.push(event) > EVENTS_MAX) state.waiting.shift();
    soon();
  }, (now) => {
    state.open = now === "open";
    state.refused = now.status === 400;
    if (!state.open) place.failed(now);
    soon();
  });
  signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
  get("events", { limit: 1 }).then(({ oldest }) => {
    state.oldest = oldest;
    soon();
  }, () => {});
}

/** How far back the events go, and whether the page has all of them. */
function reachOf({ oldest, events }) {
  const page = events.length >= EVENTS_MAX ? ` The page holds the newest ${EVENTS_MAX}.` : "";
  if (!oldest) return page;
  const { ends, routine } = oldest;
  if (!ends && !routine) return `Events are kept since the start of the server.${page}`;
  const of = (time) => (time ? `${clock(time)} (${ago(time)})` : "the start of the server");
  return `Ends and changes are kept since ${of(ends)}, routine since ${of(routine)}.${page}`;
}

function nothing(filters, href) {
  const names = Object.keys(filters);
  if (names.length === 0) {
    return emptyNote("Nothing has happened yet.", "It shows up here when it does.");
  }
  return emptyNote(`No event with this ${names.join(" and ")} so far.`,
    "New ones show up by themselves.",
    h("a", { class: "button small", href: href("events") }, "Show everything"));
}

function exportAll(events) {
  const lines = [...events].reverse().map((event) => `${JSON.stringify(event)}\n`);
  const stamp = new Date().toISOString().slice(0, 19).replaceAll(":", "");
  download(`events-${stamp}.ndjson`, "application/x-ndjson", lines.join(""));
}

/** The filters as chips, and a way to add one. Each is a part of the address. */
function filterBar(filters, { href, go }) {
  const chips = new Map(FILTERS.filter(([name]) => filters[name]).map(([name, label]) =>
    [name, h("span", { class: "chip" }, `${label}: ${shown(filters[name])}`,
      button("", () => go("events", { ...filters, [name]: null }),
        { icon: "close", "aria-label": `Remove the filter ${label}` }))]));
  const which = select(FILTERS, "peer", {});
  const value = input({ placeholder: "alice, room-*, 1013 …", "data-key": "search" });
  const typed = field("Value", value);
  /** Says of which filter the server complains, and offers it to be changed. */
  const complain = (words) => {
    const name = words?.split(":")[0];
    typed.complain(words);
    chips.forEach((chip, it) => chip.classList.toggle("bad", it === name));
    if (chips.has(name)) [which.value, value.value] = [name, filters[name]];
  };
  const add = (event) => {
    event.preventDefault();
    const wanted = value.value.trim();
    if (wanted) go("events", { ...filters, [which.value]: wanted });
  };
  const presets = PRESETS.map(([name, { kind, cause }]) => {
    const isThis = filters.kind === kind && filters.cause === cause;
    return h("a", { class: "button small", href: href("events", { ...filters, kind, cause }),
      "aria-current": isThis ? "true" : null }, name);
  });
  const node = h("search", { class: "toolbar" },
    h("form", { class: "toolbar", onsubmit: add }, field("Filter by", which), typed,
      h("button", {}, "Add")),
    h("div", { class: "tabs" }, presets),
    chips.size > 0 && h("div", { class: "chips" }, [...chips.values()]));
  return { node, complain };
}

const shown = (value) => (value === ENDS ? "ends and changes" : words(value).replaceAll(",", ", "));
