// What views are put together from: tables, dialogs, fields, states of a list.

import { append, h, keyed, put, svg, text } from "./dom.js";
import { NONE } from "./format.js";

const LOADING_AFTER_MS = 200;
const POLITE_EVERY_MS = 5_000;
/** Characters of a text in one line: more than are seen. */
const CUT_MAX = 200;

/** Paths of the icons, on a field of 20 by 20. */
const ICONS = {
  overview: "M3 11l4-5 3 7 3-9 4 7",
  apps: "M12.5 3a4.5 4.5 0 1 1-4 6.6L3 15v2h3v-2h2v-2l1.6-1.6M14 6.5h.01",
  channels: "M4 7.5h12M3.5 12.5h12M8.5 3.5l-2 13M13.5 3.5l-2 13",
  peers: "M10 9.5a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM4 17c.5-3.5 3-5 6-5s5.5 1.5 6 5",
  events: "M3.5 5h.01M7 5h10M3.5 10h.01M7 10h10M3.5 15h.01M7 15h6",
  console: "M3.5 4.5h13v11h-13zM6.5 8l2.5 2-2.5 2M11 12.5h3",
  token: "M4 10.5l4 4 8-9",
  node: "M3.5 4h13v5h-13zM3.5 11h13v5h-13zM6.5 6.5h.01M6.5 13.5h.01",
  more: "M4.5 10h.01M10 10h.01M15.5 10h.01",
  light: "M10 6.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7zM10 2v1.5M10 16.5V18" +
    "M2 10h1.5M16.5 10H18M4.5 4.5l1 1M14.5 14.5l1 1M4.5 15.5l1-1M14.5 5.5l1-1",
  out: "M8 3.5H3.5v13H8M8.5 10H17M13.5 6.5L17 10l-3.5 3.5",
  warn: "M10 3L2.5 16.5h15zM10 8.5v3.5M10 14.3h.01",
  close: "M5 5l10 10M15 5L5 15",
  copy: "M7 7h9v9H7zM4 13V4h9",
  search: "M9 14A5 5 0 1 0 9 4a5 5 0 0 0 0 10zM12.8 12.8L17 17",
  pause: "M7 5v10M13 5v10",
  play: "M6.5 4.5l9 5.5-9 5.5z",
};

export const icon = (name) =>
  svg("svg", { class: "icon", viewBox: "0 0 20 20", "aria-hidden": "true" },
    svg("path", { d: ICONS[name] }));

/** The sign of the product. */
export const mark = (size) => h("img",
  { src: new URL("icon.svg", import.meta.url).pathname, alt: "", width: size, height: size });

export function button(label, act, props = {}) {
  const { icon: name, ...others } = props;
  return h("button", { type: "button", onclick: act, ...others }, name && icon(name), label);
}

/** Tells those who listen instead of looking, at most once in five seconds. */
let spokenAt = 0;
let unspoken = 0;
export function say(words) {
  clearTimeout(unspoken);
  unspoken = setTimeout(() => {
    spokenAt = Date.now();
    text(document.getElementById("polite"), words);
  }, Math.max(0, spokenAt + POLITE_EVERY_MS - Date.now()));
}

/** Copies a text, and says so on the button. */
export function copyButton(content, label = "Copy") {
  const shown = h("span", {}, label);
  const act = async () => {
    const value = typeof content === "function" ? content() : content;
    const done = await navigator.clipboard.writeText(value).then(() => true, () => false);
    text(shown, done ? "Copied" : "Not allowed here");
    say(done ? "Copied" : "The browser does not let this page copy");
    setTimeout(() => text(shown, label), 1_500);
  };
  return h("button", { type: "button", class: "small", onclick: act }, icon("copy"), shown);
}

/** Code that one may copy. */
export const snippet = (content, label) =>
  h("div", { class: "snippet" },
    h("pre", { tabindex: "0", "aria-label": label ?? "Code" }, content), copyButton(content));

/** A part of a view with a title. */
export function section(title, props, ...children) {
  const { aside, ...others } = props ?? {};
  const id = `s-${title.toLowerCase().replace(/[^a-z]+/g, "-")}`;
  return h("section", { "aria-labelledby": id, ...others, class: `card ${others.class ?? ""}` },
    h("header", { class: "card-head" }, h("h2", { id }, title), aside), children);
}

/** The head of a view. */
export const pageHead = (title, ...actions) =>
  h("header", { class: "page-head" }, h("h1", { tabindex: "-1" }, title),
    h("div", { class: "actions" }, actions));

/** Names and values; `rows` are `[name, value]`, and those without a value are left out. */
export function facts(rows) {
  const there = rows.filter((row) => row && row[1] !== undefined && row[1] !== null);
  return h("dl", { class: "facts" }, there.map(([name, value]) =>
    h("div", {}, h("dt", {}, name), append(h("dd", {}), [value]))));
}

let fields = 0;

