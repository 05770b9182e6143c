// Break it: strategies without protection, a killed server, changed indexes.
// Absent if Postgres is not embedded.

import { by, element, setAttribute, setText } from "./dom.js";
import { post, showTrouble } from "./post.js";
import { count, digits } from "./text.js";

const STRATEGIES = [
  ["all", "all, in turn"],
  ["no_transaction", "no transaction"],
  ["check_then_act, read committed", "read committed"],
  ["check_then_act, repeatable read", "repeatable read"],
  ["check_then_act, serializable", "serializable"],
  ["for_update", "FOR UPDATE"],
  ["skip_locked", "SKIP LOCKED"],
  ["constraint_only", "unique index only"],
  ["serializable_with_retry", "serializable, with retry"],
  ["store", "the store's own way"],
];
const NAMES = Object.fromEntries(STRATEGIES);

const contrastFailure = by("contrast-failure"), indexFailure = by("index-failure");
let index = null;

by("strategy").replaceChildren(...STRATEGIES.map(([value, text]) => element("option", { value }, text)));
by("contrast-run").addEventListener("click", () => {
  post("contrast", { strategy: by("strategy").value }, contrastFailure);
});
by("contrast-stop").addEventListener("click", () => post("contrast", { stop: true }, contrastFailure));
by("crash-run").addEventListener("click", () => post("crash", {}, by("crash-failure")));
by("index-time").addEventListener("click", () =>
  post("index", { drivers_by_stand: index.dropped.length > 0 }, indexFailure));
by("index-covering").addEventListener("click", () =>
  post("index", { covering: index.covering === "absent" }, indexFailure));

export function start(hello) {
  by("break").hidden = !hello.embedded;
}

function showContrast(contrast) {
  const running = contrast.state === "running";
  by("contrast-run").disabled = running;
  by("contrast-stop").disabled = !running;
  const rows = [...contrast.done];
  const isDone = rows.some((row) => row.strategy === contrast.strategy);
  if (running && contrast.strategy && !isDone) rows.push({ ...contrast, mark: "…" });
  showAnomalies(rows);
  const last = rows.at(-1);
  setText(by("contrast-why"), running && !isDone
    ? `${NAMES[contrast.strategy] ?? contrast.strategy}, round ${count(contrast.round)} of ` +
      `${count(contrast.rounds)}. ${contrast.why ?? ""}`
    : last?.verdict ?? "");
  showTrouble(contrastFailure, contrast.error);
}

function showAnomalies(rows) {
  const table = by("anomalies");
  const kinds = [...new Set(rows.flatMap((row) => Object.keys(row.anomalies)))];
  const key = JSON.stringify(rows);
  if (table.dataset.shown === key) return;
  table.dataset.shown = key;
  if (!rows.length) {
    table.replaceChildren();
    return;
  }
  const cell = (name, text, attributes = {}) => element(name, attributes, text);
  const head = element("tr", {}, cell("th", "strategy", { scope: "col" }),
    ...[...kinds, "rides"].map((kind) => cell("th", kind, { scope: "col", class: "number" })));
  const body = rows.map((row) => element("tr", { "data-mark": row.mark },
    cell("th", `${row.mark} ${NAMES[row.strategy] ?? row.strategy}`, { scope: "row" }),
    ...kinds.map((kind) => cell("td", count(row.anomalies[kind] ?? 0),
      { class: (row.anomalies[kind] ?? 0) > 0 ? "number bad" : "number" })),
    cell("td", count(row.rides), { class: "number" })));
  table.replaceChildren(element("thead", {}, head), element("tbody", {}, ...body));
}

function showCrash(crash) {
  const down = crash.state === "down" || crash.state === "recovering";
  by("crash-run").disabled = down;
  const known = crash.state === "recovered";
  setText(by("crash-gap"), known && crash.gap_seconds !== null ? `${digits(crash.gap_seconds)} s` : "–");
  setText(by("crash-acknowledged"), known ? count(crash.acknowledged) : "–");
  setText(by("crash-found"), known ? count(crash.found) : "–");
  setText(by("crash-lost"), known ? count(crash.lost) : "–");
  const states = { down: "The server is down…", recovering: "Postgres recovers from its WAL…" };
  setAttribute(by("crash-text"), "data-verdict", known ? (crash.lost === 0 ? "equal" : "differs") : "idle");
  setText(by("crash-text"), states[crash.state] ?? crash.text ?? "");
}

function showIndex(next) {
  index = next;
  const building = index.covering === "building";
  by("index-covering").disabled = building;
  setText(by("index-covering"), building ? "Building the covering index…"
    : index.covering === "absent" ? "Add the covering index" : "Remove the covering index");
  setText(by("index-time"), index.dropped.length ? "Create the drivers’ index" :
    "Drop the drivers’ index");
  setText(by("index-text"), index.text ?? "");
}

export const parts = { contrast: showContrast, crash: showCrash, index: showIndex };
