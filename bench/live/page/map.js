// A schematic map: a dot per zone. Its area is the number of drivers; the filled part is busy.

import { by, setAttribute, setText, svg } from "./dom.js";
import { count, plural } from "./text.js";

// The box of each city in the picture of 400 × 176, from west to east.
const BOXES = {
  "San Francisco": [4, 18, 104, 72], "Stanford": [4, 112, 104, 60], "Austin": [122, 96, 96, 76],
  "New York": [232, 18, 164, 154],
};
const MARGIN = 6;
const RADIUS_MEAN = 3.4; // of a zone with the mean number of drivers
const RADIUS_MAX = 9;
const NEAR = 14; // the distance from which a pointer selects a zone, in units of the picture

let zones = new Map(), captions = new Map(), cities = [], legend, near = null;

function boxOf(city, index) {
  return BOXES[city.name] ?? [4 + index * 100, 18, 92, 154];
}

export function start(hello) {
  const picture = by("map");
  picture.replaceChildren();
  zones = new Map();
  captions = new Map();
  cities = hello.cities;
  cities.forEach((city, index) => {
    const [left, top, width, height] = boxOf(city, index);
    const caption = svg("text", { x: left + 1, y: top - 4, class: "city" });
    captions.set(city.id, caption);
    picture.append(svg("rect", { x: left, y: top, width, height, rx: 6, class: "land" }), caption);
    for (const zone of city.zones) {
      const x = left + MARGIN + zone.x * (width - 2 * MARGIN);
      const y = top + MARGIN + zone.y * (height - 2 * MARGIN);
      const all = svg("circle", { cx: x, cy: y, r: 0, class: "all" });
      const busy = svg("circle", { cx: x, cy: y, r: 0, class: "busy" });
      zones.set(zone.id, { ...zone, city, x, y, all, busy, available: 0, taken: 0 });
      picture.append(all, busy);
    }
  });
  legend = svg("g", { class: "map-keys" },
    svg("circle", { cx: 128, cy: 32, r: 5, class: "all" }), svg("text", { x: 138, y: 36 }),
    svg("circle", { cx: 128, cy: 50, r: 5, class: "busy" }), svg("text", { x: 138, y: 54 }));
  picture.append(legend);
}

function showDrivers(drivers) {
  const total = drivers.reduce((sum, [, available, taken]) => sum + available + taken, 0);
  const scale = RADIUS_MEAN / Math.sqrt(Math.max(1, total / drivers.length));
  const radius = (number) => Math.min(RADIUS_MAX, scale * Math.sqrt(number)).toFixed(1);
  const totals = new Map(cities.map((city) => [city.id, [0, 0]]));
  for (const [id, available, taken] of drivers) {
    const zone = zones.get(id);
    if (!zone) continue;
    [zone.available, zone.taken] = [available, taken];
    setAttribute(zone.all, "r", radius(available + taken));
    setAttribute(zone.busy, "r", radius(taken));
    totals.get(zone.city.id)[0] += available;
    totals.get(zone.city.id)[1] += taken;
  }
  let free = 0, busy = 0;
  for (const city of cities) {
    const [available, taken] = totals.get(city.id);
    setText(captions.get(city.id), `${city.name} ${count(available)} free`);
    free += available;
    busy += taken;
  }
  const [freeText, busyText] = legend.querySelectorAll("text");
  setText(freeText, `${count(free)} free`);
  setText(busyText, `${count(busy)} busy`);
  const summary = cities.map((city) => {
    const [available, taken] = totals.get(city.id);
    return `${city.name}: ${count(available)} free, ${count(taken)} busy`;
  }).join("; ");
  setAttribute(by("map"), "aria-label", `Map of the drivers. ${summary}.`);
  showZone();
}

function showZone() {
  setText(by("zone"), near
    ? `${near.name}: ${plural(near.available, "driver")} free, ${count(near.taken)} busy`
    : "Area of a dot: the drivers of a zone; filled: busy.");
}

by("map").addEventListener("pointermove", (event) => {
  const box = by("map").getBoundingClientRect();
  const scale = 400 / box.width;
  const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  const distance = (zone) => Math.hypot(zone.x - x, zone.y - y);
  const nearest = [...zones.values()].reduce((one, other) => (distance(other) < distance(one) ? other : one));
  near = distance(nearest) < NEAR ? nearest : null;
  showZone();
});
by("map").addEventListener("pointerleave", () => {
  near = null;
  showZone();
});

export const parts = { drivers: showDrivers };
