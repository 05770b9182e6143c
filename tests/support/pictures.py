"""Makes the pictures of the README from real runs: `make pictures`.

    docs/terminal.svg   `ridelake simulate`, `sync` and `sql --why` in a terminal
    docs/live.webp      the page of `ridelake live` in Chromium, at twice its speed

The figures in them depend on the machine and its load.
"""

import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from io import BytesIO, StringIO
from itertools import groupby
from pathlib import Path

import pyte
from browser import BrowserPage, browser_page
from live_page import running_live, send
from PIL import Image
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import MONOKAI
from rich.text import Text
from terminal import on_a_terminal, ridelake_child

DOCS = Path(__file__).parents[2] / "docs"
RIDES = "500000"

COLUMNS, LINES = 100, 200
QUERY = "SELECT AVG(Price) FROM RideTable WHERE City = 'Stanford' AND Month = 'July'"
COMMANDS = [
    ("simulate", "--clients", "8", "--rides", "3000"),
    ("sync", "--once"),
    ("sql", "--why", QUERY),
]
FONT_FACES = re.compile(r"@font-face \{.*?\}", re.DOTALL)  # an SVG in a page must not load external fonts

WINDOW, SIZE = (1280, 744), (960, 558)
FRAME_SECONDS, SPEED = 0.5, 2
WARM_SECONDS = 60.0  # fills the plots before the film begins
RECOVERY_SECONDS_MAX = 60.0
QUALITY = 60
LOAD = {"paused": False, "clients": 4, "rate": None, "batch": False}
CAPTION = """(() => {
  const strip = document.getElementById("caption") ?? document.createElement("p");
  strip.id = "caption";
  strip.textContent = %s;
  strip.style.cssText = "position: fixed; inset: auto 0 0; z-index: 9; height: 42px; margin: 0; " +
    "padding: 0 18px; font: bold 21px/42px sans-serif; color: white; background: #1d3557";
  document.body.append(strip);
  for (const node of document.querySelectorAll("button, label")) node.style.outline = "";
  const pressed = document.querySelector(%s);
  if (!pressed) return;
  (pressed.closest("label") ?? pressed).style.outline = "4px solid #d1495b";
  pressed.click();
})()"""
# The caption, the control to press, and the duration in seconds.
SCENES = [
    ("Bookings run: each request becomes a row in Postgres", "", 4.0),
    ("Ask the rows: Postgres reads the whole heap", "#target [value=rows]", 7.0),
    ("Ask the columns: DuckDB reads only the chunks it needs", "#target [value=columns]", 7.0),
    ("Pause the sync: the lag grows", "#sync-pause", 7.0),
    ("Resume it: the next epoch has the rows since then", "#sync-pause", 7.0),
]
LAST_SECONDS = 6.0


def draw_terminal(home: Path) -> str:
    """The commands and what they print, as an SVG document."""
    environment = os.environ | {"RIDELAKE_HOME": str(home), "COLUMNS": str(COLUMNS), "LINES": "40"}
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.Stream(screen)
    for command in COMMANDS:
        words = [f'"{word}"' if " " in word else word for word in command]
        stream.feed(f"\x1b[1;32m$\x1b[0m \x1b[1mridelake {' '.join(words)}\x1b[0m\r\n")
        stream.feed(on_a_terminal(*command, environment=environment) + "\r\n")
    console = Console(record=True, width=COLUMNS, file=StringIO(), color_system="truecolor")
    for line in range(screen.cursor.y - 1):
        cells = [screen.buffer[line][column] for column in range(COLUMNS)]
        parts = groupby(cells, style_of)
        text = Text.assemble(*(("".join(cell.data for cell in part), style) for style, part in parts))
        text.rstrip()
        console.print(text)
    drawn = console.export_svg(title="ridelake", theme=MONOKAI)
    return FONT_FACES.sub("", drawn)


def style_of(cell: pyte.screens.Char) -> Style:
    return Style(color=None if cell.fg == "default" else cell.fg, bold=cell.bold)


class Film:
    """Frames of a page, each with the time until the next one."""

    def __init__(self, page: BrowserPage) -> None:
        self._page = page
        self._frames: list[Image.Image] = []
        self._times: list[float] = []

    def take(self) -> None:
        began = time.monotonic()
        picture = Image.open(BytesIO(self._page.screenshot())).convert("RGB")
        self._frames.append(picture.resize(SIZE, Image.Resampling.LANCZOS))
        self._times.append(began)
        time.sleep(max(0.0, began + FRAME_SECONDS - time.monotonic()))

    def take_until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self.take()

    def take_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.take_until(lambda: time.monotonic() >= end)

    def save(self, path: Path) -> None:
        ends = [*self._times[1:], self._times[-1] + LAST_SECONDS]
        milliseconds = [
            round((end - begin) / SPEED * 1000) for begin, end in zip(self._times, ends, strict=True)
        ]
        first, *others = self._frames
        first.save(path, save_all=True, append_images=others, duration=milliseconds, loop=0, quality=QUALITY)


def film_live(folder: Path) -> Film:
    """Film the scenes, then kill the server and film until it has recovered. Raises AssertionError if it does
    not recover or has lost a ride."""
    with running_live(folder) as (_, url), browser_page(folder / "browser") as page:
        page.call("Emulation.setScrollbarsHidden", hidden=True)
        page.open(url, *WINDOW)
        send(f"{url}load", json.dumps(LOAD).encode())
        page.wait_for("/faster|same time/.test(document.getElementById('winner').textContent)", 300)
        time.sleep(WARM_SECONDS)
        page.click("#target [value=off]")
        film = Film(page)
        for caption, pressed, seconds in SCENES:
            show(page, caption, pressed)
            film.take_for(seconds)
        page.evaluate("document.getElementById('timeline').scrollIntoView()")
        show(page, "Kill the server", "#crash-run")
        film.take_for(1.0)
        give_up = time.monotonic() + RECOVERY_SECONDS_MAX
        lost = "document.getElementById('crash-lost').textContent"
        film.take_until(lambda: page.evaluate(lost) != "–" or time.monotonic() > give_up)
        assert page.evaluate(lost) == "0", "the server has not recovered, or has lost a ride"
        show(page, "Postgres has recovered: every acknowledged ride is found", "")
        film.take_for(LAST_SECONDS)
    return film


def show(page: BrowserPage, caption: str, pressed: str) -> None:
    page.evaluate(CAPTION % (json.dumps(f"{SPEED}×  {caption}"), json.dumps(pressed or "#none")))


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home = folder / ".ridelake"
        for command in (("up",), ("seed", "--rides", RIDES), ("sync", "--once")):
            done = ridelake_child("--home", home, *command)
            assert done.returncode == 0, done.stderr
        try:
            (DOCS / "terminal.svg").write_text(draw_terminal(home), "utf-8")
        finally:
            ridelake_child("--home", home, "down")
        film_live(folder).save(DOCS / "live.webp")
    for file in ("terminal.svg", "live.webp"):
        print(f"{file}: {(DOCS / file).stat().st_size:,} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
