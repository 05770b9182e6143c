"""Decode the bytes of a value in a heap tuple into the value that SELECT returns."""

import struct
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from lakehouse.xray.heap_page import Attribute, Span

# Times in Postgres are relative to this time.
EPOCH = datetime(2000, 1, 1)

NUMBERS = {
    "int2": "<h",
    "int4": "<i",
    "int8": "<q",
    "float4": "<f",
    "float8": "<d",
    "oid": "<I",
    "xid8": "<Q",
}
TEXTS = ("text", "varchar", "bpchar")

Value = int | float | str | bool | date | datetime | UUID | None


def decode(content: bytes, span: Span | None, attribute: Attribute) -> Value:
    """None for a null. Compressed or out-of-line text, and other types, are returned as hexadecimal bytes."""
    if span is None:
        return None
    raw = content[span.offset : span.end]
    if attribute.labels:
        return attribute.labels[struct.unpack("<I", raw)[0]]
    if attribute.type in NUMBERS:
        return struct.unpack(NUMBERS[attribute.type], raw)[0]  # type: ignore[no-any-return]
    if attribute.type == "bool":
        return raw == b"\x01"
    if attribute.type in ("timestamptz", "timestamp"):
        moment = EPOCH + timedelta(microseconds=struct.unpack("<q", raw)[0])
        return moment.replace(tzinfo=UTC) if attribute.type == "timestamptz" else moment
    if attribute.type == "date":
        return EPOCH.date() + timedelta(days=struct.unpack("<i", raw)[0])
    if attribute.type == "uuid":
        return UUID(bytes=raw)
    if attribute.type in TEXTS and raw[0] != 0x01 and raw[0] & 0b11 != 0b10:  # 10: compressed
        return raw[1 if raw[0] & 1 else 4 :].decode()
    return f"\\x{raw.hex()}"
