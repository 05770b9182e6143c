// The heap page of the newest ride: 128 × 64 cells, one for each byte.

import { by, element, setAttribute, setText, svg } from "./dom.js";
import { count, plural } from "./text.js";

const PER_LINE = 128;
const CELL = 4;
const WIDTH = 512;
const HEIGHT = 256;
const HEADER_BYTES = 24;
const FIRST = "fare_cents";

let ride = null, chosen = FIRST;
const layers = {};

// Byte ranges as a path of rectangles, one for each line of the grid that a range touches.
function rectangles(ranges) {
  let path = "";
  for (const [offset, bytes] of ranges) {
    for (let at = offset; at < offset + bytes;) {
      const line = Math.floor(at / PER_LINE), end = Math.min(offset + bytes, (line + 1) * PER_LINE);
      path += `M${(at % PER_LINE) * CELL} ${line * CELL}h${(end - at) * CELL}v${CELL}h${(at - end) * CELL}z`;
      at = end;
    }
  }
  return path;
}

function build() {
  const grid = by("heap-grid");
  for (const name of ["header", "pointer", "free", "tuple", "ride", "chosen"]) {
    layers[name] = svg("path", { class: name });
    grid.append(layers[name]);
  }
  let cells = "";
  for (let x = 0; x <= WIDTH; x += CELL) cells += `M${x} 0V${HEIGHT}`;
  for (let y = 0; y <= HEIGHT; y += CELL) cells += `M0 ${y}H${WIDTH}`;
  layers.edges = svg("path", { class: "edges" });
  grid.append(svg("path", { class: "cells", d: cells }), layers.edges);
}

export function start() {
  if (!layers.header) build();
}

function showRide(next) {
  ride = next;
  if (!ride) return;
  const spans = (kept) => ride.tuples.filter(kept).map((one) => [one.offset, one.bytes]);
  setAttribute(layers.header, "d", rectangles([[0, HEADER_BYTES]]));
  setAttribute(layers.pointer, "d", rectangles([[HEADER_BYTES, ride.lower - HEADER_BYTES]]));
  setAttribute(layers.free, "d", rectangles([[ride.lower, ride.upper - ride.lower]]));
  setAttribute(layers.tuple, "d", rectangles(spans((one) => !one.is_ride)));
  setAttribute(layers.ride, "d", rectangles(spans((one) => one.is_ride)));
  // The first byte of each tuple, so that adjacent tuples can be distinguished.
  setAttribute(layers.edges, "d", spans(() => true)
    .map(([at]) => `M${(at % PER_LINE) * CELL} ${Math.floor(at / PER_LINE) * CELL}v${CELL}`).join(""));
  const own = ride.tuples.find((one) => one.is_ride);
  setText(by("heap-text"), `Ride ${count(ride.ride_id)} has ${count(own?.bytes)} adjacent bytes in page ` +
    `${count(ride.block)}, with ${plural(ride.tuples.length - 1, "other ride")} and ` +
    `${count(ride.upper - ride.lower)} free bytes.`);
  setAttribute(by("heap-grid"), "aria-label", `A heap page of ${count(ride.page_bytes)} bytes: a header, ` +
    `${plural((ride.lower - HEADER_BYTES) / 4, "line pointer")}, ` +
    `${count(ride.upper - ride.lower)} free bytes, ${plural(ride.tuples.length, "ride")}. ` +
    `The newest ride has the bytes from ${count(own?.offset)}.`);
  showChips();
  showColumn();
}

function showChips() {
  const names = ride.columns.map((column) => column.name);
  const chips = [...by("heap-columns").children];
  if (chips.map((chip) => chip.dataset.name).join() === names.join()) return;
  by("heap-columns").replaceChildren(...names.map((name) => {
    const chip = element("button", { type: "button", "data-name": name }, name);
    for (const event of ["focus", "pointerenter", "click"]) chip.addEventListener(event, () => choose(name));
    return chip;
  }));
}

function choose(name) {
  chosen = name;
  showColumn();
}

function showColumn() {
  const column = ride?.columns.find((one) => one.name === chosen);
  for (const chip of by("heap-columns").children) {
    setAttribute(chip, "aria-pressed", chip.dataset.name === chosen);
  }
  setAttribute(layers.chosen, "d", column ? rectangles([[column.offset, column.bytes]]) : "");
  setText(by("value-name"), chosen);
  setText(by("heap-value"), column
    ? `${chosen} = ${column.value ?? "…"}: ${plural(column.bytes, "byte")} at ${count(column.offset)}`
    : `${chosen} is null: one bit in the header of the ride, no other bytes`);
}

by("heap-grid").addEventListener("pointermove", (event) => {
  if (!ride) return;
  const box = by("heap-grid").getBoundingClientRect();
  const line = Math.floor(((event.clientY - box.top) / box.height) * 64);
  const byte = line * PER_LINE + Math.floor(((event.clientX - box.left) / box.width) * PER_LINE);
  const column = ride.columns.find((one) => byte >= one.offset && byte < one.offset + one.bytes);
  if (column) choose(column.name);
});

export const parts = { ride: showRide };
