"""The server's answer to one COPY, message by message: CopyOutResponse, rows, CopyDone, ReadyForQuery.

Rows are found many at a time by `framing`; the few other messages are read here one by one. The first
row's message begins with the preamble of the binary format, the last one is its trailer.
"""

import numpy as np

from lakehouse.extract.framing import COPY_DATA, HEADER_BYTES, Bytes, Numbers, find_rows
from ridelake.errors import RidelakeError

SIGNATURE = b"PGCOPY\n\xff\r\n\0"
PREAMBLE_BYTES = len(SIGNATURE) + 4 + 4  # flags, length of the (empty) extension
TRAILER = b"\xff\xff"

READY, FAILED, DONE = ord("Z"), ord("E"), ord("c")
# CopyOutResponse, CommandComplete, and what may come at any time: notices, parameters, notifications.
PASSED_OVER = frozenset(map(ord, "HCNSA"))


def torn() -> RidelakeError:
    return RidelakeError("the server ended its COPY in the middle: run it again")


class Answer:
    def __init__(self) -> None:
        self.ended = False  # ReadyForQuery was read: nothing more will come
        self._began = False
        self._trailer = False
        self._done = False

    @property
    def complete(self) -> bool:
        """It has ended, and all rows have come."""
        return self.ended and self._done and self._trailer

    def read(self, buffer: Bytes, end: int) -> tuple[Numbers, Numbers, int]:
        """All whole messages in `buffer[:end]`: where each row begins and ends, and where the first message
        lies that is not here to its end. Raises RidelakeError if the server says an error."""
        begins, ends, at = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], 0
        while at + HEADER_BYTES <= end and not self.ended:
            length = int.from_bytes(buffer[at + 1 : at + HEADER_BYTES].tobytes(), "big")
            following = at + 1 + length
            if length < 4:
                raise RidelakeError("the server's answer to COPY is not of Postgres' protocol: run it again")
            if following > end:
                break
            if buffer[at] != COPY_DATA:
                self._message(int(buffer[at]), buffer[at + HEADER_BYTES : following].tobytes())
                at = following
            elif not self._began:
                at = self._begin(buffer, at, following)
            else:
                found = find_rows(buffer, at, end)
                begins.append(found.begins)
                ends.append(found.ends)
                at = found.end
        return *self._without_trailer(buffer, np.concatenate(begins), np.concatenate(ends)), at

    def _begin(self, buffer: Bytes, at: int, following: int) -> int:
        """Past the preamble. The rest of its message, if there is any, becomes a message of its own."""
        self._began = True
        preamble = at + HEADER_BYTES
        if buffer[preamble:following][: len(SIGNATURE)].tobytes() != SIGNATURE:
            raise RidelakeError("the server's COPY does not speak the binary format of Postgres")
        row = preamble + PREAMBLE_BYTES
        if row == following:
            return following
        head = row - HEADER_BYTES
        buffer[head] = COPY_DATA
        buffer[head + 1 : row] = np.frombuffer((following - head - 1).to_bytes(4, "big"), np.uint8)
        return head

    def _without_trailer(self, buffer: Bytes, begins: Numbers, ends: Numbers) -> tuple[Numbers, Numbers]:
        if not len(begins):
            return begins, ends
        if self._trailer:
            raise torn()
        self._trailer = buffer[begins[-1] : ends[-1]].tobytes()[:3] == TRAILER
        return (begins[:-1], ends[:-1]) if self._trailer else (begins, ends)

    def _message(self, kind: int, body: bytes) -> None:
        if kind == FAILED:
            raise RidelakeError(f"the server broke off its COPY ({_said(body)}): run it again")
        if kind == DONE:
            self._done = True
        elif kind == READY:
            self.ended = True
        elif kind not in PASSED_OVER:
            raise RidelakeError(f"the server answers COPY with a message of type {chr(kind)!r}: run it again")


def _said(body: bytes) -> str:
    """An ErrorResponse is fields: a letter, a text, a zero byte. M is what it says."""
    for field in body.split(b"\0"):
        if field.startswith(b"M"):
            return field[1:].decode("utf-8", "replace").split("\n", 1)[0]
    return "without saying why"
