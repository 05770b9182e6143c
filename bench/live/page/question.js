// Files → answer: one question asked on rows and on columns.

import { by, element, hold, release, setAttribute, setChoice, setControl, setStyle, setText } from "./dom.js";
import { drawChunks, drawHeap } from "./layouts.js";
import { medians } from "./medians.js";
import { change } from "./post.js";
import { age, bytes, count, engineName, percent, seconds, winner } from "./text.js";

const failure = by("question-failure");
const OWN = "own"; // the entry of the list for the user's SQL
const COMMENTS = /^(\s*--[^\n]*\n)+/; // above the SQL of a named question
let editing = false;

by("question").addEventListener("change", () => {
  if (by("question").value === OWN) {
    editing = true;
    by("sql").focus();
    return;
  }
  editing = false;
  change(by("question"), "question", { name: by("question").value }, failure);
});
by("sql").addEventListener("input", () => {
  editing = true;
  by("question").value = OWN;
});
by("sql").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) by("ask").requestSubmit();
});
by("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  hold(by("sql"));
  if (await change(by("question"), "question", { sql: by("sql").value.trim() }, failure)) editing = false;
  else release(by("sql"));
});
by("target").addEventListener("change", (event) => {
  change(by("target"), "question", { target: event.target.value }, failure);
});
by("engine").addEventListener("change", () => {
  change(by("engine"), "question", { engine: by("engine").value }, failure);
});
by("fresh").addEventListener("change", () => {
  change(by("fresh"), "question", { fresh: by("fresh").checked }, failure);
});

export function start(hello) {
  const option = (value, text) => element("option", { value }, text);
  by("question").replaceChildren(...hello.questions.map(({ name, title }) => option(name, title)),
    option(OWN, "Your own SQL"));
  by("engine").replaceChildren(...hello.engines.map((name) => option(name, engineName(name))));
}

function showQuestion(question) {
  if (!editing) {
    setControl(by("question"), "value", question.name ?? OWN);
    const sql = question.sql.replace(COMMENTS, "").trim();
    if (document.activeElement !== by("sql")) setControl(by("sql"), "value", sql);
  }
  setChoice(by("target"), question.target);
  setControl(by("engine"), "value", question.engine);
  setControl(by("fresh"), "checked", question.fresh);
  const rows = askedSide(question, "rows"), columns = askedSide(question, "columns");
  const times = medians(question, { rows, columns });
  const longest = Math.max(times.rows ?? 0, times.columns ?? 0);
  showSide(question, "rows", rows, times.rows, longest);
  showSide(question, "columns", columns, times.columns, longest);
  setText(by("runs"), times.runs > 1 ? `Median of ${times.runs} runs.` : "");
  drawHeap(by("heap-picture"), rows);
  drawChunks(by("chunk-picture"), columns);
  setText(by("rows-bytes"), rows?.error ?? (rows ? heapText(rows) : ""));
  setText(by("columns-bytes"), columns?.error ?? (columns ? chunkText(columns) : ""));
  setText(by("winner"), winnerText(question, { rows, columns }, times));
  showEqual(question, rows, columns);
  showAnswer(question.answer);
}

const isAsked = ({ target }, side) => target === "both" || target === side;

// A side that is not asked has no result; a side that is asked has none until it answers.
function askedSide(question, side) {
  return isAsked(question, side) ? question[side] ?? null : null;
}

function showSide(question, name, side, time, longest) {
  const isOff = !isAsked(question, name);
  setAttribute(by(`${name}-side`), "data-off", isOff);
  const text = isOff ? "not asked" : side === null ? "…" : seconds(time, longest);
  setText(by(`${name}-seconds`), side?.error ? "failed" : text);
  const share = longest ? (time ?? 0) / longest : 0;
  setStyle(by(`${name}-bar`), "width", `${share ? Math.max(share * 100, 1).toFixed(1) : 0}%`);
}

function heapText(rows) {
  if (!rows.bytes) return "";
  if (!rows.heap.length) return `reads ${bytes(rows.bytes)}: pages found by an index`;
  const share = rows.heap.reduce((sum, [first, last]) => sum + last - first, 0);
  return `reads ${bytes(rows.bytes)}: ${percent(share)} of the heap`;
}

function chunkText(columns) {
  if (!columns.bytes) return "";
  const read = columns.chunks?.filter((chunk) => chunk.read).map((chunk) => chunk.column) ?? [];
  const groups = columns.row_groups
    ? ` in ${count(columns.row_groups_read)} of ${count(columns.row_groups)} row groups` : "";
  const named = read.length && read.length <= 4 ? read.join(", ") : `${count(read.length)} columns`;
  return `reads ${bytes(columns.bytes)} of ${bytes(columns.of_bytes)}: ${named}${groups}`;
}

function winnerText({ target, engine, equal }, { rows, columns }, times) {
  if (target === "off") return "No question is asked";
  if (rows?.error || columns?.error) return "The question failed";
  if (equal === false) return "The answers differ, so the times are not compared";
  if (times.rows && times.columns) return winner(times.rows, times.columns, engine);
  if (times.rows) return `Postgres on rows answers in ${seconds(times.rows)}`;
  if (times.columns) return `${engineName(engine)} on columns answers in ${seconds(times.columns)}`;
  return "Waiting for the answer…";
}

function showEqual({ equal, as_of_seconds: asOf, fresh }, rows, columns) {
  const node = by("equal");
  setAttribute(node, "data-equal", String(equal));
  let text = "";
  if (equal === true && rows && columns) text = `✓ answers equal${fresh ? ", as of now" : ""}`;
  else if (equal === false) text = "✗ answers differ";
  else if (columns && asOf !== null && asOf !== undefined) {
    text = `Columns as of ${age(asOf)} s ago${rows ? "; rows changed since" : ""}.`;
  }
  setText(node, text);
}

function showAnswer(answer) {
  const shown = JSON.stringify(answer ?? null);
  if (by("answer").dataset.shown === shown) return;
  by("answer").dataset.shown = shown;
  if (!answer) {
    by("answer").replaceChildren();
    return;
  }
  const cells = (values, name) => values.map((value) => element(name, {}, value ?? "null"));
  const head = element("tr", {}, ...cells(answer.columns, "th"));
  const body = answer.rows.map((row) => element("tr", {}, ...cells(row, "td")));
  const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
  const more = answer.more ? [element("p", {}, `and ${count(answer.more)} more rows`)] : [];
  by("answer").replaceChildren(table, ...more);
}

export const parts = { question: showQuestion };
