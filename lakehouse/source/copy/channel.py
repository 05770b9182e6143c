"""A bounded queue between two threads, which either side can close."""

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

Thing = TypeVar("Thing")


class ChannelClosed(Exception):
    """The channel was closed."""


class Channel(Generic[Thing]):
    def __init__(self, size: int) -> None:
        self._size = size
        self._things: deque[Thing] = deque()
        self._changed = threading.Condition()
        self._finished = False
        self._closed = False

    def put(self, thing: Thing) -> None:
        """Wait until there is room. Raises ChannelClosed if the channel is closed."""
        with self._changed:
            while len(self._things) >= self._size and not self._closed:
                self._changed.wait()
            if self._closed:
                raise ChannelClosed
            self._things.append(thing)
            self._changed.notify_all()

    def finish(self) -> None:
        """End the input; items in the queue can still be taken."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def close(self) -> None:
        """Discard all items; threads that wait on the channel get ChannelClosed."""
        with self._changed:
            self._closed = True
            self._things.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Thing]:
        """Yield items until `finish`. Raises ChannelClosed after `close`."""
        while True:
            with self._changed:
                while not self._things and not self._finished and not self._closed:
                    self._changed.wait()
                if self._closed:
                    raise ChannelClosed
                if not self._things:
                    return
                thing = self._things.popleft()
                self._changed.notify_all()
            yield thing
