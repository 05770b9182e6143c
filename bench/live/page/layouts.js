// The bytes that a question reads: pages of the heap are horizontal bars, column chunks vertical bars.

import { setAttribute, svg } from "./dom.js";
import { bytes, percent } from "./text.js";

const WIDTH = 200;
const HEIGHT = 76;
const PAGES = 19; // drawn; each stands for many
const LINE = HEIGHT / PAGES;
const VISIBLE = 1.5; // the least size of a part that was read

let known = []; // the chunks of the last answer, drawn while the columns are not asked

function redraw(picture, key, draw) {
  const text = JSON.stringify(key);
  if (picture.dataset.shown === text) return;
  picture.dataset.shown = text;
  picture.replaceChildren(...draw());
}

const rect = (x, y, width, height, name) =>
  svg("rect", { x, y, width: Math.max(0, width), height: Math.max(0, height), class: name });

export function drawHeap(picture, rows) {
  redraw(picture, rows?.heap ?? null, () => {
    const lines = [];
    for (let page = 0; page < PAGES; page++) lines.push(rect(0, page * LINE, WIDTH, LINE - 1, "stored"));
    const read = (rows?.heap ?? []).map(([first, last]) => {
      const height = Math.max(VISIBLE, (last - first) * HEIGHT);
      return rect(0, Math.min(first * HEIGHT, HEIGHT - height), WIDTH, height, "read");
    });
    const gaps = [];
    for (let page = 1; page < PAGES; page++) gaps.push(rect(0, page * LINE - 1, WIDTH, 1, "gap"));
    return [...lines, ...read, ...gaps];
  });
  setAttribute(picture, "aria-label", rows?.bytes
    ? `The heap of Postgres: the question reads ${bytes(rows.bytes)} in whole pages.`
    : "The heap of Postgres: no page is read.");
}

export function drawChunks(picture, columns) {
  if (columns?.chunks?.length) known = columns.chunks;
  const chunks = columns?.chunks?.length ? columns.chunks : known.map((chunk) => ({ ...chunk, read: false }));
  const depth = columns?.row_groups ? columns.row_groups_read / columns.row_groups : 1;
  redraw(picture, [chunks, depth], () => {
    if (!chunks.length) return [rect(0, 0, WIDTH, HEIGHT, "stored")];
    const total = chunks.reduce((sum, chunk) => sum + Math.max(chunk.share, 0.006), 0);
    let left = 0;
    return chunks.flatMap((chunk) => {
      const width = (Math.max(chunk.share, 0.006) / total) * WIDTH, x = left;
      left += width;
      const drawn = Math.max(0.8, width - 1);
      const title = svg("title", {}, `${chunk.column}: ${percent(chunk.share)} of the bytes`);
      const stored = rect(x, 0, drawn, HEIGHT, "stored");
      stored.append(title);
      return chunk.read ? [stored, rect(x, 0, drawn, Math.max(VISIBLE, depth * HEIGHT), "read")] : [stored];
    });
  });
  const read = chunks.filter((chunk) => chunk.read).map((chunk) => chunk.column);
  setAttribute(picture, "aria-label", read.length
    ? `The column chunks of the files: the question reads ${read.join(", ")}.`
    : "The column chunks of the files: none is read.");
}
