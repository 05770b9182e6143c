"""Renders a page in Chromium at a given width, and reports its content, overflow and errors."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SECONDS_MAX = 90

# Errors are caught from the first line on.
CATCH = """<script>
window.faults = [];
addEventListener("error", (fault) => faults.push(String(fault.message)));
addEventListener("unhandledrejection", (fault) => faults.push(String(fault.reason)));
addEventListener("securitypolicyviolation", (fault) => faults.push(`fetched ${fault.blockedURI}`));
console.error = (...words) => faults.push(words.join(" "));
</script>"""

# A scrolled table may be wider than the screen; nothing else.
PROBE = """<script>
(async () => {
  const drawn = () => document.documentElement.dataset.drawn !== undefined;
  while (!drawn()) await new Promise((done) => setTimeout(done, 50));
  const outside = (box) => box.right > innerWidth + 1 || box.left < -1;
  const seen = (box) => box.width > 0 && box.height > 0;
  const box = (one) => one.getBoundingClientRect();
  const marks = (plot) => [...plot.querySelectorAll(".points path")].map(box).filter(seen);
  // A bar of a logarithmic scale begins far outside of its plot, and is cut there.
  const within = (plot) => (mark) => mark.right > box(plot).left && mark.left < box(plot).right
    && box(plot).right <= innerWidth + 1 && mark.bottom > box(plot).top && mark.top < box(plot).bottom;
  parent.postMessage({
    faults,
    width: innerWidth,
    scrolls: document.documentElement.scrollWidth > innerWidth,
    outside: [...document.querySelectorAll("body *")]
      .filter((one) => !one.closest(".wide, pre, svg") && outside(box(one)))
      .map((one) => `${one.tagName} ${one.className}`),
    paper: getComputedStyle(document.body).backgroundColor,
    ink: [...new Set([...document.querySelectorAll(".plot .xtick text")].map((text) => text.style.fill))],
    plots: [...document.querySelectorAll(".plot")].map((plot) => ({
      title: plot.getAttribute("aria-label"),
      marks: marks(plot).length,
      lost: marks(plot).filter((mark) => !within(plot)(mark)).length,
    })),
  }, "*");
})();
</script>"""

# A frame, because a window cannot be as narrow as a phone.
FRAME = """<!doctype html><body>
<iframe src="page.html" width="{width}" height="900" style="border:0"></iframe>
<script>
addEventListener("message", (told) => document.body.dataset.seen = JSON.stringify(told.data));
</script>"""


def look_at(page: str, folder: Path, width: int, *, dark: bool = False) -> dict[str, Any]:
    """`width` in pixels. Raises AssertionError if the page does not finish rendering."""
    probed = page.replace("<head>", f"<head>{CATCH}", 1).replace("</body>", f"{PROBE}</body>")
    (folder / "page.html").write_text(probed)
    (folder / "frame.html").write_text(FRAME.format(width=width))
    assert CHROMIUM is not None
    arguments = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={folder / 'profile'}",
        f"--window-size={width + 100},1000",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        "--virtual-time-budget=30000",
        "--dump-dom",
        (folder / "frame.html").as_uri(),
    ]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    found = re.search(r'data-seen="([^"]*)"', done.stdout)
    assert found, f"the page was not drawn to its end: {done.stderr[-1000:]}"
    seen: dict[str, Any] = json.loads(unescape(found[1]))
    return seen
