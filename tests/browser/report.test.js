// The report of the load harness: what a real run writes, as a browser shows it.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { pathToFileURL } from "node:url";

import { launch, newPage } from "./harness/browser.js";
import { startDev } from "./harness/dev.js";
import { loadReport } from "./harness/loadtest.js";

const HOSTILE = `<img src=x onerror="window.broken = 1"></h2><script>window.broken = 1</script>`;
const SCENARIO = `
title = "Report"
[defaults]
duration = 1.5
warmup = 0.5
settle = 0
[[run]]
name = '${HOSTILE}'
workload = "fanout"
subscribers = 20
rate = 200
acks = true
origin = '${HOSTILE}'
repeat = 2
[[run]]
name = "direct messages"
workload = "direct"
pairs = 5
rate = 100
`;
const NO_LIMITS = { RINGMESH_LIMITS__MESSAGE_RATE: "0" };
const RUNS = [HOSTILE, `${HOSTILE} #2`, "direct messages"];
const CHARTS = [
  ["Latency by percentile", ["delivery", "ack"]],
  ["Latency over time", ["p50", "p99", "max"]],
  ["Messages per second", ["received", "sent"]],
  ["CPU, share of one core", ["harness", "server"]],
  ["Server memory", ["resident"]],
];
const DESKTOP = { width: 1100, height: 800 };
const PHONE = { width: 360, height: 640 };

/** In the page: all charts in order, with what can be seen of them. */
function charts() {
  const box = (element) => {
    const { left, right, top, bottom } = element.getBoundingClientRect();
    return { left, right, top, bottom };
  };
  return [...document.querySelectorAll("figure")].map((figure) => {
    const drawing = figure.querySelector(":scope > svg");
    const texts = (selector) => [...drawing.querySelectorAll(selector)].map((text) => ({
      text: text.textContent,
      ...box(text),
    }));
    return {
      title: figure.querySelector("figcaption").textContent,
      legend: [...figure.querySelectorAll(".legend span")].map((it) => it.textContent.trim()),
      box: box(drawing),
      lines: [...drawing.querySelectorAll("polyline")].map((line) => ({
        points: line.points.length,
        stroke: getComputedStyle(line).stroke,
        ...box(line),
      })),
      places: texts("text.x"),
      values: texts("text.y"),
    };
  });
}

/** Whether `inner` lies in `outer`, a pixel of rounding allowed. */
const isInside = (inner, outer) =>
  inner.left >= outer.left - 1 && inner.right <= outer.right + 1 &&
  inner.top >= outer.top - 1 && inner.bottom <= outer.bottom + 1;

/** Every line and label is drawn, inside its chart, and no label covers the next. */
function assertDrawn({ title, box, lines, places, values }) {
  for (const line of lines) {
    assert.ok(line.points > 1 && line.right - line.left > 20, `${title}: a line of ${line.points}`);
    assert.ok(isInside(line, box), `${title}: a line leaves the chart`);
    assert.notEqual(line.stroke, "none", title);
  }
  assert.ok(places.length > 1 && values.length > 1, `${title}: an axis without numbers`);
  for (const label of [...places, ...values]) {
    assert.ok(isInside(label, box), `${title}: "${label.text}" is cut off`);
  }
  places.slice(1).forEach((label, at) => {
    const before = places[at];
    assert.ok(label.left > before.right, `${title}: "${label.text}" covers "${before.text}"`);
  });
  const texts = values.map(({ text }) => text);
  assert.equal(new Set(texts).size, texts.length, `${title}: ${texts}`);
}

describe("the report of a load run", () => {
  let browser;
  before(async () => {
    browser = await launch();
  });
  after(() => browser.close());

  it("needs nothing but itself, and shows all of what was run and found", async (t) => {
    const server = await startDev(t, { env: NO_LIMITS });
    const report = pathToFileURL(await loadReport(t, server, SCENARIO)).href;
    const page = await newPage(t, browser);
    await page.setViewportSize(DESKTOP);
    await page.goto(report);
    await page.waitForLoadState("networkidle");

    const headings = await page.locator("h2").allTextContents();
    assert.deepEqual(headings, RUNS);
    assert.equal(await page.evaluate(() => window.broken), undefined);
    assert.equal(await page.locator("img, script, link, iframe").count(), 0);

    const commands = await page.locator("code").allTextContents();
    assert.equal(commands.length, RUNS.length);
    assert.ok(commands[0].includes(`--origin=${HOSTILE}`), commands[0]);
    assert.match(commands[2], /^ringmesh-loadtest direct .*--pairs=5/);
    assert.ok(commands.every((it) => !it.includes(server.key)), "a credential is in the report");
    const text = await page.locator("body").innerText();
    for (const part of [server.url, "1.50 s measured", "21 connections", "300 sent", "p99.99"]) {
      assert.ok(text.includes(part), `${part} is missing in ${text}`);
    }
    const medians = await page.locator("tr.median td").allTextContents();
    assert.equal(medians[0], `${HOSTILE}: median of 2`);
    assert.ok(medians.slice(1).every((it) => /^[\d.,]+( [nµm]?s)?$/.test(it)), `${medians}`);

    const all = await page.evaluate(charts);
    assert.deepEqual(all.map((it) => it.title), RUNS.flatMap(() => CHARTS.map(([name]) => name)));
    CHARTS.forEach(([, names], at) => assert.deepEqual(all[at].legend, names));
    for (const chart of all) {
      assert.equal(chart.lines.length, chart.legend.length, chart.title);
      assertDrawn(chart);
    }

    await page.emulateMedia({ colorScheme: "dark" });
    const dark = await page.evaluate(charts);
    assert.notEqual(dark[0].lines[0].stroke, all[0].lines[0].stroke);

    await page.setViewportSize(PHONE);
    const widths = () => [document.documentElement.scrollWidth, innerWidth];
    const [content, screen] = await page.evaluate(widths);
    assert.ok(content <= screen, `${content} of ${screen}`);
    (await page.evaluate(charts)).forEach(assertDrawn);

    assert.deepEqual(page.complaints, []);
    assert.deepEqual(page.requests, [report]);
  });
});
