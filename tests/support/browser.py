"""Renders a page in headless Chromium, driven by the DevTools protocol over pipes: no port is opened."""

import fcntl
import json
import os
import select
import shutil
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

SECONDS_MAX = 90

# Text and controls outside of the window; a scrolled block may be wider.
OUTSIDE = """[...document.querySelectorAll("body *")]
  .filter((one) => !one.closest("pre, .shapes") && (one.children.length === 0 || one.tagName === "TABLE"))
  .filter((one) => getComputedStyle(one).visibility === "visible")
  .map((one) => [one, one.getBoundingClientRect()])
  .filter(([one, box]) => box.width > 0 && box.height > 0 && (box.right > innerWidth + 1 || box.left < -1))
  .map(([one, box]) => `${one.tagName} ${one.textContent.slice(0, 40)} ${box.left}–${box.right}`)"""


class Browser:
    """One tab. `faults`: errors of the console, refused contents and requests other than the page itself."""

    def __init__(self, to: int, back: int) -> None:
        self.faults: list[str] = []
        self._to, self._back, self._number, self._rest = to, back, 0, b""
        self._session, self._url, self._loaded = "", "", False
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the protocol. Raises AssertionError if the browser reports an error."""
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
        method, details = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.faults.append(str(details["exceptionDetails"]))
        elif method == "Log.entryAdded" and details["entry"]["level"] in ("error", "warning"):
            self.faults.append(str(details["entry"]["text"]))
        elif method == "Network.requestWillBeSent" and details["request"]["url"] != self._url:
            self.faults.append(f"requested {details['request']['url']}")

    def open(self, page: Path, width: int, *, dark: bool = False, height: int = 900) -> None:
        """Show the page in a window of `width` × `height` pixels, without motion."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.call("Emulation.setEmulatedMedia", features=[scheme, still])
        self._url, self._loaded = page.as_uri(), False
        self.call("Page.navigate", url=self._url)
        while not self._loaded:
            self._note(self._read())

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression. The page's content security policy does not apply to it."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def outside(self) -> list[str]:
        """What is outside of the window, to the left or right."""
        found: list[str] = self.evaluate(OUTSIDE)
        return found

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press and release a key; `code` is its Windows key code."""
        event = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **event)
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def sheets(self) -> int:
        """The number of A4 sheets of the printed page."""
        paper = {"paperWidth": 8.27, "paperHeight": 11.69, "preferCSSPageSize": True}  # inches
        pdf = b64decode(self.call("Page.printToPDF", **paper)["data"])
        return pdf.count(b"/Type /Page\n")


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser with its profile in the folder."""
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
    ]  # fmt: skip
    process = subprocess.Popen(
        arguments, pass_fds=(theirs_in, theirs_out), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Browser(to, back)
    finally:
        os.close(to)  # which ends the browser
        os.close(back)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
