"""A viewer of `ridelake live`: reads the stream of events into one state, and sends commands."""

import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

SECONDS_MAX = 60.0  # a step takes a second on an idle machine


class LivePage:
    """`state`: the merged ticks; `hello`: the first event; `ids`: the ids of the events, in order."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.hello: dict[str, Any] = {}
        self.state: dict[str, Any] = {}
        self.ids: list[int] = []
        self._changed = threading.Condition()
        self._stream = urllib.request.urlopen(f"{url}events", timeout=SECONDS_MAX)
        threading.Thread(target=self._read, daemon=True).start()
        self.wait_for(lambda state: "t" in state)

    def close(self) -> None:
        self._stream.fp.raw._sock.shutdown(2)

    def wait_for(self, holds: Callable[[dict[str, Any]], Any], seconds: float = SECONDS_MAX) -> Any:
        """The value of `holds(state)` once it is true."""
        give_up = time.monotonic() + seconds
        with self._changed:
            while not (found := holds(self.state)):
                left = give_up - time.monotonic()
                assert left > 0, f"the condition was not met in time; the state is {self.state}"
                self._changed.wait(left)
        return found

    def post(self, name: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """The status and the JSON document of the response."""
        return send(f"{self.url}{name}", json.dumps(body).encode())

    def accept(self, name: str, body: dict[str, Any]) -> None:
        assert self.post(name, body) == (200, {"ok": True})

    def _read(self) -> None:
        name = ""
        try:
            for line in self._stream:
                key, _, value = line.decode().rstrip("\n").partition(": ")
                with self._changed:
                    if key == "id":
                        self.ids.append(int(value))
                    elif key == "event":
                        name = value
                    elif key == "data" and name == "hello":
                        self.hello = json.loads(value)
                    elif key == "data":
                        self.state = self.state | json.loads(value)
                    self._changed.notify_all()
        except (OSError, ValueError, AttributeError):  # closed
            pass


def send(url: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, Any]]:
    """GET, or POST if there is a body. Returns the status and the JSON document; {} if it is not JSON."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"} | given)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS_MAX) as answer:
            status, text = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
    try:
        return status, json.loads(text)
    except ValueError:
        return status, {}


def address_of(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 0


@contextmanager
def running_live(
    folder: Path, *options: str, env: dict[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`ridelake live` in a new process, and the address of its page."""
    command = [sys.executable, "-m", "ridelake", "live", "--port", "0", *options]
    running = subprocess.Popen(
        command,
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stdout is not None
        url = running.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), running.communicate()
        yield running, url
    finally:
        if running.poll() is None:
            running.terminate()
        running.communicate(timeout=SECONDS_MAX)


def echo(channel: Any) -> None:
    """The function of a child process in tests: it reports its settings and the commands it receives."""
    settings: dict[str, Any] = {}

    def execute(name: str, arguments: dict[str, Any]) -> None:
        if name == "set":
            settings.update(arguments)
            channel.report("settings", dict(settings))
        elif name == "fail":
            os._exit(3)
        else:
            channel.report(name, arguments)

    channel.listen(execute)
    channel.stopped.wait()
