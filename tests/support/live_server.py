"""`ridelake live` in a process of its own, and what its stream of events says."""

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from terminal import COMMAND, place_options

from ridelake.settings import Settings

START_SECONDS_MAX = 180.0
STOP_SECONDS_MAX = 60.0
EVENT_SECONDS_MAX = 30.0


@dataclass(frozen=True, slots=True)
class LiveServer:
    """`process`: the web server; its workers have processes of their own."""

    url: str
    settings: Settings
    process: subprocess.Popen[str]

    def state(self) -> dict[str, Any]:
        """All parts of the state, as a viewer that has just connected receives them."""
        with urlopen(f"{self.url}events", timeout=EVENT_SECONDS_MAX) as events:
            ticks = (line for line in events if line.startswith(b'data: {"t":'))
            state: dict[str, Any] = json.loads(next(ticks).removeprefix(b"data: "))
        return state


@contextmanager
def live_server(settings: Settings, folder: Path) -> Iterator[LiveServer]:
    """`folder`: for its messages. Raises AssertionError with the messages if it does not start."""
    messages = folder / "messages.txt"
    command = [*COMMAND, "live", *place_options(settings), "--port", "0"]
    with (
        messages.open("w") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        try:
            assert process.stdout
            late = threading.Timer(START_SECONDS_MAX, process.kill)
            late.start()
            url = process.stdout.readline().strip()
            late.cancel()
            assert url, messages.read_text()
            yield LiveServer(url, settings, process)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(STOP_SECONDS_MAX)
