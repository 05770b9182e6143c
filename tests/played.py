"""The pages of docs/lesson, played: each command in a console block is run, and its output stands below it.

    python tests/played.py        # writes the outputs anew, after a change of what a command prints

All pages share one home, from the first to the last, as a reader who follows them does.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

LESSON = Path(__file__).parents[1] / "docs" / "lesson"
BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
PROMPT = "$ ridelake "
# Told only where the work takes its time.
PROGRESS = re.compile(r"\d+ s: |[\w ]+: [\d,]+( of [\d,]+ \(\d+%\), \d+ s left|, \d+ s)$")


def pages() -> list[Path]:
    return sorted(LESSON.glob("[0-9]*.md"))


def played(home: Path) -> Iterator[tuple[Path, str]]:
    """Every page with what its commands print now."""
    run(home, "up")
    try:
        for page in pages():
            yield page, BLOCK.sub(lambda block: _played(home, block[0]), page.read_text())
    finally:
        run(home, "down")


def _played(home: Path, block: str) -> str:
    commands = [line for line in block.splitlines() if line.startswith("$ ")]
    return "".join(f"{line}\n{run(home, *shlex.split(line.removeprefix(PROMPT)))}" for line in commands)


def run(home: Path, *arguments: str) -> str:
    """What it prints on both streams. Raises if it fails otherwise than by finding what it looked for."""
    ours = ("RIDELAKE_", "PYTEST_")  # a worker of pytest times nothing
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(
        [sys.executable, "-m", "ridelake", *arguments],
        cwd=home,
        env=env | {"COLUMNS": "100", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode in (0, 1), (arguments, done.stdout)
    lines = [line.rstrip() for line in done.stdout.splitlines() if not PROGRESS.match(line)]
    return "".join(f"{line}\n" for line in lines)


def shape(text: str) -> list[str]:
    """Its words without what differs from machine to machine and from run to run: numbers and the room that
    they take, bars, what was counted of what happened, a verdict, a doubt."""
    text = re.sub(r"^doubt: .*\n|^ +(?:HOLDS|DOES NOT HOLD).*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"(refused|cancelled by|retries|first; seconds):.*", r"\1:", text)
    text = re.sub(r"([✗✓] [^:]*?):[^.]*\.", r"\1:", text)  # which anomalies the rivals have run into
    text = re.sub(r"^[✗✓?] ", "", text, flags=re.MULTILINE)
    words = re.sub(r"[▏▎▍▌▋▊▉█▓▒░─┊·≡]+", " ", text)
    words = re.sub(r"\d+-[0-9a-f]+-[0-9a-f]+\.parquet|(?:\b[0-9a-f]{2} )+…?", " ", words)
    words = re.sub(r"(?<![A-Za-z])\d[\d,.:+\-]*(?:e-\d+)?|\b(?:bytes|kB|MB|GB)\b", " ", words)
    return words.split()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="ridelake-lesson-") as folder:
        for page, text in played(Path(folder)):
            page.write_text(text)
            print(page.name)
