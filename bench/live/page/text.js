// Numbers as text, with their units.

const NAMES = {
  duckdb: "DuckDB", polars: "Polars", pyarrow: "PyArrow", datafusion: "DataFusion", chdb: "chDB",
  daft: "Daft", spark: "Spark",
};
const ABOUT_EQUAL = 1.05;
const known = (value) => value !== null && value !== undefined;

export const engineName = (name) => NAMES[name] ?? name;

export function count(value) {
  return known(value) ? Math.round(value).toLocaleString("en-US") : "–";
}

export function plural(value, noun) {
  return `${count(value)} ${value === 1 ? noun : `${noun}s`}`;
}

// Three digits: 0.0123, 0.412, 4.12, 41.2, 412.
export function digits(value) {
  if (!known(value)) return "–";
  if (value >= 100) return count(value);
  if (value === 0) return "0";
  const places = Math.min(4, Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value)))));
  return value.toFixed(places);
}

// In milliseconds if `largest`, the largest of the compared times, is below a second.
export function seconds(value, largest = value) {
  if (!known(value)) return "–";
  return largest < 1 ? `${digits(value * 1000)} ms` : `${digits(value)} s`;
}

// Seconds with one decimal, without the unit: an age changes too fast for more.
export const age = (value) => (known(value) ? (value < 100 ? value.toFixed(1) : count(value)) : "–");

export function milliseconds(value) {
  if (!known(value)) return "–";
  return `${value < 10 ? value.toFixed(1) : count(value)} ms`;
}

export function bytes(value) {
  if (!known(value)) return "–";
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
    if (value >= size) return `${digits(value / size)} ${unit}`;
  }
  return `${count(value)} bytes`;
}

export function percent(share) {
  if (share === 0) return "0%";
  if (share < 0.0001) return "< 0.01%";
  return `${digits(share * 100)}%`;
}

export function times(ratio) {
  return `${ratio >= 10 ? count(ratio) : ratio.toFixed(1)}×`;
}

// "DuckDB on columns is 7.3× faster than Postgres"
export function winner(rowSeconds, columnSeconds, engine) {
  const columns = engineName(engine), ratio = rowSeconds / columnSeconds;
  if (Math.max(ratio, 1 / ratio) < ABOUT_EQUAL) return `Postgres and ${columns} take about the same time`;
  return ratio > 1
    ? `${columns} on columns is ${times(ratio)} faster than Postgres`
    : `Postgres on rows is ${times(1 / ratio)} faster than ${columns}`;
}
