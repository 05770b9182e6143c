// The median of the last times of each side, because a single run on a busy machine is not representative.

const RUNS = 7;

let asked = "", times = { rows: [], columns: [] };

// Called once for each new result. Returns the medians in seconds (null: no time) and the number of runs.
export function medians(question, results) {
  const key = JSON.stringify([question.sql, question.engine, question.fresh]);
  if (key !== asked) times = { rows: [], columns: [] };
  asked = key;
  const found = { runs: 0 };
  for (const side of ["rows", "columns"]) {
    const seconds = results[side]?.seconds ?? null;
    times[side] = seconds === null ? [] : [...times[side], seconds].slice(-RUNS);
    found[side] = median(times[side]);
    found.runs = Math.max(found.runs, times[side].length);
  }
  return found;
}

function median(values) {
  if (!values.length) return null;
  const sorted = [...values].sort((one, other) => one - other), middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
