// Four plots with one time axis: bookings, p99, seconds of the question, lag; and the events between them.

import { by, element, setAttribute, setStyle, setText, svg } from "./dom.js";
import { age, count, digits, milliseconds } from "./text.js";

const SPAN_SECONDS = 180;
const POINT_SECONDS = 1;
const GAP_SECONDS = 3; // a line ends if no point follows within this time
const WIDTH = 1800; // units of a plot; it is stretched to the width of the page
const HEIGHT = 100;
const MARK_SECONDS = 14; // labels that are closer are on separate lines
const MARK_LINES = 2;

const inSeconds = (value) => (value === null ? "–" : `${value.toFixed(3)} s`);

const PLOTS = [
  { name: "bookings", unit: "rides/s", series: [["rides_per_second", "bookings", count]] },
  { name: "p99", unit: "ms", series: [["p99_ms", "latency", milliseconds]] },
  { name: "question", unit: "s",
    series: [["rows_seconds", "rows", inSeconds, "on-rows"],
      ["columns_seconds", "columns", inSeconds, "on-columns"]] },
  { name: "lag", unit: "s", series: [["lag_seconds", "lag", (lag) => `${age(lag)} s`]] },
];

let points = [], shownSecond = 0;
let watched = null;

function build() {
  by("plots").append(element("div", { class: "marks", "aria-hidden": "true" }));
  for (const plot of PLOTS) {
    plot.lines = plot.series.map(([, name, , style]) => svg("path", { class: `line ${style ?? name}` }));
    plot.marks = svg("path", { class: "mark" });
    const gridlines = svg("path", { class: "gridline", d: "M0 0H1800M0 100H1800M600 0V100M1200 0V100" });
    plot.picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img",
      "aria-label": plot.name }, gridlines, plot.marks, ...plot.lines);
    plot.top = element("span", { class: "top-value" });
    plot.values = plot.series.map(([, name, , style]) => element("b", { class: style ?? name }));
    by("plots").append(element("div", { class: "plot" },
      element("p", { class: "plot-name" }, plot.name, element("small", {}, ` ${plot.unit}`)),
      element("p", { class: "y-axis", "aria-hidden": "true" }, plot.top, element("span", {}, "0")),
      plot.picture,
      element("p", { class: "plot-values" }, ...plot.values)));
  }
  by("plots").append(element("div", { class: "x-axis", "aria-hidden": "true" },
    ...["180 s ago", "120 s", "60 s", "now"].map((text) => element("span", {}, text))));
}

export function start(hello) {
  if (!PLOTS[0].lines) build();
  points = [...hello.history];
  watched = null;
}

// What a mark is drawn for, and its text when it changes.
function events({ crash, question, sync, index }) {
  return {
    crash: { down: "server killed", recovered: "server recovered" }[crash?.state] ?? "",
    target: question ? `question: ${question.target}` : "",
    sync: sync ? (sync.state === "paused" ? "sync paused" : "sync resumed") : "",
    dropped: index ? (index.dropped.length ? "index dropped" : "index created") : "",
    covering: index ? `covering index ${index.covering}` : "",
  };
}

function markOf(state) {
  const now = events(state);
  const isNews = (key) => watched?.[key] && now[key] !== watched[key];
  const texts = Object.keys(now).filter(isNews).map((key) => now[key]).filter(Boolean);
  watched = Object.fromEntries(Object.entries(now).map(([key, text]) => [key, text || " "]));
  return texts.join(", ") || null;
}

// Called with every tick; keeps one point a second, and every mark.
export function record(state) {
  if (!state.load || !state.sync || !state.question) return;
  const mark = markOf(state), last = points.at(-1);
  if (last && state.t - last.t < POINT_SECONDS) {
    if (mark) last.mark = last.mark ? `${last.mark}, ${mark}` : mark;
    return;
  }
  const { load, sync, question } = state;
  const asked = (side) => question.target === "both" || question.target === side;
  points.push({
    t: state.t, mark,
    rides_per_second: load.state === "reconnecting" ? 0 : load.rides_per_second, p99_ms: load.p99_ms,
    rows_seconds: asked("rows") ? question.rows?.seconds : null,
    columns_seconds: asked("columns") ? question.columns?.seconds : null, lag_seconds: sync.lag_seconds,
  });
  points = points.filter((point) => state.t - point.t <= SPAN_SECONDS);
}

// 1, 2, 2.5 or 5 times a power of ten.
function axisTop(most) {
  if (!(most > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(most));
  return power * [1, 2, 2.5, 5, 10].find((step) => step * power >= most * 0.999);
}

const axisText = (top) => top.toLocaleString("en-US",
  { maximumSignificantDigits: 2, notation: top < 10000 ? "standard" : "compact" });

const xOf = (t, now) => WIDTH * (1 - (now - t) / SPAN_SECONDS);

function linePath(key, top, now) {
  let path = "", before = null;
  for (const point of points) {
    const value = point[key];
    if (value === null || value === undefined) {
      before = null;
      continue;
    }
    const y = HEIGHT * (1 - Math.min(1, value / top));
    const place = `${xOf(point.t, now).toFixed(1)} ${y.toFixed(1)}`;
    const joined = before !== null && point.t - before < GAP_SECONDS;
    path += joined ? `L${place}` : `M${place}h0`;
    before = point.t;
  }
  return path;
}

function draw(t) {
  if (Math.floor(t) === shownSecond || !PLOTS[0].lines) return;
  shownSecond = Math.floor(t);
  const marks = points.filter((point) => point.mark && t - point.t < SPAN_SECONDS);
  const markPath = marks.map((point) => `M${xOf(point.t, t).toFixed(1)} 0V100`).join("");
  for (const plot of PLOTS) {
    const values = plot.series.flatMap(([key]) => points.map((point) => point[key] ?? 0));
    const top = axisTop(Math.max(0, ...values));
    setText(plot.top, axisText(top));
    setAttribute(plot.marks, "d", markPath);
    const texts = plot.series.map(([key, name, format], index) => {
      setAttribute(plot.lines[index], "d", linePath(key, top, t));
      const text = format(points.at(-1)?.[key] ?? null);
      setText(plot.values[index], plot.series.length > 1 ? `${name} ${text}` : text);
      return `${name} now ${text}`;
    });
    setAttribute(plot.picture, "aria-label", `${plot.name} in ${plot.unit}, last ${SPAN_SECONDS} s: ` +
      `${texts.join(", ")}; at most ${digits(Math.max(0, ...values))} ${plot.unit}.`);
  }
  drawMarks(marks, t);
}

function drawMarks(marks, now) {
  const box = by("plots").querySelector(".marks");
  while (box.children.length > marks.length) box.lastChild.remove();
  while (box.children.length < marks.length) box.append(element("span"));
  const used = Array(MARK_LINES).fill(-Infinity);
  marks.forEach((point, index) => {
    const node = box.children[index];
    let line = used.findIndex((t) => point.t - t >= MARK_SECONDS);
    if (line < 0) line = MARK_LINES - 1;
    used[line] = point.t;
    setText(node, point.mark);
    setAttribute(node, "class", point.mark.includes("killed") ? "bad" : "");
    const share = (now - point.t) / SPAN_SECONDS;
    const onLeft = share > 0.5; // towards the middle, so that no label leaves the page
    setStyle(node, "left", onLeft ? `${(100 * (1 - share)).toFixed(2)}%` : "auto");
    setStyle(node, "right", onLeft ? "auto" : `${(100 * share).toFixed(2)}%`);
    setStyle(node, "top", `${line * 1.15}em`);
  });
}

export const parts = { t: draw };
