// Draws each chart from the JSON next to it. Colours come from the style sheet: charts are redrawn if the theme changes
// and for printing.
"use strict";

const PAPER_PIXELS = 660; // an A4 page between its margins

function coloured(value, style) {
  if (Array.isArray(value)) return value.map((one) => coloured(one, style));
  if (value !== null && typeof value === "object")
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, coloured(one, style)]));
  const named = typeof value === "string" && /^var\((--[\w-]+)\)$/.exec(value);
  return named ? style.getPropertyValue(named[1]).trim() : value;
}

function draw(plot, width) {
  const spec = JSON.parse(plot.nextElementSibling.textContent);
  const { data, layout } = coloured(spec, getComputedStyle(document.documentElement));
  const size = width ? { width } : { autosize: true };
  return Plotly.react(plot, data, { ...layout, ...size }, { displayModeBar: false, responsive: !width });
}

const plots = [...document.querySelectorAll(".plot")];
const drawAll = (width) => Promise.all(plots.map((plot) => draw(plot, width)));

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll());
matchMedia("print").addEventListener("change", (paper) => drawAll(paper.matches ? PAPER_PIXELS : undefined));

// Draws one chart at a time, so that the page stays responsive.
(async () => {
  for (const plot of plots) {
    await draw(plot);
    await new Promise((done) => setTimeout(done));
  }
  document.documentElement.dataset.drawn = plots.length;
})();
