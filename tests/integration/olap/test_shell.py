"""The shell of `ridelake sql`, in a pseudo-terminal."""

import fcntl
import os
import pty
import re
import select
import signal
import stat
import struct
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from terminal import place_options

from olap.question import statements
from olap.shell_input import COMMANDS
from ridelake.settings import Settings

ENDLESS = (
    "SELECT COUNT(*) FROM rides a, rides b, rides c, rides d"
    " WHERE a.fare_cents * b.fare_cents % 7 + c.fare_cents * d.fare_cents % 11 = 3;"
)
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]|\r")
WAIT_SECONDS = 60


class Terminal:
    """A command in a pseudo-terminal: types input and reads the output."""

    def __init__(self, *arguments: str) -> None:
        self.pid, self._end = pty.fork()
        if self.pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # background jobs ignore SIGINT by default
            os.environ["TERM"] = "xterm"
            command = [sys.executable, "-m", "ridelake", "sql", *arguments]
            os.execve(sys.executable, command, dict(os.environ))  # without the variables that readline sets
        fcntl.ioctl(self._end, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
        self._seen = ""

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def read(self, until: str, seconds: float = WAIT_SECONDS) -> str:
        """The output since the last read, up to a match of `until`."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(until, self._seen)):
            assert time.monotonic() < deadline, f"no {until!r} in {self._seen!r}"
            if select.select([self._end], [], [], 0.2)[0]:
                try:
                    data = os.read(self._end, 65536)
                except OSError as error:
                    raise AssertionError(f"the command ended without {until!r}: {self._seen!r}") from error
                if b"\x1b[6n" in data:  # a query for the cursor position
                    os.write(self._end, b"\x1b[1;1R")
                self._seen += ESCAPES.sub("", data.decode(errors="replace"))
        shown, self._seen = self._seen[: found.end()], self._seen[found.end() :]
        return shown

    def discard(self) -> None:
        """Discard all output up to now and in the next half second."""
        with suppress(AssertionError):
            self.read("text that never appears", 0.5)
        self._seen = ""

    def press_until(self, key: str, until: str) -> str:
        """Press the key repeatedly, because Ctrl-C has no effect before the query has started."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            self.type(key)
            with suppress(AssertionError):
                return self.read(until, 1.0)
            assert time.monotonic() < deadline, f"no {until!r} in {self._seen!r}"

    def do(self, line: str, until: str) -> str:
        """Type the line and return the output up to `until`."""
        self.type(line)
        return self.read(until)

    def close(self) -> None:
        """Kill the command."""
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._end)

    def exit_code(self) -> int:
        """Wait for the end of the command and return its exit code."""
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            if select.select([self._end], [], [], 0.1)[0]:
                try:
                    os.read(self._end, 65536)
                except OSError:  # the command has closed the terminal
                    break
        else:
            raise AssertionError(f"the command did not end: {self._seen!r}")
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class SharedTerminal:
    """One terminal for the tests that do not change its state, because a start takes a second."""

    def __init__(self, where: list[str]) -> None:
        self._where = where
        self._terminal: Terminal | None = None

    def get(self) -> Terminal:
        if self._terminal is None:
            self._terminal = Terminal(*self._where)
            self._terminal.read("duckdb>")
        return self._terminal

    def wait_for_prompt(self) -> None:
        self.get().do("SELECT 'at the ' || 'end' AS prompt;\r", "at the end")
        self.get().read("duckdb>")

    def close(self) -> None:
        if self._terminal is not None:
            self._terminal.close()
            self._terminal = None


@pytest.fixture(scope="module")
def where(settings_once: Settings) -> list[str]:
    return place_options(settings_once)


@pytest.fixture(scope="module")
def shared(where: list[str]) -> Iterator[SharedTerminal]:
    with closing(SharedTerminal(where)) as shared:
        yield shared


