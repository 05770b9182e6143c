"""The state that all viewers see, and the stream of its changes.

Workers replace parts of the state (`LiveState.report`). Ten times a second the parts that have changed are
encoded once and put into the queue of each viewer. If a viewer is too slow, its queue is replaced by the
whole state: only the newest state is needed, and memory is bounded.
"""

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

TICKS_PER_SECOND = 10
HISTORY_SECONDS = 180
QUEUE_TICKS_MAX = 20  # per viewer; two seconds
VIEWERS_MAX = 64
RETRY_MS = 1000  # after which a browser connects again


class LiveState:
    """The parts of the state by name, and one point per second of the history. May be used by any thread."""

    def __init__(self, hello: Mapping[str, Any]) -> None:
        self._hello = hello
        self._parts: dict[str, Any] = {"workers": {}}
        self._changed = {"workers"}
        self._history: deque[dict[str, Any]] = deque(maxlen=HISTORY_SECONDS)
        self._mark: str | None = None
        self._number = 0
        self._lock = threading.Lock()

    def report(self, part: str, value: Any) -> None:
        """Replace a part."""
        with self._lock:
            if part == "crash" and value["state"] == "down" != (self._parts.get(part) or {}).get("state"):
                self._mark = "server killed"
            if self._parts.get(part) != value:
                self._parts[part] = value
                self._changed.add(part)

    def trouble(self, worker: str, line: str | None) -> None:
        """Set why a worker does not run; None: it runs."""
        with self._lock:
            others = {name: text for name, text in self._parts["workers"].items() if name != worker}
            self._parts["workers"] = others | ({worker: line} if line else {})
            self._changed.add("workers")

    def part(self, name: str) -> Any:
        with self._lock:
            return self._parts.get(name)

    def tick(self) -> bytes:
        """An event with the parts that have changed since the last tick."""
        now = time.time()
        with self._lock:
            changed = {part: self._parts[part] for part in sorted(self._changed)}
            self._changed.clear()
            if not self._history or now - self._history[-1]["t"] >= 1:
                self._history.append(self._point(now))
            return self._event("tick", {"t": round(now, 3)} | changed)

    def opening(self) -> bytes:
        """The first events for a viewer: everything that does not change and the history, then all parts."""
        with self._lock:
            hello = self._event("hello", {**self._hello, "history": list(self._history)})
        return f"retry: {RETRY_MS}\n".encode() + hello + self.everything()

    def everything(self) -> bytes:
        """A tick with all parts."""
        with self._lock:
            return self._event("tick", {"t": round(time.time(), 3)} | self._parts)

    def _point(self, now: float) -> dict[str, Any]:
        load, question = self._parts.get("load") or {}, self._parts.get("question") or {}
        mark, self._mark = self._mark, None
        return {
            "t": round(now, 3),
            "rides_per_second": load.get("rides_per_second"),
            "p99_ms": load.get("p99_ms"),
            "rows_seconds": (question.get("rows") or {}).get("seconds"),
            "columns_seconds": (question.get("columns") or {}).get("seconds"),
            "lag_seconds": (self._parts.get("sync") or {}).get("lag_seconds"),
            "mark": mark,
        }

    def _event(self, name: str, value: Any) -> bytes:
        self._number += 1
        text = json.dumps(value, separators=(",", ":"), allow_nan=False, default=str)
        return f"id: {self._number}\nevent: {name}\ndata: {text}\n\n".encode()


class Viewer:
    """The queue of one connected page."""

    def __init__(self, state: LiveState) -> None:
        self._state = state
        self._events: deque[bytes] = deque([state.opening()])
        self._ready = asyncio.Event()
        self._ready.set()

    def put(self, event: bytes) -> None:
        if len(self._events) >= QUEUE_TICKS_MAX:
            self._events.clear()
            event = self._state.everything()
        self._events.append(event)
        self._ready.set()

    async def events(self) -> AsyncIterator[bytes]:
        while True:
            await self._ready.wait()
            while self._events:
                yield self._events.popleft()
            self._ready.clear()


class Viewers:
    """All connected pages; used in the event loop of the web server only."""

    def __init__(self, state: LiveState) -> None:
        self._state = state
        self._viewers: set[Viewer] = set()

    @property
    def full(self) -> bool:
        return len(self._viewers) >= VIEWERS_MAX

    @contextmanager
    def join(self) -> Iterator[Viewer]:
        viewer = Viewer(self._state)
        self._viewers.add(viewer)
        try:
            yield viewer
        finally:
            self._viewers.discard(viewer)

    async def send_ticks(self) -> None:
        """Send a tick to all viewers, ten times a second, without end."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            event = self._state.tick()
            for viewer in self._viewers:
                viewer.put(event)
            due = max(due + 1 / TICKS_PER_SECOND, loop.time() - 1)  # after a suspend, do not catch up
            await asyncio.sleep(due - loop.time())