/** The place below an input for what is wrong with it, and what says it there; null is nothing. */
function faultOf(input) {
  input.id ||= `f-${++fields}`;
  const fault = h("p", { class: "fault", id: `${input.id}-fault`, role: "alert", hidden: true });
  const complain = (words) => {
    fault.hidden = !words;
    text(fault, words ?? "");
    if (words) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  };
  return { fault, complain };
}

/** A labelled field. `input` is the element that is labelled; `complain` says what is wrong. */
export function field(name, input, hint) {
  const { fault, complain } = faultOf(input);
  const about = hint && h("p", { class: "hint", id: `${input.id}-hint` }, hint);
  const described = [fault, about].filter(Boolean).map((it) => it.id);
  input.setAttribute("aria-describedby", described.join(" "));
  const whole = h("div", { class: "field" },
    h("label", { for: input.id }, name), input, about, fault);
  return Object.assign(whole, { complain });
}

export const input = (props) =>
  h("input", { type: "text", autocomplete: "off", spellcheck: "false", ...props });

/** A choice; `options` are `[value, label]`. */
export const select = (options, value, props) =>
  h("select", props, options.map(([it, label]) =>
    h("option", { value: it, selected: it === value }, label)));

export function checkbox(label, props) {
  return h("label", { class: "check" }, h("input", { type: "checkbox", ...props }), label);
}

/**
 * A field for what is searched; `act` gets what was typed when it has settled. Its `complain`
 * says what is wrong with it, as that of a field does.
 */
export function searchField(label, placeholder, value, act) {
  const search = input({ type: "search", value: value ?? "", placeholder, "aria-label": label,
    "data-key": "search" });
  search.addEventListener("input", settled(() => act(search.value.trim())));
  const { fault, complain } = faultOf(search);
  const whole = h("div", { class: "search" },
    h("div", { class: "search-box" }, icon("search"), search), fault);
  search.setAttribute("aria-describedby", fault.id);
  return Object.assign(whole, { complain });
}

/** Waits until nothing was typed for a moment. */
export function settled(act, ms = 250) {
  let timer = 0;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => act(...args), ms);
  };
}

/**
 * A dialog of the browser's own, which keeps the focus inside and returns it. `actions` are
 * elements; the one of class `cancel` closes. What was in it is gone when it closes.
 */
export function dialog(title, body, actions, { wide = false, onclose } = {}) {
  const close = () => box.close();
  const head = h("header", { class: "dialog-head" },
    h("h2", { id: "dialog-title" }, title),
    h("button", { type: "button", class: "quiet", "aria-label": "Close", onclick: close },
      icon("close")));
  const box = h("dialog", { "aria-labelledby": "dialog-title", class: wide ? "wide" : null },
    head, h("div", { class: "dialog-body" }, body), h("footer", {}, actions));
  const back = document.activeElement;
  box.addEventListener("close", () => {
    box.remove();
    onclose?.();
    if (back?.isConnected) back.focus();
  });
  document.body.append(box);
  box.showModal();
  return box;
}

/** A form in a dialog. `submit` is done when it resolves; what it throws is shown. */
export function formDialog(title, body, { action, submit, danger = false, failed, wide }) {
  const fault = h("p", { class: "fault", role: "alert", hidden: true });
  const go = h("button", { class: danger ? "danger" : "primary" }, action);
  const form = h("form", { novalidate: true }, body, fault);
  form.id = "dialog-form";
  go.setAttribute("form", form.id);
  const box = dialog(title, form, [
    h("button", { type: "button", onclick: () => box.close() }, "Cancel"), go,
  ], { wide });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    go.disabled = true;
    fault.hidden = true;
    try {
      await submit();
      box.close();
    } catch (error) {
      if (!failed?.(error)) {
        fault.hidden = false;
        text(fault, error.message);
      }
    } finally {
      go.disabled = false;
    }
  });
  return { box, go };
}

/** Says in words what will happen, and does it only when that was chosen. */
export const ask = (title, words, action, submit) =>
  formDialog(title, [words].flat().map((it) => h("p", {}, it)), { action, submit, danger: true });

/**
 * A table whose rows are kept by their keys. A column is `{label, cell(item), num, wide, sort}`;
 * on narrow screens a row is a card. `open(item)` makes rows something to choose.
 */
export function table({ caption, columns, keyOf, open, rowClass, compact }) {
  const heads = columns.map((it) =>
    h("th", { scope: "col", role: "columnheader", class: it.num ? "num" : it.class }, it.label));
  const body = h("tbody", { role: "rowgroup" });
  const node = h("table", { role: "table",
    class: `${open ? "openable" : ""} ${compact ? "compact" : ""}` },
    h("caption", { class: "unseen" }, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads)), body);
  const makeRow = () => {
    const cells = columns.map((it) => h("td", {
      role: "cell", class: [it.num && "num", it.class].filter(Boolean).join(" ") || null,
      data: { label: it.label },
    }));
    const row = h("tr", { role: "row" }, cells);
    let current = null;
    row.refresh = (item) => {
      current = item;
      if (rowClass) row.className = rowClass(item) ?? "";
      columns.forEach((column, at) => fillCell(cells[at], column.cell(item)));
    };
    if (open) {
      row.tabIndex = -1;
      row.openRow = () => open(current, row);
      row.addEventListener("click", (event) => {
        if (!event.target.closest("a, button, input")) open(current, row);
      });
    }
    return row;
  };
  return { node, body, update: (items) => keyed(body, items, keyOf, makeRow) };
}

