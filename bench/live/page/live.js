// The page of `ridelake live`: receives the state of the server and renders the parts that changed.

import * as bookings from "./bookings.js";
import * as breaking from "./breaking.js";
import { by, setText } from "./dom.js";
import * as epochs from "./epochs.js";
import * as heap from "./heap.js";
import * as map from "./map.js";
import * as question from "./question.js";
import { connect } from "./stream.js";
import * as timeline from "./timeline.js";
import * as tour from "./tour.js";

const FRAME_MS = 200; // numbers that change faster cannot be read
const page = { start() {}, parts: { workers: showWorkers } };
const panels = [bookings, map, heap, epochs, question, breaking, timeline, page];

const state = {};
const changed = new Set();
let drawnAt = 0, requested = false;

// A hidden page gets no animation frames: the parts that changed meanwhile are rendered once it is visible.
function render(now) {
  requested = false;
  drawnAt = now;
  for (const panel of panels) {
    for (const [part, show] of Object.entries(panel.parts)) {
      if (changed.has(part) && state[part] !== undefined) show(state[part], state);
    }
  }
  changed.clear();
}

function requestRender() {
  if (requested) return;
  requested = true;
  setTimeout(() => requestAnimationFrame(render), drawnAt + FRAME_MS - performance.now());
}

function showWorkers(workers) {
  setText(by("workers"), Object.values(workers).join("; "));
}

function onHello(hello) {
  for (const panel of panels) panel.start(hello);
  tour.allow(hello.embedded);
  setText(by("versions"), `ridelake ${hello.version}, Postgres ${hello.postgres}.`);
  document.documentElement.dataset.ready = "";
}

function onTick(tick) {
  for (const [part, value] of Object.entries(tick)) {
    state[part] = value;
    changed.add(part);
  }
  timeline.record(state);
  requestRender();
}

function onConnection(connection) {
  const node = by("connection");
  if (node.dataset.state === connection) return;
  node.dataset.state = connection;
  setText(node, connection === "connected" ? "connected" : "reconnecting…");
}

await tour.start();
connect({ onHello, onTick, onConnection });
