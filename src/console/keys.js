// The keys of the console: `/`, `g` and a letter, `j` `k` `Enter`, `p`, `?`, `Esc`.

import { h } from "./dom.js";
import { dialog } from "./widgets.js";

const LETTER_WAIT_MS = 1_500;

const isTyping = (target) => target.closest?.("input, textarea, select, [contenteditable]");

/** Listens; `views` are those of the shell, `go` leads to one. */
export function keyboard({ views, go }) {
  let waitsUntil = 0;
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (isTyping(event.target)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (document.querySelector("dialog[open]")) return;
    if (Date.now() < waitsUntil) {
      waitsUntil = 0;
      const view = views.find(([, , , letter]) => letter === event.key);
      if (view && document.querySelector("nav.side")) go(view[0]);
      return;
    }
    if (event.key === "g") waitsUntil = Date.now() + LETTER_WAIT_MS;
    else if (act(event, views)) event.preventDefault();
  });
}

function act(event, views) {
  switch (event.key) {
    case "/":
      return focusSearch();
    case "?":
      return showKeys(views);
    case "j":
      return moveRow(1);
    case "k":
      return moveRow(-1);
    case "Enter": {
      const row = event.target.closest?.("tr");
      if (event.target !== row) return false;
      row?.openRow?.();
      return true;
    }
    case "p":
      document.querySelector("[data-key=pause]")?.click();
      return true;
    case "Escape":
      document.querySelector("[data-key=back]")?.click();
      return false;
    default:
      return false;
  }
}

function focusSearch() {
  const search = document.querySelector("[data-key=search]");
  search?.focus();
  search?.select?.();
  return Boolean(search);
}

/** Goes to the next row of the table in which one is, or of the first that can be opened. */
function moveRow(by) {
  const now = document.activeElement?.closest?.("table.openable tbody tr");
  const rows = [...(now?.parentElement ?? document.querySelector("table.openable tbody"))
    ?.children ?? []].filter((row) => row.openRow);
  if (rows.length === 0) return false;
  const at = now ? rows.indexOf(now) + by : by > 0 ? 0 : rows.length - 1;
  const row = rows[Math.min(rows.length - 1, Math.max(0, at))];
  row.focus();
  row.scrollIntoView({ block: "nearest" });
  return true;
}

function showKeys(views) {
  const keys = [
    ["/", "search"],
    ...views.map(([, , label, letter]) => [`g ${letter}`, label]),
    ["j  k", "next and previous row"],
    ["Enter", "open the row"],
    ["p", "pause or go on"],
    ["Esc", "close, or leave a field"],
    ["?", "these keys"],
  ];
  const rows = keys.map(([key, what]) =>
    h("div", {}, h("dt", {}, key.split(/ +/).map((it) => [h("kbd", {}, it), " "])),
      h("dd", {}, what)));
  const close = h("button", { type: "button", onclick: () => box.close() }, "Close");
  const box = dialog("Keys", h("dl", { class: "keys" }, rows), close);
  return true;
}
