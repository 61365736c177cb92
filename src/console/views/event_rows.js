// Events as rows of a table: time, kind, what happened, how often. A row opens to all fields.

import { pathOf } from "../api.js";
import { h, keyed, text } from "../dom.js";
import { bytes, clock, dateTime, duration, label, micros, whole, words } from "../format.js";
import { badge, button, copyButton, facts } from "../widgets.js";

/** Kinds that are kept long. */
export const ENDS =
  "refused,closed,kicked,slow,quota,rights,admin,certificate,link,accept,warning,node";
const WARNS = new Set(["slow", "held", "error", "quota", "link", "accept", "warning", "kicked"]);
const SHOWN_APART = new Set(["id", "text", "remedy", "kind", "time"]);
const SEARCHED = new Set(["connection", "address", "cause", "code"]);

/** How much it should be looked at. */
export function toneOf({ kind, by, code, cause }) {
  if (kind === "refused") return "bad";
  if (kind === "kicked" && cause === "peer_not_found") return "";
  if (kind === "closed") return by === "server" && code > 1001 ? "bad" : "";
  if (WARNS.has(kind)) return "warn";
  return kind === "opened" ? "good" : "";
}

/** `ringmesh events --cause X`, with any filters that the view has too. */
const COMMAND = /(ringmesh events(?: --(?:app|cause|channel|code|key|kind|peer) [\w.,-]*\w)+)/;

/** What helps, where a command of the command line leads to the same view here. */
export const remedyOf = (remedy) => remedy.split(COMMAND).map((part, at) => {
  if (at % 2 === 0) return part;
  const filters = Object.fromEntries([...part.matchAll(/--(\w+) (\S+)/g)]
    .map(([, name, value]) => [name, value]));
  return h("a", { class: "mono", href: `#/${pathOf("events", filters)}` }, part);
});

export const helps = ({ remedy }) =>
  remedy && h("p", { class: "remedy" }, h("strong", {}, "What helps: "), remedyOf(remedy));

function valueOf({ href }, event, name) {
  const { app, [name]: value } = event;
  const link = (view, params) => h("a", { href: href(view, params) }, String(value));
  if (name === "peer" || name === "to") return link("peers", { app, id: value });
  if (name === "channel") return link("channels", { app, name: value });
  if (name === "app" || name === "key") return link("apps", { app });
  if (SEARCHED.has(name)) return link("events", { [name]: value });
  if (/Bytes$|^bytes/.test(name)) return bytes(value);
  if (name.endsWith("Ms")) return duration(value);
  if (name.endsWith("Us")) return micros(value);
  if (name === "expiresAt") return dateTime(value);
  if (typeof value === "number") return whole(value);
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function detail(context, event) {
  const names = Object.keys(event).filter((it) => !SHOWN_APART.has(it));
  const { app, peer } = event;
  const link = (label, view, params) =>
    h("a", { class: "button small", href: context.href(view, params) }, label);
  return h("div", { class: "event-fields" }, helps(event),
    facts([["Time", dateTime(event.time)],
      ...names.map((name) => [label(name), valueOf(context, event, name)])]),
    h("div", { class: "actions" },
      peer && [link("About this peer", "peers", { app, id: peer }),
        link("Its events", "events", { app, peer })],
      copyButton(JSON.stringify(event, null, 2), "Copy as JSON")));
}

/** A table of events; `update(events)` shows them. */
export function eventTable(context, { caption }) {
  const open = new Set();
  const body = h("tbody", { role: "rowgroup" });
  const head = ["Time", "Kind", "What happened", "Times"].map((name, at) =>
    h("th", { scope: "col", role: "columnheader", class: at === 3 ? "num" : null }, name));
  const node = h("table", { role: "table", class: "openable events-list" },
    h("caption", { class: "unseen" }, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, head)), body);
  let shown = [];
  const toggle = (event) => {
    if (!open.delete(event.id)) open.add(event.id);
    draw();
  };
  const make = ({ event, more }) => (more ? h("tr", { role: "row", class: "opened" },
    h("td", { role: "cell", colspan: 4 }, detail(context, event))) : eventRow(event, toggle));
  const draw = () => {
    const items = shown.flatMap((event) => {
      const isOpen = open.has(event.id);
      const row = { event, isOpen, key: event.id };
      return isOpen ? [row, { event, more: true, key: `${event.id}+` }] : [row];
    });
    keyed(body, items, ({ key }) => key, make);
  };
  return {
    node,
    update(events) {
      shown = events;
      const there = new Set(events.map(({ id }) => id));
      for (const id of open) if (!there.has(id)) open.delete(id);
      draw();
    },
  };
}

function eventRow(event, toggle) {
  const what = button(event.text, () => toggle(event), { class: "link" });
  const times = h("td", { role: "cell", class: "num hint" });
  const row = h("tr", { role: "row", tabindex: -1 },
    h("td", { role: "cell", class: "tight hint" },
      h("time", { datetime: event.time, title: dateTime(event.time) }, clock(event.time))),
    h("td", { role: "cell", class: "tight" }, badge(words(event.kind), toneOf(event))),
    h("td", { role: "cell", class: "what" }, what), times);
  row.openRow = () => toggle(event);
  row.addEventListener("click", (click) => click.target.closest("a, button") || toggle(event));
  row.refresh = ({ event: { count }, isOpen }) => {
    what.setAttribute("aria-expanded", String(isOpen));
    text(times, count > 1 ? `×${whole(count)}` : "");
  };
  return row;
}
