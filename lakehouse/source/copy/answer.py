"""The server's response to one COPY: CopyOutResponse, rows, CopyDone, ReadyForQuery.

A `RunBuffer` decodes many rows at a time; the other messages are read here one by one. The message of the
first row begins with the header of the binary format; the last CopyData message is its trailer.
"""

import numpy as np

from lakehouse.source.copy.decode import RunBuffer
from lakehouse.source.copy.loop import COPY_DATA, FULL, HEADER_BYTES
from lakehouse.source.copy.loop import TRAILER as IS_TRAILER
from lakehouse.source.copy.memory import Bytes, words_of
from lakehouse.source.copy.receive import PREAMBLE_BYTES, SIGNATURE, TRAILER, CopyAborted, incomplete_copy
from ridelake.errors import RidelakeError

READY, FAILED, DONE = ord("Z"), ord("E"), ord("c")
# CopyOutResponse, CommandComplete, and asynchronous messages: notices, parameters, notifications.
IGNORED = frozenset(map(ord, "HCNSA"))


class CopyResponse:
    def __init__(self) -> None:
        self.ended = False  # ReadyForQuery was read: there are no more messages
        self._began = False
        self._trailer = False
        self._done = False

    @property
    def complete(self) -> bool:
        """Whether it has ended with all rows."""
        return self.ended and self._done and self._trailer

    def read(self, buffer: Bytes, end: int, run: RunBuffer) -> int:
        """Read the complete messages in `buffer[:end]` until the run is full. Returns the position of the
        first message that was not read. Raises RidelakeError for an error of the server."""
        at, words = 0, words_of(buffer)
        while at + HEADER_BYTES <= end and not self.ended:
            length = int.from_bytes(buffer[at + 1 : at + HEADER_BYTES].tobytes(), "big")
            following = at + 1 + length
            if length < 4:
                raise RidelakeError("invalid response of the server to COPY: run the command again")
            if following > end:
                break
            if buffer[at] != COPY_DATA:
                self._message(int(buffer[at]), buffer[at + HEADER_BYTES : following].tobytes())
                at = following
            elif not self._began:
                at = self._begin(buffer, at, following)
            elif self._trailer:
                raise incomplete_copy()
            else:
                why, at = run.feed(words, at, end)
                if why == FULL:
                    break
                if why == IS_TRAILER:
                    self._trailer = True
                    at += HEADER_BYTES + len(TRAILER)
        return at

    def _begin(self, buffer: Bytes, at: int, following: int) -> int:
        """Skip the preamble. The rest of its message, if any, becomes a separate message."""
        self._began = True
        preamble = at + HEADER_BYTES
        if buffer[preamble:following][: len(SIGNATURE)].tobytes() != SIGNATURE:
            raise RidelakeError("the COPY of the server is not in the binary format of Postgres")
        row = preamble + PREAMBLE_BYTES
        if row == following:
            return following
        head = row - HEADER_BYTES
        buffer[head] = COPY_DATA
        buffer[head + 1 : row] = np.frombuffer((following - head - 1).to_bytes(4, "big"), np.uint8)
        return head

    def _message(self, kind: int, body: bytes) -> None:
        if kind == FAILED:
            raise CopyAborted(_field(body, b"C"), _field(body, b"M") or "no message")
        if kind == DONE:
            self._done = True
        elif kind == READY:
            self.ended = True
        elif kind not in IGNORED:
            raise RidelakeError(
                f"unexpected message of type {chr(kind)!r} in response to COPY: run the command again"
            )


def _field(body: bytes, letter: bytes) -> str:
    """The first line of a field of an ErrorResponse, whose fields are a letter, a text and a zero byte. C:
    the SQLSTATE; M: the message. Empty if there is no such field."""
    for field in body.split(b"\0"):
        if field.startswith(letter):
            return field[1:].decode("utf-8", "replace").split("\n", 1)[0]
    return ""
