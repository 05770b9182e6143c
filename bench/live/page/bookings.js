// Request → row: the rates and latencies of the bookings, and the controls of the load.

import { by, hold, setAttribute, setChoice, setControl, setText } from "./dom.js";
import { change, post, showTrouble } from "./post.js";
import { count, milliseconds } from "./text.js";

const PACES = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, null]; // requests per second; null: no limit
const SEND_MS = 150; // a moved slider sends at most this often

const failure = by("load-failure");
let paused = false;

const paceText = (rate) => (rate === null ? "no limit" : `${count(rate)} requests/s`);

function showSlider(slider, output, text) {
  setText(output, text);
  setAttribute(slider, "aria-valuetext", text);
}

const showClients = () => showSlider(by("clients"), by("clients-value"), by("clients").value);
const showPace = () => showSlider(by("pace"), by("pace-value"), paceText(PACES[by("pace").value]));

function nearestPace(rate) {
  if (rate === null) return PACES.length - 1;
  const distances = PACES.map((pace) => (pace === null ? Infinity : Math.abs(Math.log(pace / rate))));
  return distances.indexOf(Math.min(...distances));
}

function onSlide(slider, show, body) {
  let timer;
  slider.addEventListener("input", () => {
    hold(slider);
    show();
    clearTimeout(timer);
    timer = setTimeout(() => change(slider, "load", body(), failure), SEND_MS);
  });
}

onSlide(by("clients"), showClients, () => ({ clients: Number(by("clients").value) }));
onSlide(by("pace"), showPace, () => ({ rate: PACES[by("pace").value] }));
by("mode").addEventListener("change", (event) => {
  change(by("mode"), "load", { batch: event.target.value === "batch" }, failure);
});
by("load-pause").addEventListener("click", () => post("load", { paused: !paused }, failure));

export function start(hello) {
  [by("clients").min, by("clients").max] = hello.limits.clients;
  by("load-controls").hidden = !hello.embedded; // a store of a DSN is only read
}

function showLoad(load) {
  paused = load.state === "paused";
  setText(by("rides-per-second"), count(load.rides_per_second));
  setText(by("load-state"), load.state === "running" ? "" : load.state);
  setText(by("p50"), milliseconds(load.p50_ms));
  setText(by("p99"), milliseconds(load.p99_ms));
  setText(by("booked"), count(load.booked));
  const reasons = Object.entries(load.refused ?? {}).filter(([, refusals]) => refusals > 0);
  setText(by("refused"), count(reasons.reduce((sum, [, refusals]) => sum + refusals, 0)));
  setText(by("reasons"), reasons.length
    ? `Refused: ${reasons.map(([reason, refusals]) => `${count(refusals)} ${reason}`).join(", ")}.` : "");
  setText(by("load-pause"), paused ? "Resume bookings" : "Pause bookings");
  showTrouble(failure, load.error);
  if (load.clients === null) return; // other programs book
  setControl(by("clients"), "value", String(load.clients));
  setControl(by("pace"), "value", String(nearestPace(load.rate)));
  showClients();
  showPace();
  setChoice(by("mode"), load.batch ? "batch" : "single");
}

export const parts = { load: showLoad };
