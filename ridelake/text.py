"""Text for people: numbers with units, plurals, and the width of text on a screen.

digits(0.0012345)         0.00123             ratio_text(7.34)         7.3×
duration(0.0012345)       1.23 ms             counted(2, "row")        2 rows
size(47_712_345)          47.7 MB             listed(["a", "b", "c"])  a, b and c
"""

import re
from collections.abc import Sequence
from math import floor, log10

TIME_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
SIZE_UNITS = ("kB", "MB", "GB", "TB")
HANGING = re.compile(r"\s*(?:(?:[✓✗–•-]|\d+\.)\s+)?")
WORD = re.compile(r"\s*\S+")


def digits(value: float, *, zeros: bool = False) -> str:
    """Three significant digits, more if the integer part has more: 1,234,568; 12.3; 0.000123. With `zeros`,
    2 is 2.00, so that the numbers of a column align."""
    if value == 0:
        return "0"
    if abs(value) < 1e-4 and not zeros:
        return f"{value:.3g}"
    rounded = float(f"{value:.3g}")
    decimals = max(2 - floor(log10(abs(rounded))), 0)
    text = f"{value:,.{decimals}f}"
    return text if zeros or decimals == 0 else text.rstrip("0").rstrip(".")


def duration(seconds: float) -> str:
    """Three significant digits and a unit: 1.23 ms, 45 s."""
    unit, name = next((pair for pair in TIME_UNITS if seconds >= pair[0]), TIME_UNITS[-1])
    return f"{digits(seconds / unit)} {name}"


def size(count: int) -> str:
    """Three significant digits and a unit: 404 bytes, 32.8 kB, 47.7 MB."""
    if count < 1000:
        return counted(count, "byte")
    value, unit = count / 1000, 0
    while value >= 999.5 and unit + 1 < len(SIZE_UNITS):
        value, unit = value / 1000, unit + 1
    return f"{digits(value)} {SIZE_UNITS[unit]}"


def ratio_text(ratio: float) -> str:
    """Two digits, three near 1: 1.25×, 7.3×, 25×."""
    decimals = 2 if ratio < 1.995 else 1 if ratio < 9.95 else 0
    return f"{ratio:,.{decimals}f}×"


def counted(count: int, noun: str, plural: str = "") -> str:
    """1 row, 2,000 rows."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def listed(names: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def grouped(value: object) -> str:
    """A cell of a table: 1234567 → 1,234,567; 0.12345 → 0.123; None → empty."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.3f}" if abs(value) < 100 else f"{value:,.0f}"
    return "" if value is None else str(value)


def cells(text: str) -> int:
    """Columns that the text takes on a screen: a Chinese character takes two, a combining accent none."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # imported here, because most text is ASCII

    return cell_len(text)


def wrapped(text: str, columns: int | None) -> str:
    """The text in lines of at most `columns` columns, broken between words only. A word wider than a line
    gets its own line. Continuation lines are indented to the text after a leading mark or number."""
    if columns is None:
        return text
    lines: list[str] = []
    for line in text.split("\n"):
        current = ""
        indent = " " * min(cells(HANGING.match(line)[0]), columns // 2)  # type: ignore[index]
        for word in WORD.findall(line):
            if current.strip() and cells(current + word) > columns:
                lines.append(current)
                current = indent + word.lstrip()
            else:
                current += word
        lines.append(current)
    return "\n".join(lines)


def padded(text: str, width: int, *, to_right: bool = False) -> str:
    """The text in exactly `width` columns of a screen; longer text is cut and ends in …."""
    if cells(text) > width:
        while cells(text) >= width:
            text = text[:-1]
        text += "…"
    space = " " * (width - cells(text))
    return space + text if to_right else text + space


def fitted(widths: Sequence[int], minima: Sequence[int], available: int) -> list[int]:
    """The widths of the columns of a table, the widest reduced until the sum is `available` or all have their
    minimum."""
    found = list(widths)
    while sum(found) > available:
        wide = [index for index, width in enumerate(found) if width > minima[index]]
        if not wide:
            break
        found[max(wide, key=found.__getitem__)] -= 1
    return found
