"""A bounded queue between two threads, which either side can close."""

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class ChannelClosed(Exception):
    """The channel was closed."""


class Channel(Generic[T]):
    def __init__(self, size: int) -> None:
        self._size = size
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._finished = False
        self._closed = False

    def put(self, item: T) -> None:
        """Wait until there is room. Raises ChannelClosed if the channel is closed."""
        with self._changed:
            while len(self._items) >= self._size and not self._closed:
                self._changed.wait()
            if self._closed:
                raise ChannelClosed
            self._items.append(item)
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
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """Yield items until `finish`. Raises ChannelClosed after `close`."""
        while True:
            with self._changed:
                while not self._items and not self._finished and not self._closed:
                    self._changed.wait()
                if self._closed:
                    raise ChannelClosed
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
