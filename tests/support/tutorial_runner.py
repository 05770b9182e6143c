"""Runs the commands in the console blocks of docs/tutorial and inserts their output below them.

    python tests/support/tutorial_runner.py             # updates all pages
    python tests/support/tutorial_runner.py 04 05 06    # updates these pages

Run it when the output of a command has changed. The pages share one working directory and run in order, as
for a reader. If pages are listed, the page that creates their store must be among them. Pages that use the
store of 1,000,000 rides name its folder; the others use the default folder.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial"
BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
PROMPT = "$ ridelake "
LARGE_HOME = "large"
COMMAND_SECONDS_MAX = 900  # seeding 1,000,000 rides takes 3 minutes on a busy machine
# Progress lines. They only appear in commands that take long.
PROGRESS = re.compile(r"\d+ s: |[\w ]+: [\d,]+( of [\d,]+ \(\d+%\), \d+ s left|, \d+ s)$")


def pages() -> list[Path]:
    return sorted(TUTORIAL.glob("[0-9]*.md"))


def large(page: Path) -> bool:
    """Whether the page uses the store of 1,000,000 rides."""
    return f"--home {LARGE_HOME}" in "".join(BLOCK.findall(page.read_text()))


def played(working_directory: Path, some_pages: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Each page, with the current output of its commands."""
    homes = {LARGE_HOME if large(page) else ".ridelake" for page in some_pages}
    for home in homes:
        run(working_directory, "up", "--home", home)
    try:
        for page in some_pages:
            yield page, BLOCK.sub(lambda block: _with_outputs(working_directory, block[0]), page.read_text())
    finally:
        for home in homes:
            run(working_directory, "down", "--home", home)


def _with_outputs(working_directory: Path, block: str) -> str:
    commands = [line for line in block.splitlines() if line.startswith("$ ")]
    return "".join(
        f"{line}\n{run(working_directory, *shlex.split(line.removeprefix(PROMPT)))}" for line in commands
    )


def run(working_directory: Path, *arguments: str) -> str:
    """The output on stdout and stderr. The exit code must be 0, or 1 for a finding."""
    ours = ("RIDELAKE_", "PYTEST_")  # a pytest worker disables timing
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(
        [sys.executable, "-m", "ridelake", *arguments],
        cwd=working_directory,
        env=env | {"COLUMNS": "100", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=COMMAND_SECONDS_MAX,
        check=False,
    )
    assert done.returncode in (0, 1), (arguments, done.stdout)
    lines = [line.rstrip() for line in done.stdout.splitlines() if not PROGRESS.match(line)]
    return "".join(f"{line}\n" for line in lines)


def shape(text: str) -> list[str]:
    """The words, without the parts that differ between machines and runs: numbers and their alignment, bars,
    counts of random outcomes, verdicts, warnings."""
    text = re.sub(r"^(?:doubt|warning): .*\n(?: +.*\n)*", "", text, flags=re.MULTILINE)
    text = re.sub(r"^ +(?:HOLDS|DOES NOT HOLD|TOO FEW ROWS).*\n(?: +.*\n)*", "", text, flags=re.MULTILINE)
    text = re.sub(r"(first; seconds):.*?one\s+more$", r"\1:", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"(refused|cancelled by|retries):.*", r"\1:", text)
    text = re.sub(r"([✗✓] [^:]*?):[^.]*\.", r"\1:", text)  # the anomalies that a strategy showed
    text = re.sub(r"^[✗✓?] ", "", text, flags=re.MULTILINE)
    words = re.sub(r"[▏▎▍▌▋▊▉█▓▒░─┊·≡]+", " ", text)
    words = re.sub(r"\d+-[0-9a-f]+-[0-9a-f]+\.parquet|(?:\b[0-9a-f]{2} )+…?", " ", words)
    words = re.sub(r"(?<![A-Za-z])\d[\d,.:+\-]*(?:e-\d+)?|\b(?:bytes|kB|MB|GB)\b", " ", words)
    return words.split()


if __name__ == "__main__":
    chosen = [page for page in pages() if not sys.argv[1:] or page.name.split("-")[0] in sys.argv[1:]]
    with tempfile.TemporaryDirectory(prefix="ridelake-tutorial-") as folder:
        for page, text in played(Path(folder), chosen):
            page.write_text(text)
            print(page.name, flush=True)