function fillCell(cell, content) {
  if (content instanceof Node || Array.isArray(content)) put(cell, content);
  else text(cell, content ?? NONE);
}

/**
 * A place that is asked for again and again, and its states: loading (after a moment), empty,
 * failed, there. `ask()` resolves with an answer; `take(answer)` shows it in `content` and
 * returns true where there is nothing to show; `empty(answer)` is what is said then.
 * `complain(words)` shows at a field why the server refuses what was typed there, and null that it
 * does not. `again()` asks at once. Without `every` it is asked only then.
 */
export function live({ api, signal }, content, options) {
  const { every, ask, take, empty = () => [], complain } = options;
  const note = h("div", { class: "note", hidden: true });
  const node = h("div", { class: "list-place", "aria-busy": "true" }, note, content);
  let timer = 0;
  const settle = (isEmpty, said) => {
    clearTimeout(timer);
    node.setAttribute("aria-busy", "false");
    node.classList.remove("stale");
    content.hidden = isEmpty;
    note.hidden = !isEmpty;
    if (isEmpty) put(note, said);
  };
  const loading = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      node.setAttribute("aria-busy", "true");
      node.classList.add("stale");
      if (node.untouched) note.hidden = false;
      if (node.untouched) put(note, h("p", {}, "Loading …"));
    }, LOADING_AFTER_MS);
  };
  node.untouched = true;
  const got = (answer) => {
    node.untouched = false;
    complain?.(null);
    settle(Boolean(take(answer)), empty(answer));
  };
  const failed = (error) => {
    if (error.status === 404) return settle(true, empty(null));
    if (error.status === 400) {
      complain?.(error.message);
      return settle(true, emptyNote(complain ? "This filter is refused." : error.message,
        "It is asked again when it is changed."));
    }
    // What was there stays, greyed, while the server is away.
    if (error.status === 0 && !node.untouched) {
      clearTimeout(timer);
      return node.classList.add("stale");
    }
    settle(true, [h("p", { class: "strong" }, error.message),
      h("p", { class: "hint" }, error.status === 429 ? "Others are asking as well." : null,
        " It is asked again by itself."),
      button("Try again", () => again(), { class: "small" })]);
  };
  loading();
  const run = every && api.poll(signal, every, ask, got, failed);
  const again = async () => {
    loading();
    if (run) return run();
    await ask().then(got, (error) => signal.aborted || failed(error));
  };
  return { node, again, settle, failed };
}

/**
 * What stands below a list: words, and links to its first and its next page; `at(after)` is the
 * address of a page. It is made anew only where it is another one, so that it keeps the focus.
 */
export function listFoot(at) {
  const node = h("div", { class: "actions hint" });
  const link = (label, after) => h("a", { class: "button small", href: at(after) }, label);
  let shown = null;
  return {
    node,
    update(words, { after, next } = {}) {
      const now = JSON.stringify([words, after, next, at(next)]);
      if (now === shown) return;
      shown = now;
      put(node, words && h("span", {}, words), after && link("First page", null),
        next && link("Next page", next));
    },
  };
}

/** A text in one line, cut where it is long. */
export const cut = (content) => h("span", { class: "cut" },
  content.length > CUT_MAX ? `${content.slice(0, CUT_MAX)}…` : content);

/** What is said where a list is empty. */
export const emptyNote = (title, ...more) => [
  h("p", { class: "strong" }, title), more.map((it) => (it instanceof Node ? it : h("p", {}, it))),
];

/** A short coloured word. Its colour says no more than the word does. */
export const badge = (words, tone = "") => h("span", { class: `badge ${tone}` }, words);

/** A share of something, as a bar with its value as text. */
export function bar(share, label, tone = "") {
  const width = `${Math.min(100, Math.max(0, share * 100)).toFixed(1)}%`;
  return h("div", { class: `bar ${tone}` },
    h("span", { class: "bar-track" }, h("i", { css: { width } })), h("span", {}, label));
}

/** What is used of what is allowed; without a limit only what is used. */
export function useOf(used, allowed, show) {
  if (!allowed) return show(used);
  const share = used / allowed;
  const tone = share >= 1 ? "bad" : share >= 0.8 ? "warn" : "";
  return bar(share, `${show(used)} of ${show(allowed)}`, tone);
}

/** Says for a moment that something was done. */
export function toast(words) {
  const shown = h("p", { class: "toast" }, words);
  document.body.append(shown);
  say(words);
  setTimeout(() => shown.remove(), 4_000);
}
