"""Messages are found wherever the data is split, and with any content."""

import struct

import numpy as np
import pyarrow as pa
import pytest

from lakehouse.source.copy.answer import CopyResponse
from lakehouse.source.copy.decode import RunBuffer
from lakehouse.source.copy.memory import SLACK_BYTES
from lakehouse.source.copy.receive import PREAMBLE_BYTES, SIGNATURE, TRAILER
from lakehouse.table.columns import SourceColumn
from ridelake.errors import RidelakeError

COLUMNS = [SourceColumn("a", "bytea", pa.binary()), SourceColumn("b", "bytea", pa.binary())]

PREAMBLE = SIGNATURE + bytes(PREAMBLE_BYTES - len(SIGNATURE))


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack(">i", len(body) + 4) + body


def row(*values: bytes) -> bytes:
    return struct.pack(">h", len(values)) + b"".join(struct.pack(">i", len(v)) + v for v in values)


def whole(rows: list[bytes]) -> bytes:
    """A response in the format of Postgres. The first message has the preamble; one message is a notice."""
    data = [PREAMBLE + rows[0], *rows[1:]] if rows else [PREAMBLE + TRAILER]
    messages = [message(b"d", one) for one in data] + ([message(b"d", TRAILER)] if rows else [])
    messages.insert(len(messages) // 2, message(b"N", b"SNOTICE\0Mdddd\0\0"))
    ended = [message(b"c", b""), message(b"C", b"COPY 7\0"), message(b"Z", b"T")]
    return message(b"H", b"\1\0\2\0\1\0\1") + b"".join([*messages, *ended])


def read(data: bytes, cuts: list[int]) -> tuple[list[bytes], CopyResponse]:
    """The rows in the data, if it is received in parts that end at `cuts`."""
    answer, rows, pending, begin = CopyResponse(), [], b"", 0
    run = RunBuffer(COLUMNS, 3, 1 << 20)
    for cut in [*cuts, len(data)]:
        pending, begin = pending + data[begin:cut], cut
        while True:
            buffer = np.frombuffer(bytearray(pending + bytes(SLACK_BYTES)), np.uint8)
            stop = answer.read(buffer, len(pending), run)
            pending = buffer[stop : len(pending)].tobytes()
            found = [one for piece in run.pieces() for one in piece.to_pylist()]
            rows += [row(*one.values()) for one in found]
            run.clear()
            if not found or answer.ended:
                break
    assert not pending
    return rows, answer


AWKWARD = row(b"d\0\0\0\x0c\0\1\0\0\0\4abcd", b"")  # contains bytes that look like the header of a row
ANSWERS = {
    "equal rows": [row(b"ab", b"cd")] * 7,
    "varying rows": [row(b"x" * n, b"d\0" * n) for n in range(9)],
    "bytes that look like a header": [
        AWKWARD,
        row(b"d\0\0\0\x18\0\2", b"d\0\0\0\6\0\2"),
        AWKWARD,
        row(b"", b""),
    ],
    "one row": [row(b"", b"")],
    "no rows": [],
}


@pytest.mark.parametrize("rows", ANSWERS.values(), ids=ANSWERS.keys())
@pytest.mark.timeout(60)
def test_a_response_can_be_split_anywhere(rows):
    data = whole(rows)
    for cut in range(len(data)):
        found, answer = read(data, [cut])
        assert found == rows
        assert answer.complete
    assert read(data, list(range(len(data))))[0] == rows  # byte by byte


@pytest.mark.timeout(60)
def test_random_rows_are_found():
    random = np.random.default_rng(1)
    alphabet = np.frombuffer(b"d\0\0\0\2\x0ed", np.uint8)
    for _ in range(200):
        count = int(random.integers(1, 60))
        rows = [row(random.choice(alphabet, random.integers(0, 40)).tobytes(), b"d") for _ in range(count)]
        assert read(whole(rows), [])[0] == rows


def test_a_row_of_more_than_sixteen_megabytes_is_found():
    rows = [row(b"a", b""), row(b"d\0" * 9_000_000, b""), row(b"b", b""), row(b"c", b"")]
    assert read(whole(rows), [100, 10_000_000])[0] == rows


def test_a_truncated_response_is_not_complete():
    data = whole([row(b"a", b"")] * 3)
    without_trailer = data.replace(message(b"d", TRAILER), b"")
    assert not read(without_trailer, [])[1].complete
    with pytest.raises(RidelakeError, match=r"aborted its COPY \(out of luck\): run the command again"):
        read(data[: data.index(b"N\0\0")] + message(b"E", b"SERROR\0C57014\0Mout of luck\nand more\0\0"), [])
    with pytest.raises(RidelakeError, match="invalid response of the server to COPY"):
        read(b"d\0\0\0\0" + bytes(9), [])
    with pytest.raises(RidelakeError, match="binary format"):
        read(message(b"d", b"1\tone\n"), [])
    with pytest.raises(RidelakeError, match="message of type 'R'"):
        read(message(b"R", b"\0\0\0\0"), [])
