// Row → epoch → files: the lag, the last epoch, and the controls of the sync.

import { by, setAttribute, setControl, setStyle, setText, svg } from "./dom.js";
import { change, post, showTrouble } from "./post.js";
import { age, bytes, count, percent, seconds } from "./text.js";

const failure = by("sync-failure");
const VERIFY = "Verify compares every row of the epoch with Postgres.";
const EPOCHS = 24; // drawn
const HEIGHT = 40;
let paused = false, shownEpoch = null;
let recent = []; // the number and the rows of the last epochs

by("sync-pause").addEventListener("click", () => post("sync", { paused: !paused }, failure));
by("verify").addEventListener("click", () => post("verify", {}, failure));
by("every").addEventListener("change", () => {
  change(by("every"), "sync", { every_seconds: Number(by("every").value) }, failure);
});

export function start() {}

function bar(name, value, most) {
  const share = most ? (value ?? 0) / most : 0;
  setStyle(by(name).parentElement.querySelector("i"), "width", `${Math.min(100, share * 100).toFixed(2)}%`);
}

function showSync(sync) {
  paused = sync.state === "paused";
  setText(by("lag"), age(sync.lag_seconds));
  setText(by("sync-state"), paused ? "paused" : "");
  setText(by("epoch"), count(sync.epoch));
  setText(by("epoch-rows"), count(sync.rows));
  setText(by("epoch-seconds"), seconds(sync.epoch_seconds));
  const most = Math.max(sync.table_bytes ?? 0, sync.lake_bytes ?? 0);
  setText(by("table-bytes"), bytes(sync.table_bytes));
  setText(by("lake-bytes"), bytes(sync.lake_bytes));
  const share = sync.table_bytes ? ` (${percent((sync.bytes ?? 0) / sync.table_bytes)})` : "";
  setText(by("epoch-bytes"), `${bytes(sync.bytes)}${share}`);
  bar("table-bytes", sync.table_bytes, most);
  bar("lake-bytes", sync.lake_bytes, most);
  bar("epoch-bytes", sync.bytes, most);
  setAttribute(by("sizes"), "aria-label", `Tables in Postgres: ${bytes(sync.table_bytes)}. ` +
    `Files of the lake: ${bytes(sync.lake_bytes)}. The last epoch wrote ${bytes(sync.bytes)}.`);
  setText(by("sync-pause"), paused ? "Resume sync" : "Pause sync");
  setControl(by("every"), "value", String(sync.every_seconds));
  showGrowth(sync);
  showVerify(sync.verify);
  showTrouble(failure, sync.trouble);
}

// A bar for each epoch: after a pause, the next one is larger.
function showGrowth({ epoch, rows }) {
  if (!epoch || shownEpoch === epoch) return;
  const isFirst = shownEpoch === null; // it may be a copy of all rows
  shownEpoch = epoch;
  if (isFirst) return;
  recent = [...recent, { epoch, rows: rows ?? 0 }].slice(-EPOCHS);
  const most = Math.max(1, ...recent.map((one) => one.rows));
  const width = 240 / EPOCHS;
  by("growth").replaceChildren(...recent.map((one, index) => {
    const height = Math.max(1, (one.rows / most) * HEIGHT);
    const x = 240 - (recent.length - index) * width;
    return svg("rect", { x, y: HEIGHT - height, width: width - 1.5, height });
  }));
  const text = `Rows per epoch, at most ${count(most)}`;
  setText(by("growth-text"), text);
  setAttribute(by("growth"), "aria-label", `${text}; epoch ${count(epoch)} has ${count(rows)}.`);
}

function showVerify(verify) {
  const running = verify?.state === "running";
  by("verify").disabled = running;
  const node = by("verify-text");
  setAttribute(node, "data-verdict", verify?.state ?? "idle");
  setAttribute(node, "title", verify?.text ?? "");
  const sign = { equal: "✓ ", differs: "✗ ", failed: "✗ " }[verify?.state] ?? "";
  setText(node, running ? "Comparing every row with Postgres…" : sign + (verify?.text || VERIFY));
}

export const parts = { sync: showSync };
