// Elements made from data. Whatever others said becomes text, never markup.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element with properties and children. `on…` are listeners, `css` are style properties,
 * `data` are data attributes; `true` is an attribute without a value, `false` and null are none.
 */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same for drawings. */
export function svg(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

const AS_PROPERTY = new Set(["value", "checked", "selected", "indeterminate"]);

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "css") setStyle(element, value);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (AS_PROPERTY.has(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

function setStyle(element, style) {
  for (const [name, value] of Object.entries(style)) element.style.setProperty(name, value);
}

/** Appends what there is of nodes, texts and lists of them. */
export function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

/** Replaces the children of an element. */
export function put(element, ...children) {
  element.replaceChildren();
  return append(element, children);
}

/** Changes a text only where it is another one, so that nothing is painted in vain. */
export function text(element, value) {
  const wanted = String(value);
  if (element.textContent !== wanted) element.textContent = wanted;
  return element;
}

const known = new WeakMap();

/**
 * Makes the children of `parent` those of `items`, in their order. The element of a key is made
 * once by `make(item)`; its `refresh(item)`, where it has one, is called on every update.
 */
export function keyed(parent, items, keyOf, make) {
  const before = known.get(parent) ?? new Map();
  const now = new Map();
  let place = parent.firstChild;
  for (const item of items) {
    const key = keyOf(item);
    if (now.has(key)) continue;
    const element = before.get(key) ?? make(item);
    element.refresh?.(item);
    now.set(key, element);
    if (element === place) place = place.nextSibling;
    else parent.insertBefore(element, place);
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
  known.set(parent, now);
}

/** A number of milliseconds later, unless `signal` is aborted before. */
export function later(signal, ms, act) {
  const timer = setTimeout(act, ms);
  signal?.addEventListener("abort", () => clearTimeout(timer), { once: true });
  return timer;
}

/** Offers a text as a file. */
export function download(name, type, content) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
