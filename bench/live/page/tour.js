// The tour: seven steps. Each sets the page up, says what to look at, and has an address (#step-3).

import { by, element, setAttribute, setStyle, setText } from "./dom.js";
import { post } from "./post.js";

const ADDRESS = /^#step-(\d+)$/;

let steps = [], current = 0; // 0: closed
let allowed = false;

export async function start() {
  steps = (await (await fetch("assets/tour.json")).json()).steps;
  by("tour-steps").replaceChildren(...steps.map((step, index) => {
    const number = String(index + 1), label = `Step ${number}: ${step.title}`;
    return element("li", {}, element("a", { href: `#step-${number}`, "aria-label": label }, number));
  }));
  by("tour-open").addEventListener("click", () => (current ? close() : go(1)));
  by("tour-close").addEventListener("click", close);
  by("tour-previous").addEventListener("click", () => go(current - 1));
  by("tour-next").addEventListener("click", () => (current === steps.length ? close() : go(current + 1)));
  addEventListener("hashchange", showAddress);
  addEventListener("keydown", onKey);
}

// A store of a DSN is only read, so no step can set it up.
export function allow(embedded) {
  by("tour-open").hidden = !embedded;
  if (embedded && !allowed) {
    allowed = true;
    showAddress();
  }
}

function go(step) {
  if (step >= 1 && step <= steps.length) location.hash = `step-${step}`;
}

function close() {
  history.replaceState(null, "", location.pathname);
  show(0);
  by("tour-open").focus();
}

function showAddress() {
  const step = Number(ADDRESS.exec(location.hash)?.[1] ?? 0);
  const next = allowed && step <= steps.length ? step : 0;
  if (next === current) return;
  show(next);
  if (next) post("setup", { step: next }, by("tour-failure"));
}

function show(step) {
  current = step;
  by("tour").hidden = step === 0;
  setAttribute(by("tour-open"), "aria-expanded", step > 0);
  for (const panel of document.querySelectorAll("[data-watched]")) panel.removeAttribute("data-watched");
  if (!step) {
    document.documentElement.style.removeProperty("scroll-padding");
    return;
  }
  const { title, look, panel } = steps[step - 1];
  setText(by("tour-title"), `${step}. ${title}`);
  setText(by("tour-look"), look);
  by("tour-previous").disabled = step === 1;
  setText(by("tour-next"), step === steps.length ? "Finish" : "Next →");
  [...by("tour-steps").children].forEach((item, index) => {
    if (index + 1 === step) item.firstChild.setAttribute("aria-current", "step");
    else item.firstChild.removeAttribute("aria-current");
  });
  const panels = panel.map(by).filter((node) => node && !node.closest("[hidden]"));
  for (const node of panels) node.setAttribute("data-watched", "");
  scrollTo(panels);
}

// On a wide page the last panel of the step is below the others, which are side by side. On a narrow page the
// panels are below each other, and the first one is shown.
function scrollTo(panels) {
  const wide = matchMedia("(min-width: 75rem)").matches, tall = by("tour").offsetHeight + 12;
  const isBelow = getComputedStyle(by("tour")).position === "fixed";
  setStyle(document.documentElement, "scroll-padding", isBelow ? `1rem 0 ${tall}px` : `${tall}px 0 1rem`);
  const [panel, block] = wide && panels.length > 1 ? [panels.at(-1), "nearest"] : [panels[0], "start"];
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  panel?.scrollIntoView({ block, behavior: still ? "auto" : "smooth" });
}

function onKey(event) {
  const typing = event.target.closest("input, select, textarea, [role=region]");
  if (!current || typing || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "ArrowRight") go(current + 1);
  else if (event.key === "ArrowLeft") go(current - 1);
  else if (event.key === "Escape") close();
  else return;
  event.preventDefault();
}
