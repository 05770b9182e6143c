"""What `ridelake sync` prints."""

import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ridelake.screen import note, say, say_json

if TYPE_CHECKING:
    from lakehouse.capture.sync import SyncResult


class SyncDisplay:
    """On a terminal, one line that is overwritten; otherwise one line per epoch, as text or JSON. An error
    that persists, or a table that stays left out, is reported once. `store`: its name, in a lake of several
    stores; the end of an error is then reported, too."""

    def __init__(self, as_json: bool, store: str = "") -> None:
        self._as_json = as_json
        self._store = store
        self._terminal = sys.stdout.isatty() and not as_json
        self._trouble: str | None = None
        self._missing: frozenset[str] = frozenset()

    def show(self, synced: "SyncResult", notes: Sequence[str] = ()) -> None:
        for sentence in notes:
            self._note(sentence)
        known, self._trouble = self._trouble, synced.trouble
        if synced.trouble is not None and (synced.trouble == known or (self._store and known)):
            return  # the message of a server that restarts changes several times
        if self._store and known is not None and synced.trouble is None:
            self._note("sync continues")
        if self._terminal:
            line, width = self._named(synced.line()), shutil.get_terminal_size().columns - 1
            shown = line[:width] if synced.trouble is None else f"{line}\n"  # errors are not overwritten
            sys.stdout.write(f"\r\x1b[K{shown}")
            sys.stdout.flush()
        elif synced.is_new or synced.trouble:
            source = {"source": self._store} if self._store else {}
            say_json(source | synced.report(), one_line=True) if self._as_json else say(
                self._named(synced.line())
            )
        self._report_missing(synced)

    def _report_missing(self, synced: "SyncResult") -> None:
        if synced.epoch is None:
            return
        known, self._missing = self._missing, frozenset(synced.epoch.left_out)
        if self._missing != known:
            for line in synced.epoch.missing():
                self._note(line)

    def _named(self, line: str) -> str:
        return f"{self._store}: {line}" if self._store else line

    def _note(self, sentence: str) -> None:
        note(f"{chr(10) if self._terminal else ''}{self._named(sentence)}")

    def close(self) -> None:
        if self._terminal:
            sys.stdout.write("\n")
