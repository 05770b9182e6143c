"""A queue between two threads that holds few things, and that either side can end at once."""

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

Thing = TypeVar("Thing")


class Closed(Exception):
    """The other side wants nothing more, or gives nothing more."""


class Channel(Generic[Thing]):
    def __init__(self, size: int) -> None:
        self._size = size
        self._things: deque[Thing] = deque()
        self._changed = threading.Condition()
        self._finished = False
        self._closed = False

    def put(self, thing: Thing) -> None:
        """Waits for room. Raises Closed if nobody will take it."""
        with self._changed:
            while len(self._things) >= self._size and not self._closed:
                self._changed.wait()
            if self._closed:
                raise Closed
            self._things.append(thing)
            self._changed.notify_all()

    def finish(self) -> None:
        """Nothing more will be put; what is in it can still be taken."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing more is put or taken: whoever waits here gets Closed."""
        with self._changed:
            self._closed = True
            self._things.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Thing]:
        """All things until `finish`. Raises Closed at `close`."""
        while True:
            with self._changed:
                while not self._things and not self._finished and not self._closed:
                    self._changed.wait()
                if self._closed:
                    raise Closed
                if not self._things:
                    return
                thing = self._things.popleft()
                self._changed.notify_all()
            yield thing
