// Is this token good, for what, and why not? By the very code that judges connects.

import { h, put } from "../dom.js";
import { ago, dateTime, words } from "../format.js";
import {
  badge, emptyNote, facts, field, input, live, pageHead, section, select, settled,
} from "../widgets.js";

const ACTIONS = [["", "any action"], ...["publish", "subscribe", "presence", "send"]
  .map((it) => [it, it])];

export function show(context, into) {
  const { api, signal } = context;
  const token = h("textarea", { rows: 5, spellcheck: "false", autocomplete: "off",
    placeholder: "eyJhbGciOiJIUzI1NiIs…", "data-key": "search" });
  const channel = input({ placeholder: "shop/1" });
  const action = select(ACTIONS, "", {});
  const shown = h("div", { class: "view" });
  const nothing = emptyNote("Paste a token to see what it is good for.",
    "The server looks at it, and keeps nothing of it.");
  let asked = 0;
  const look = async () => {
    const body = { token: token.value.trim() };
    if (channel.value.trim()) body.channel = channel.value.trim();
    if (action.value) body.action = action.value;
    const own = ++asked;
    if (!body.token) return null;
    const answer = await api.request("POST", "tokens/inspect", { body, signal });
    return own === asked && { answer, body };
  };
  const place = live(context, shown, {
    ask: look,
    take(found) {
      if (found === null) return true;
      if (!found) return false;
      put(shown, verdict(found.answer, found.body), rights(found.answer, context.href),
        claims(found.answer));
      return false;
    },
    empty: () => nothing,
  });
  const soon = settled(() => place.again());
  for (const it of [token, channel, action]) it.addEventListener("input", soon);
  into.append(pageHead("Token"),
    h("form", { class: "card", onsubmit: (event) => event.preventDefault() },
      field("Token", token, "A connect token (JWT), or a credential that you are not sure about."),
      h("div", { class: "fields" }, field("May it do this", action),
        field("to this channel", channel))),
    place.node);
  place.again();
}

function verdict(answer, asked) {
  const good = answer.verdict === "good";
  const ticks = answer.checks.map(({ ok, text }) => h("li", {},
    badge(ok ? "ok" : "no", ok ? "good" : "bad"), h("span", {}, text)));
  const what = `${asked.action ?? "do anything"}${asked.channel ? ` to ${asked.channel}` : ""}`;
  const { may } = answer;
  return section("Verdict", {},
    h("p", { class: "verdict" },
      badge(good ? "good" : words(answer.cause ?? "refused"), good ? "good" : "bad"),
      h("span", {}, answer.text)),
    may !== undefined && h("p", {}, badge(may ? "yes" : "no", may ? "good" : "bad"),
      ` It may ${may ? "" : "not "}${what}.`),
    h("ul", { class: "ticks" }, ticks));
}

function rights({ effective, key, claims: told }, href) {
  if (!effective && !key) return null;
  const chips = (all) => h("div", { class: "chips" }, all.map((it) => badge(it, "accent")));
  const link = (view, params, label) => h("a", { href: href(view, params) }, label);
  return section("Who, and what it may", {}, facts([
    ["Peer", told?.sub && (key ? link("peers", { app: key.appId, id: told.sub }, told.sub)
      : told.sub)],
    ["App", key && link("apps", { app: key.appId }, key.appId)],
    ["Key", key && (key.name ? `${key.name} (${key.keyId})` : key.keyId)],
    ["Expires", effective && `${ago(effective.expiresAt)}, ${dateTime(effective.expiresAt)}`],
    ["Channels", effective && chips(effective.channels)],
    ["Actions", effective && chips(effective.actions)],
  ]));
}

function claims({ header, claims: told }) {
  if (!header && !told) return null;
  const part = (title, value) => section(title, {}, h("pre", { tabindex: "0", role: "region",
    "aria-label": title }, value === null ? "not JSON" : JSON.stringify(value, null, 2)));
  return h("div", { class: "columns" }, part("Header", header), part("Claims", told));
}
