// Lines over time, for the console and the demo. Colours are the style sheet's.
//
// The drawing is stretched to whatever room it has. The axis is robust: lone spikes do not flatten
// everything else, they are cut off at the top and marked there.

import { h, put, svg, text } from "./dom.js";

const WIDTH = 600;
const HEIGHT = 160;
const POINTS_MAX = 900;
/** A share of the points that may lie above the axis, and by how much more they have to. */
const SPIKES_SHARE = 0.03;
const SPIKE_FACTOR = 2.5;

/** The value below which `share` of the sorted values are. */
export const quantile = (sorted, share) =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];

/** The next of 1, 2, 5, 10, 20, … */
export function niceAbove(value) {
  if (!(value > 0)) return 1;
  const decade = 10 ** Math.floor(Math.log10(value));
  const step = [1, 2, 5, 10].find((it) => it * decade >= value * 0.9999);
  return step * decade;
}

/** Where the axis ends: above all values, but for lone spikes. */
export function robustTop(values) {
  const sorted = values.filter((it) => it > 0).sort((a, b) => a - b);
  if (sorted.length === 0) return 1;
  const highest = sorted.at(-1);
  const usual = quantile(sorted, 1 - SPIKES_SHARE - 1 / sorted.length);
  const lone = sorted.length >= 10 && highest > usual * SPIKE_FACTOR;
  return niceAbove((lone ? usual : highest) * 1.15);
}

/**
 * `lines` are `{id, label, hint}`; `format` makes a value readable; `scale` is "linear" or "log";
 * `spark` leaves everything out but the lines. A pause of more than `gapMs` is not drawn over.
 */
export class Chart {
  #options;
  #lines = new Map();
  #now = Date.now();
  #scale = null;
  #top = h("span", { class: "chart-top" });
  #middle = h("span", { class: "chart-middle" });
  #low = h("span", { class: "chart-low" });
  #spike = h("span", { class: "chart-spike", hidden: true });
  #cross = svg("path", { class: "cross" });
  #reading = h("div", { class: "chart-reading", hidden: true });
  #frame;

  constructor(into, options) {
    this.#options = {
      seconds: 60, gapMs: 15_000, scale: "linear", format: String, spark: false, ...options,
    };
    const { seconds, spark } = this.#options;
    const drawing = svg("svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    });
    if (!spark) {
      for (const y of [1, HEIGHT / 2, HEIGHT - 1]) {
        drawing.append(svg("line", { class: "grid", x1: 0, x2: WIDTH, y1: y, y2: y }));
      }
    }
    for (const line of this.#options.lines) this.#addLine(line, drawing);
    drawing.append(this.#cross);
    this.#frame = h("div", { class: spark ? "chart spark" : "chart" }, drawing);
    if (!spark) this.#frame.append(this.#top, this.#middle, this.#low, this.#spike);
    this.#frame.append(this.#reading);
    this.#frame.addEventListener("pointermove", (event) => this.#read(event));
    this.#frame.addEventListener("pointerleave", () => this.#readNothing());
    if (!spark) into.append(this.#legend());
    into.append(this.#frame);
    const minutes = seconds / 60;
    const from = minutes === 1 ? "1 minute ago" : `${minutes} minutes ago`;
    if (!spark) {
      into.append(h("div", { class: "chart-time" }, h("span", {}, from), h("span", {}, "now")));
    }
  }

  #addLine({ id, label, hint, hidden }, drawing) {
    const area = svg("path", { class: `area ${id}` });
    const line = svg("path", { class: `line ${id}` });
    const spikes = svg("path", { class: `spikes ${id}` });
    drawing.append(area, line, spikes);
    const now = h("strong", {}, "–");
    const tail = h("small", {}, hint ?? "");
    const item = h("li", { class: id, hidden },
      h("span", { class: "swatch" }), h("span", { class: "what" }, label), now, tail);
    this.#lines.set(id, { id, label, points: [], area, line, spikes, now, tail, item });
  }

  #legend() {
    const items = [...this.#lines.values()].map(({ item }) => item);
    return h("ul", { class: "legend" }, items);
  }

  /** Adds what was measured at a Unix time in milliseconds, and draws. */
  add(id, value, at = Date.now()) {
    const line = this.#lines.get(id);
    line.points.push({ at, value });
    line.item.hidden = false;
    this.draw(at);
  }

  /** Takes all points, `{at, value}` in the order of time, of each line by its id. */
  set(points, now) {
    for (const [id, line] of this.#lines) line.points = (points[id] ?? []).slice(-POINTS_MAX);
    this.draw(now);
  }

  draw(now = Date.now()) {
    this.#now = now;
    const values = [];
    for (const line of this.#lines.values()) {
      const { points } = line;
      const from = now - this.#options.seconds * 1_000;
      const first = points.findIndex(({ at }) => at >= from);
      // One point before the edge stays, so that the line begins there.
      if (first > 1) points.splice(0, first - 1);
      else if (first < 0) points.length = 0;
      for (const { value } of points) values.push(value);
    }
    this.#scale = this.#scaleFor(values);
    const { format } = this.#options;
    text(this.#top, format(this.#scale.top));
    text(this.#middle, format(this.#scale.value(0.5)));
    text(this.#low, this.#options.scale === "log" ? format(this.#scale.value(0)) : "");
    let spike = null;
    for (const line of this.#lines.values()) spike = this.#drawLine(line) ?? spike;
    this.#markSpike(spike);
  }

  /** Places are shares of the height, from the bottom. */
  #scaleFor(values) {
    const top = this.#options.top ?? robustTop(values);
    if (this.#options.scale !== "log") {
      return { top, place: (it) => Math.min(1, it / top), value: (share) => share * top };
    }
    const lowest = Math.min(...values.filter((it) => it > 0), top / 10);
    const low = 10 ** Math.floor(Math.log10(lowest));
    const decades = Math.log10(top / low);
    const place = (it) => Math.min(1, Math.max(0, Math.log10(Math.max(it, low) / low) / decades));
    return { top, place, value: (share) => low * 10 ** (share * decades) };
  }

  #x = (at) => WIDTH * (1 - (this.#now - at) / (this.#options.seconds * 1_000));
  #y = (value) => HEIGHT - 1.5 - (HEIGHT - 4) * this.#scale.place(value);

  #drawLine({ points, line, area, spikes, now, tail }) {
    let [path, closed, marks] = ["", "", ""];
    let before = null;
    let from = 0;
    let spike = null;
    const end = () => {
      if (before) closed += ` L${this.#x(before.at).toFixed(1)} ${HEIGHT} L${from} ${HEIGHT} Z`;
    };
    for (const point of points) {
      const [x, y] = [this.#x(point.at).toFixed(1), this.#y(point.value).toFixed(1)];
      const begins = !before || point.at - before.at > this.#options.gapMs;
      if (begins) {
        end();
        from = x;
      }
      path += `${begins ? "M" : "L"}${x} ${y}`;
      closed += `${begins ? "M" : "L"}${x} ${y}`;
      if (point.value > this.#scale.top) {
        marks += `M${x} ${y}h0.01`;
        spike = point;
      }
      before = point;
    }
    end();
    const drawn = points.length > 1;
    line.setAttribute("d", drawn ? path : "");
    area.setAttribute("d", drawn ? closed : "");
    spikes.setAttribute("d", drawn ? marks : "");
    this.#describe(points, now, tail);
    return spike;
  }

  #describe(points, now, tail) {
    const { format, spark, quantiles } = this.#options;
    if (spark) return;
    text(now, points.length > 0 ? format(points.at(-1).value) : "–");
    if (!quantiles || points.length === 0) return;
    const sorted = points.map(({ value }) => value).sort((a, b) => a - b);
    text(tail, quantiles.map((share) =>
      `p${share * 100} ${format(quantile(sorted, share))}`).join(", "));
  }

  #markSpike(spike) {
    this.#spike.hidden = !spike;
    if (!spike) return;
    text(this.#spike, `↑ ${this.#options.format(spike.value)}`);
    const share = Math.min(0.86, Math.max(0.12, this.#x(spike.at) / WIDTH));
    this.#spike.style.setProperty("left", `${(share * 100).toFixed(1)}%`);
  }

  #read(event) {
    const box = this.#frame.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    const { seconds, format } = this.#options;
    const at = this.#now - (1 - share) * seconds * 1_000;
    const nearest = (points) => points.reduce((best, it) =>
      (!best || Math.abs(it.at - at) < Math.abs(best.at - at) ? it : best), null);
    const found = [...this.#lines.values()].map((line) => [line, nearest(line.points)]);
    const there = found.filter(([, point]) => point);
    if (there.length === 0) return this.#readNothing();
    const x = this.#x(there[0][1].at).toFixed(1);
    this.#cross.setAttribute("d", `M${x} 0V${HEIGHT}`);
    const time = new Date(there[0][1].at).toLocaleTimeString([], { hour12: false });
    const values = there.map(([line, point]) =>
      h("span", { class: line.id }, h("i", { class: "swatch" }), `${line.label} `,
        h("b", {}, format(point.value))));
    put(this.#reading, h("time", {}, time), values);
    this.#reading.hidden = false;
    this.#reading.classList.toggle("left", share > 0.5);
    this.#reading.style.setProperty("--x", `${(share * 100).toFixed(1)}%`);
  }

  #readNothing() {
    this.#cross.setAttribute("d", "");
    this.#reading.hidden = true;
  }
}
