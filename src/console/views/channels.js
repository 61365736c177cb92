// Channels of an app, and one of them: who is in it, how much goes through, where it lives.

import { h, put } from "../dom.js";
import { count, plural, rate, whole } from "../format.js";
import {
  cut, emptyNote, facts, field, icon, listFoot, live, pageHead, searchField, section, select, table,
} from "../widgets.js";
import { appPicker, ofApp, patternOf, withApp } from "../where.js";
import { eventTable } from "./event_rows.js";

const PAGE = 50;
const SORTS = [["name", "By name"], ["connections", "Most connections"], ["rate", "Most messages"]];

export function show(context, into) {
  withApp(context, into, "Channels", (apps, appId) => {
    if (context.params.name) showOne(context, into, appId, context.params.name);
    else showList(context, into, apps, appId);
  });
}

function showList(context, into, apps, appId) {
  const { get, params, href, replace, go } = context;
  const asked = { app: appId, q: params.q, sort: params.sort ?? "name", after: params.after };
  const rows = table({
    caption: "Channels",
    keyOf: ({ channel }) => channel,
    open: ({ channel }) => go("channels", { app: appId, name: channel }),
    columns: [
      { label: "Channel", class: "title", cell: ({ channel }) =>
        h("a", { href: href("channels", { app: appId, name: channel }) }, channel) },
      { label: "Peers", num: true, cell: ({ peers }) => count(peers) },
      { label: "Connections", num: true, cell: ({ connections }) => count(connections) },
      { label: "Messages/s", num: true, cell: (it) => rate(it.rate) },
    ],
  });
  const search = searchField("Search channels", "name, or a pattern: shop/*", asked.q,
    (q) => change({ q }));
  const address = () => ({ ...asked, sort: asked.sort === "name" ? null : asked.sort });
  const foot = listFoot((after) => href("channels", { ...address(), after }));
  const place = live(context, rows.node, {
    every: 5_000,
    ask: () => get(ofApp(appId, "/channels"), {
      match: patternOf(asked.q), sort: asked.sort, limit: PAGE, after: asked.after,
    }),
    take(answer) {
      rows.update(answer.channels);
      foot.update(footOf(asked, answer), { after: asked.after, next: answer.next });
      return answer.channels.length === 0;
    },
    complain: search.complain,
    empty: () => (asked.q ? emptyNote(`Nothing matches ${patternOf(asked.q)}.`)
      : emptyNote("No channel has anybody in it.",
        "A channel is there while somebody is subscribed to it.")),
  });
  const change = (changes) => {
    Object.assign(asked, { after: null }, changes);
    replace(address());
    place.again();
  };
  const sort = select(SORTS, asked.sort, { onchange: () => change({ sort: sort.value }) });
  into.append(pageHead("Channels"),
    h("search", { class: "toolbar" },
      search, field("Order", sort), appPicker(apps, appId, (app) => go("channels", { app }))),
    h("section", { class: "card", "aria-label": "Channels" }, place.node, foot.node));
}

/** What a page of the list is of all channels. */
function footOf({ q, sort, after }, { channels: { length }, next, complete }) {
  const part = complete === false ? " Only a part of the channels was looked at in time." : "";
  if (after) return `${plural(length, "channel")} of a further page.${part}`;
  const isTop = sort !== "name" && length >= PAGE;
  if (next || isTop) return `The first ${whole(length)}; narrow the pattern to see others.${part}`;
  if (part) return `${plural(length, "channel")}.${part}`;
  return q ? `${whole(length)} of the channels; all were looked at.`
    : `${plural(length, "channel")}, and no others.`;
}

// --- one ----------------------------------------------------------------------------------------

function showOne(context, into, appId, name) {
  const { get, href } = context;
  const body = h("div", {});
  const now = live(context, body, {
    every: 2_000,
    ask: () => get(ofApp(appId, "/channel"), { name }),
    take: (channel) => void put(body, factsOf(channel)),
    empty: () => emptyNote("Nobody is in this channel.", "It is there while somebody is in it."),
  });
  const all = { app: appId };
  into.append(h("a", { class: "crumb", href: href("channels", all), "data-key": "back" },
    "← All channels"),
  pageHead(name, h("a", { class: "button", href: href("console", { ...all, channel: name }) },
    icon("console"), "Open in Console")),
  section("Now", {}, now.node), members(context, appId, name),
  recent(context, { ...all, channel: name }));
}

function factsOf({ peers, connections, published, owner, homes, joining, ...channel }) {
  const places = (homes ?? []).map((it) => `shard ${it.shard}: ${count(it.connections)}`);
  return facts([
    ["Peers", whole(peers)],
    ["Connections", whole(connections)],
    ["Messages a second", rate(channel.rate)],
    ["Published in all", published === undefined ? null : whole(published)],
    ["Joining now", joining || null],
    ["Owner", owner === undefined ? null : `shard ${owner}`],
    ["Connections live on", places.join(", ") || null],
  ]);
}

function members(context, appId, name) {
  const { get, href, params, replace } = context;
  const asked = { app: appId, name, q: params.q, after: params.after };
  const rows = table({
    caption: "Members",
    keyOf: ({ peerId }) => peerId,
    columns: [
      { label: "Peer", class: "title", cell: ({ peerId }) =>
        h("a", { href: href("peers", { app: appId, id: peerId }) }, peerId) },
      { label: "Connections", num: true, cell: ({ connections }) => whole(connections) },
      { label: "Metadata", class: "mono", cell: ({ metadata }) =>
        (metadata === undefined ? "" : cut(JSON.stringify(metadata))) },
    ],
  });
  const foot = listFoot((after) => href("channels", { ...asked, after }));
  const change = (changes) => {
    Object.assign(asked, { after: null }, changes);
    replace(asked);
    place.again();
  };
  const search = searchField("Search members", "peer id", asked.q, (q) => change({ q }));
  const place = live(context, rows.node, {
    every: 5_000,
    ask: () => get(ofApp(appId, "/channel/members"),
      { name, match: patternOf(asked.q), limit: PAGE, after: asked.after }),
    take(answer) {
      rows.update(answer.members);
      const { after } = asked;
      const isFirst = answer.next && !after;
      foot.update(isFirst && `The first ${PAGE}; narrow the search to see others.`,
        { after, next: answer.next });
      return answer.members.length === 0;
    },
    complain: search.complain,
    empty: () => emptyNote(asked.q ? `No member matches ${patternOf(asked.q)}.` : "No members."),
  });
  return section("Members", { aside: search }, place.node, foot.node);
}

/** The newest events about something. */
export function recent(context, about, title = "Events", limit = 20,
  none = "Nothing within the last minutes.") {
  const rows = eventTable(context, { caption: title });
  const place = live(context, rows.node, {
    every: 3_000,
    ask: () => context.get("events", { ...about, limit }),
    take({ events }) {
      rows.update([...events].reverse());
      return events.length === 0;
    },
    empty: () => emptyNote(none),
  });
  const all = h("a", { class: "hint", href: context.href("events", about) }, "Follow live");
  return section(title, { aside: all }, place.node);
}