@pytest.fixture
def terminal(shared: SharedTerminal, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    """A shared terminal. The test restores its settings. After a failed test the terminal is closed."""
    failed = request.session.testsfailed
    yield shared.get()
    if request.session.testsfailed == failed:
        shared.wait_for_prompt()
    else:
        shared.close()


@pytest.fixture
def own_terminal(where: list[str]) -> Iterator[Terminal]:
    """A terminal for one test, which may end the shell."""
    with closing(Terminal(*where)) as terminal:
        terminal.read("duckdb>")
        yield terminal


def test_a_statement_of_several_lines_runs_at_its_semicolon(terminal: Terminal):
    terminal.do("SELECT city_id,\r", r"\.\.\.")
    shown = terminal.do("name FROM cities ORDER BY city_id LIMIT 2;\r", r"2 rows in .*\)")
    assert "1  Stanford" in shown
    assert "integer  text" in shown


def test_tables_columns_and_commands_are_described(terminal: Terminal):
    shown = terminal.do("\\d\r", "RideTable +6")
    assert re.search(r"rides +\d+ +2,000", shown)
    assert re.search(r"name +text\s+time_zone +text", terminal.do("\\d cities\r", "time_zone +text"))
    assert "PAGER" in terminal.do("\\?\r", "Ctrl-D do the same")
    terminal.do("\\nope\r", r"there is no command \\nope: \\\? lists the commands")
    terminal.do("\\d nowhere\r", r"there is no table nowhere; \\d lists the tables")


def test_the_engine_is_switched_and_several_are_compared(terminal: Terminal):
    terminal.do("\\e polars\r", "polars>")
    terminal.do("SELECT COUNT(*) AS n FROM rides;\r", r"2000\s+1 row in .* \(polars")
    terminal.do("\\e postgres,duckdb\r", "postgres,duckdb>")
    assert terminal.do("SELECT COUNT(*) AS n FROM rides;\r", "answers compared first").count("✓") == 2
    terminal.do("\\e oracle\r", "there is no engine 'oracle'")
    terminal.do("SELECT 1 AS still;\r", "still")
    terminal.do("\\e duckdb\r", "duckdb>")


def test_timing_can_be_switched_off(terminal: Terminal):
    terminal.do("\\timing\r", "timing is off")
    terminal.do("SELECT 1 AS x;\r", r"1 row \(duckdb")
    terminal.do("\\timing\r", "timing is on")


def test_the_shell_continues_after_an_error(terminal: Terminal):
    shown = terminal.do("SELECT prise FROM RideTable;\r", r"duckdb: Binder Error.*")
    assert "Traceback" not in shown
    terminal.do("SELECT 41 + 1 AS x;\r", "42")


def test_ctrl_c_cancels_the_line_or_the_query_and_ctrl_d_quits(own_terminal: Terminal):
    terminal = own_terminal
    terminal.do("SELECT 1 +", r"1 \+")
    terminal.type("\x03")
    terminal.read("duckdb>")
    terminal.do("SELECT 5 AS five;\r", r"1 row in")
    for _ in range(10):  # Ctrl-C may arrive before the query has started
        terminal.do(ENDLESS + "\r", "= 3;")
        terminal.discard()
        if "cancelled" in terminal.press_until("\x03", until="cancelled|duckdb>"):
            break
    else:
        pytest.fail("no query was cancelled")
    terminal.do("SELECT 6 AS six;\r", r"1 row in")
    terminal.read("duckdb>")
    terminal.type("\x04")
    assert terminal.exit_code() == 0


def test_tab_completes_names(terminal: Terminal):
    terminal.do("SELECT COUNT(distance_m\t", "etres")
    terminal.do(") AS n FROM rides;\r", r"2000\s+1 row in")
    terminal.read("duckdb>")
    terminal.do("\\d citi\t", "es")
    terminal.do("\r", r"time_zone +text")


def test_the_shell_continues_after_a_timeout(where: list[str]):
    with closing(Terminal(*where, "--timeout", "0.5")) as terminal:
        terminal.read("duckdb>")
        terminal.do(ENDLESS + "\r", "cancelled after 0.5 s without an answer")
        terminal.do("SELECT 6 AS six;\r", "1 row in")
        terminal.read("duckdb>")
        terminal.type("\\q\r")
        assert terminal.exit_code() == 0


def test_the_history_is_readable_by_its_owner_only(
    own_terminal: Terminal, where: list[str], settings_once: Settings
):
    terminal = own_terminal
    terminal.do("SELECT 77 AS first;\r", "1 row in")
    terminal.read("duckdb>")
    terminal.type("\x04")
    assert terminal.exit_code() == 0
    history = settings_once.home / "sql_history"
    assert "SELECT 77 AS first;" in history.read_text()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    with closing(Terminal(*where)) as again:
        again.read("duckdb>")
        again.do("\x1b[A", "SELECT 77")  # arrow up
        again.do("\r", r"77\s+1 row in")
        again.read("duckdb>")
        again.type("\x04")
        assert again.exit_code() == 0


WIDE = "SELECT * FROM rides ORDER BY ride_id LIMIT 2;\r"
TIMESTAMP = r"2025-\d\d-\d\d \d\d:\d\d:\d\d\.\d+\+00:00"


def test_wide_rows_are_expanded_and_times_are_not_truncated(terminal: Terminal):
    shown = terminal.do(WIDE, "2 rows in")
    assert len(re.findall(r"─\[ row [12] \]─", shown)) == 2
    assert re.search(rf"^requested_at +{TIMESTAMP}$", shown, flags=re.MULTILINE)
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 160
    terminal.do("\\x off\r", "expanded display is off")
    assert "row 1" not in terminal.do(WIDE, "2 rows in")
    terminal.do("\\x\r", "expanded display is on")
    assert re.search(r"^answer +42$", terminal.do("SELECT 42 AS answer;\r", "1 row in"), flags=re.MULTILINE)
    terminal.do("\\x perhaps\r", r"\\x takes auto, on or off, not perhaps")
    terminal.do("\\x auto\r", "expanded display is auto")


def test_an_answer_is_written_to_a_file_and_statements_are_read_from_one(terminal: Terminal, tmp_path: Path):
    answer, queries = tmp_path / "answer.csv", tmp_path / "queries.sql"
    terminal.do(f"\\o {answer}\r", "the next answer is written to")
    terminal.do("SELECT 6 AS six;\r", "written: ")
    assert answer.read_text() == "six\n6\n"
    assert "seven" in terminal.do("SELECT 7 AS seven;\r", "1 row in")
    assert answer.read_text() == "six\n6\n"
    queries.write_text("SELECT ';' AS one; -- not; this\n\\timing\nSELECT nope;\nSELECT 3 AS three")
    shown = terminal.do(f"\\i {queries}\r", r"three[\s\S]*1 row \(duckdb")
    assert "timing is off" in shown
    assert "Binder Error" in shown
    terminal.do("\\i nowhere.sql\r", "cannot read .*nowhere.sql: No such file")
    queries.write_text(f"\\i {queries}")
    terminal.do(f"\\i {queries}\r", "runs itself")
    terminal.do("\\o /nowhere/x.csv\r", "the folder /nowhere does not exist")
    # The shell has no option --format, so the message does not name it.
    terminal.do(r"\o x.xls" + "\r", r"the suffix of .*; use .*\.txt\n")
    terminal.do("\\timing\r", "timing is on")


@pytest.mark.parametrize(
    "word", ["exit", *(pytest.param(word, marks=pytest.mark.slow) for word in ("quit", "exit;", r"\q"))]
)
def test_quit_needs_no_semicolon(own_terminal: Terminal, word: str):
    own_terminal.type(f"{word}\r")
    assert own_terminal.exit_code() == 0


def test_help_needs_no_semicolon_and_messages_name_shell_commands(terminal: Terminal):
    listed = terminal.do("help\r", "Ctrl-D do the same")
    assert all(command in listed for command in COMMANDS)
    terminal.do("SELECT $n AS n;\r", r"pass it with \\set n=VALUE")
    terminal.do("\\set n=5\r", r"\$n = 5")
    terminal.do("SELECT $n + 1 AS n;\r", r"6\s+1 row in")
    terminal.do("\\limit 3\r", "rows shown: 3")
    assert "of 2,000" in terminal.do("SELECT ride_id FROM rides;\r", r"\\limit 0 shows all")
    terminal.do("\\timeout x\r", r"\\timeout takes seconds from 0")
    terminal.do("\\timeout 0.5\r", "the timeout is 0.5 s")
    terminal.do(ENDLESS + "\r", r"raise the limit \(\\timeout\)")
    terminal.do("\\timin\r", r"did you mean \\timing")
    terminal.do("SELECT 1 AS a; SELECT 2 AS b;\r", r"1 row in[\s\S]*b[\s\S]*1 row in")
    terminal.do("\\limit\r", "rows shown: 100 on a terminal")
    terminal.do("\\timeout 0\r", "there is no timeout")


def test_a_pager_shows_answers_longer_than_the_screen(where: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PAGER", "sed s/^/paged:/")
    with closing(Terminal(*where)) as terminal:
        terminal.read("duckdb>")
        assert "paged:" not in terminal.do("SELECT ride_id FROM rides LIMIT 3;\r", "3 rows in")
        assert "paged:" in terminal.do("SELECT ride_id FROM rides LIMIT 70;\r", "70 rows in")
        terminal.do("\\pager\r", "the pager is off")
        assert "paged:" not in terminal.do("SELECT ride_id FROM rides LIMIT 70;\r", "70 rows in")


def test_statements_end_at_their_semicolons():
    text = "SELECT ';' ; -- a; b\nSELECT $$;$$, \"x;y\" /* ; */;\n;\\x on\n\\d rides;\nSELECT 1"
    assert list(statements(text)) == [
        "SELECT ';'",
        'SELECT $$;$$, "x;y" /* ; */',
        "\\x on",
        "\\d rides;",
        "SELECT 1",
    ]


def test_a_terminal_shows_100_rows_and_a_note(terminal: Terminal):
    terminal.do("\\pager\r", "the pager is off")
    shown = terminal.do("SELECT ride_id AS r FROM rides ORDER BY ride_id;\r", "shows all")
    assert r"note: the first 100 of 2,000 rows; \limit 0" in shown
    assert len(re.findall(r"^ *\d+$", shown, flags=re.MULTILINE)) == 100
    terminal.do("\\pager\r", "the pager is on")
