"""Renders a page in headless Chromium, driven by the DevTools protocol over pipes: no port is opened."""

import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

SECONDS_MAX = 90
WAIT_SECONDS_MAX = 30.0
POLL_SECONDS = 0.05


class BrowserPage:
    """One tab, without animations. `faults`: exceptions, console errors and warnings, and blocked resources.
    `requests`: the URL of every request."""

    def __init__(self, to: int, back: int) -> None:
        self.faults: list[str] = []
        self.requests: list[str] = []
        self._to, self._back, self._number, self._rest = to, back, 0, b""
        self._session, self._loaded = "", False
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the protocol. Raises AssertionError if the browser reports an error."""
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        message = {"id": self._number, "method": method, "params": parameters} | session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            self._note(answer)
        assert "error" not in answer, (method, answer["error"])
        found: dict[str, Any] = answer["result"]
        return found

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._back], [], [], SECONDS_MAX)[0], "the browser does not answer"
            chunk = os.read(self._back, 1 << 20)
            assert chunk, "the browser has ended"
            self._rest += chunk
        text, self._rest = self._rest.split(b"\0", 1)
        found: dict[str, Any] = json.loads(text)
        self._loaded = self._loaded or found.get("method") == "Page.loadEventFired"
        return found

    def _note(self, event: dict[str, Any]) -> None:
        details = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                self.faults.append(str(details["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if details["type"] in ("error", "assert", "warning"):
                self.faults.append(" ".join(str(one.get("value", one)) for one in details["args"]))
            case "Log.entryAdded" if details["entry"]["level"] in ("error", "warning"):
                self.faults.append(f"{details['entry']['text']} {details['entry'].get('url', '')}")
            case "Network.requestWillBeSent":
                self.requests.append(str(details["request"]["url"]))

    def open(self, url: str, width: int = 1280, height: int = 900, *, dark: bool = False) -> None:
        """Show the page in a window of `width` × `height` pixels, and wait until it is loaded."""
        self.resize(width, height, dark=dark)
        self._loaded = False
        self.call("Page.navigate", url=url)
        while not self._loaded:
            self._note(self._read())

    def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.call("Emulation.setEmulatedMedia", features=[scheme, still])

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited. The page's content security policy does
        not apply to the expression."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_for(self, expression: str, seconds_max: float = WAIT_SECONDS_MAX) -> Any:
        """The first true value of the expression. Raises AssertionError after `seconds_max`."""
        deadline = time.monotonic() + seconds_max
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < deadline, f"not true within {seconds_max:g} s: {expression}"
            time.sleep(POLL_SECONDS)
        return value

    def click(self, selector: str) -> None:
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def press(self, key: str, code: int = 0, text: str = "") -> None:
        """Press and release a key; `code` is its Windows key code."""
        event = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **event)
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def screenshot(self) -> bytes:
        """The window as a PNG file."""
        return b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def sheets(self) -> int:
        """The number of A4 sheets of the printed page."""
        paper = {"paperWidth": 8.27, "paperHeight": 11.69, "preferCSSPageSize": True}  # inches
        pdf = b64decode(self.call("Page.printToPDF", **paper)["data"])
        return pdf.count(b"/Type /Page\n")


@contextmanager
def browser_page(folder: Path) -> Iterator[BrowserPage]:
    """A tab of a new browser with its profile in the folder."""
    assert CHROMIUM is not None
    (read, to), (back, write) = os.pipe(), os.pipe()
    # The browser reads from descriptor 3 and writes to descriptor 4.
    theirs_in, theirs_out = (fcntl.fcntl(one, fcntl.F_DUPFD, 10) for one in (read, write))
    os.close(read)
    os.close(write)
    program = f'exec 3<&{theirs_in} 4>&{theirs_out}; exec "$@"'
    arguments = [
        "bash", "-c", program, "browser", CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu",
        "--remote-debugging-pipe", f"--user-data-dir={folder / 'profile'}", "--disable-background-networking",
        "--no-first-run",
    ]  # fmt: skip
    process = subprocess.Popen(
        arguments, pass_fds=(theirs_in, theirs_out), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield BrowserPage(to, back)
    finally:
        os.close(to)  # the browser exits when this pipe is closed
        os.close(back)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
