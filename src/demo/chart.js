// Round trips over the last minute, as lines. Colours are the style sheet's.

const SVG = "http://www.w3.org/2000/svg";
const SECONDS = 60;
const WIDTH = 600;
const HEIGHT = 180;
/** Tops of the scale, in milliseconds. */
const TOPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];

const SERIES = [
  { id: "server", label: "to the server", hint: "ping and pong" },
  { id: "person", label: "to a person", hint: "through the server, and back" },
  { id: "direct", label: "direct link", hint: "browser to browser" },
];

const shown = (ms) => (ms < 10 ? ms.toFixed(1) : String(Math.round(ms)));

/** The value below which `share` of the sorted values are. */
const quantile = (sorted, share) => sorted[Math.min(sorted.length - 1, sorted.length * share | 0)];

function html(tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

function svg(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

export class Chart {
  #series = new Map();
  #top = html("span", "chart-top");
  #middle = html("span", "chart-middle");

  constructor(into) {
    const drawing = svg("svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    });
    for (const y of [1, HEIGHT / 2, HEIGHT - 1]) {
      drawing.append(svg("line", { class: "grid", x1: 0, x2: WIDTH, y1: y, y2: y }));
    }
    const legend = html("ul", "legend");
    for (const { id, label, hint } of SERIES) {
      const area = svg("path", { class: `area ${id}` });
      const line = svg("path", { class: `line ${id}` });
      drawing.append(area, line);
      const now = html("strong", "", "–");
      const tail = html("small", "", hint);
      const item = html("li", id);
      item.append(html("span", "swatch"), html("span", "what", label), now, tail);
      item.hidden = id !== "server";
      legend.append(item);
      this.#series.set(id, { points: [], area, line, now, tail, item });
    }
    const frame = html("div", "chart");
    const time = html("div", "chart-time");
    time.append(html("span", "", "1 minute ago"), html("span", "", "now"));
    frame.append(drawing, this.#top, this.#middle);
    into.append(legend, frame, time);
  }

  add(id, ms) {
    const series = this.#series.get(id);
    series.points.push({ at: performance.now(), ms });
    series.item.hidden = false;
    this.draw();
  }

  draw() {
    const now = performance.now();
    let highest = 0;
    for (const { points } of this.#series.values()) {
      while (points.length > 0 && now - points[0].at > SECONDS * 1_000) points.shift();
      for (const { ms } of points) highest = Math.max(highest, ms);
    }
    const top = TOPS.find((it) => it >= highest * 1.15) ?? highest;
    this.#top.textContent = `${top} ms`;
    this.#middle.textContent = `${top / 2}`;
    for (const series of this.#series.values()) this.#drawSeries(series, now, top);
  }

  #drawSeries({ points, area, line, now: label, tail }, now, top) {
    const place = ({ at, ms }) => {
      const x = WIDTH * (1 - (now - at) / (SECONDS * 1_000));
      return `${x.toFixed(1)} ${(HEIGHT - (HEIGHT - 4) * (ms / top)).toFixed(1)}`;
    };
    const path = points.map(place).join(" L ");
    line.setAttribute("d", points.length > 1 ? `M ${path}` : "");
    const [first, last] = [points[0], points.at(-1)];
    const x = (point) => place(point).split(" ")[0];
    const closed = first && `M ${path} L ${x(last)} ${HEIGHT} L ${x(first)} ${HEIGHT} Z`;
    area.setAttribute("d", points.length > 1 ? closed : "");
    if (!last) {
      label.textContent = "–";
      return;
    }
    label.textContent = `${shown(last.ms)} ms`;
    const sorted = points.map(({ ms }) => ms).sort((a, b) => a - b);
    tail.textContent = `p50 ${shown(quantile(sorted, 0.5))}, p99 ${shown(quantile(sorted, 0.99))}`;
  }
}
