"""A page in headless Chromium, driven through the DevTools protocol: for pages that receive events."""

import base64
import itertools
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from browser import CHROMIUM
from websockets.sync.client import ClientConnection, connect

START_SECONDS_MAX = 60.0
ANSWER_SECONDS_MAX = 30.0
POLL_SECONDS = 0.05


class BrowserPage:
    """One tab. `faults`: errors of the console, exceptions, violations of the content security policy.
    `requests`: the address of every request."""

    def __init__(self, socket: ClientConnection) -> None:
        self.faults: list[str] = []
        self.requests: list[str] = []
        self._socket = socket
        self._numbers = itertools.count(1)
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Raises AssertionError if the browser reports an error, TimeoutError if it does not answer."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=ANSWER_SECONDS_MAX))
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self._record(answer)

    def _record(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                self.faults.append(str(details.get("exception", {}).get("description", details["text"])))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "assert"):
                self.faults.append(" ".join(str(one.get("value", one)) for one in params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.faults.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])

    def open(self, url: str, width: int = 1280, height: int = 720, *, dark: bool = False) -> None:
        self.resize(width, height, dark=dark)
        self.call("Page.navigate", url=url)

    def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def evaluate(self, script: str) -> Any:
        """The value of the expression; a promise is awaited. Raises AssertionError if it throws."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_for(self, script: str, seconds_max: float = ANSWER_SECONDS_MAX) -> Any:
        """The first true value of the expression. Raises AssertionError after `seconds_max`."""
        deadline = time.monotonic() + seconds_max
        while not (value := self.evaluate(script)):
            assert time.monotonic() < deadline, f"not true within {seconds_max:g} s: {script}"
            time.sleep(POLL_SECONDS)
        return value

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        picture = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(picture["data"]))


@contextmanager
def browser_page(folder: Path) -> Iterator[BrowserPage]:
    """A new tab of a new browser. `folder`: for its profile."""
    assert CHROMIUM is not None
    arguments = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--no-first-run",
        f"--user-data-dir={folder}",
        "--remote-debugging-port=0",
    ]
    browser = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        # No pings: events that no call has read yet delay their answers.
        with connect(_address(folder), max_size=None, proxy=None, ping_interval=None) as socket:
            yield BrowserPage(socket)
    finally:
        browser.terminate()
        browser.wait()


def _address(folder: Path) -> str:
    """The address of the protocol, which Chromium writes to a file in its profile."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        lines = _lines(folder / "DevToolsActivePort")
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(POLL_SECONDS)
    raise AssertionError(f"Chromium did not start within {START_SECONDS_MAX:g} s")


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []
