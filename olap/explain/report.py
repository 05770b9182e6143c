"""Render what each engine read: sentences, numbers and bars."""

from collections.abc import Iterator, Mapping

from rich.text import Text

from olap.ask import AskResult
from olap.explain.scans import ScanShare, ScanStats
from ridelake.screen import draw, drawing_columns
from ridelake.text import counted, grouped, listed, size

BARS = {"row-major": ("▓", "yellow"), "column-major": ("▒", "cyan")}


def print_reasons(asked: AskResult, touched: Mapping[str, ScanStats]) -> None:
    """Print the reasons to stderr, and bars if there are several engines."""
    lines = list(reasons(touched))
    if len(touched) > 1:
        seconds = {run.engine: run.usual_seconds for run in asked.runs if run.answer is not None}
        lines += [Text(), *scan_bars(touched, seconds, drawing_columns())]
    draw(lines, on_stderr=True)


def reason_sentence(touched: ScanStats) -> str:
    """One sentence on what the engine read."""
    text = _of_rows(touched) if touched.layout == "row-major" else _of_columns(touched)
    return text or f"{touched.engine}: not measured."


def scan_numbers(touched: ScanStats) -> str:
    """All numbers, not rounded."""
    if touched.layout == "row-major":
        values: dict[str, object] = {
            "bytes": touched.bytes,
            "pages hit": touched.pages_hit,
            "pages read": touched.pages_read,
            "rows scanned": _rows(touched),
        }
    else:
        values = {
            "bytes": touched.bytes
            if touched.bytes is None or touched.bytes_total is None
            else ScanShare(touched.bytes, touched.bytes_total),
            "files": touched.files,
            "row groups": touched.row_groups,
            "columns": touched.columns,
            "rows past filters": touched.rows_past_filters,
            "rows decoded": None,  # not reported by any engine
        }
    values["rows returned"] = touched.rows_returned
    unknown = [name for name, value in values.items() if value is None]
    known = [f"{name} {grouped(value)}" for name, value in values.items() if value is not None]
    return " · ".join([*known, *([f"not measured: {', '.join(unknown)}"] if unknown else [])])


def reasons(touched: Mapping[str, ScanStats]) -> Iterator[Text]:
    for one in touched.values():
        yield Text(reason_sentence(one))
        yield Text(f"  {scan_numbers(one)}", "dim")


def scan_bars(touched: Mapping[str, ScanStats], seconds: Mapping[str, float], columns: int) -> Iterator[Text]:
    """A bar chart of the bytes of all engines on one scale, with their times."""
    names = max(len("engine"), *map(len, touched))
    counted = {
        name: "not measured" if one.bytes is None else f"{one.bytes:,}" for name, one in touched.items()
    }
    scan_numbers = max(len("bytes touched"), *map(len, counted.values()))
    times = max(len("seconds"), *(len(f"{second:.4f}") for second in seconds.values()))
    width = max(8, columns - names - scan_numbers - times - 4)
    most = max((one.bytes or 0 for one in touched.values()), default=0)
    yield Text(
        f"{'engine':<{names}} {'':<{width}} {'bytes touched':>{scan_numbers}} {'seconds':>{times}}", "bold"
    )
    for name, one in touched.items():
        sign, style = BARS[one.layout]
        line = Text(f"{name:<{names}} ").append(_bar(one.bytes or 0, most, width, sign), style)
        line.append(" " * (names + 1 + width - len(line)))
        yield line.append(f" {counted[name]:>{scan_numbers}} {seconds[name]:>{times}.4f}")
    layouts = dict.fromkeys(one.layout for one in touched.values())
    yield Text("   ").join(Text.assemble(BARS[layout], f" {layout}") for layout in layouts)


def _bar(count: int, most: int, width: int, sign: str) -> str:
    """A bar; a thin line if it is shorter than a cell."""
    cells = round(count / most * width) if most else 0
    return sign * cells or ("▏" if count else "")


def _of_rows(touched: ScanStats) -> str | None:
    hit, read = touched.pages_hit, touched.pages_read
    if hit is None or read is None or touched.bytes is None:
        return None
    methods = []
    if touched.by_index:
        indexes = "indexes" if len(touched.by_index) > 1 else "index"
        methods.append(f"with the {indexes} {listed(touched.by_index)}")
    if touched.end_to_end:
        methods.append(f"with a sequential scan of {listed(touched.end_to_end)}")
    rows = "1 row" if _rows(touched) == "1" else f"{_rows(touched)} rows"
    method = f", {listed(methods)}" if methods else ""
    return (
        f"postgres scanned {rows} to return {touched.rows_returned:,}{method}: "
        f"{counted(hit + read, 'page access', 'page accesses')} of {touched.page_bytes:,} bytes "
        f"({size(touched.bytes)}), {_where(hit, read)}."
    )


def _where(hit: int, read: int) -> str:
    if not read:
        return "all found in shared buffers"
    if not hit:
        return "all read into shared buffers"
    return f"{hit:,} found in shared buffers, {read:,} read into them"


def _of_columns(touched: ScanStats) -> str | None:
    parts = []
    if touched.columns is not None:
        parts.append(f"{touched.columns} columns")
    if touched.row_groups is not None:
        parts.append(f"{touched.row_groups} row groups")
    if touched.bytes is None and not parts:
        return None
    if touched.bytes is None:
        read = f"{touched.engine} read {' in '.join(parts)}; its bytes were not measured"
    else:
        total = touched.bytes_total
        share = f" of the {size(total)}" if total else ""
        percent = f" ({touched.bytes / total:.1%})" if total else ""
        read = f"{touched.engine} read {size(touched.bytes)}{share} in its files{percent}"
        read += f": {' in '.join(parts)}" if parts else ""
    if touched.rows_past_filters is None:
        return f"{read}, to return {counted(touched.rows_returned, 'row')}."
    passed = counted(touched.rows_past_filters, "row")
    return f"{read}; its scans produced {passed}, to return {touched.rows_returned:,}."


def _rows(touched: ScanStats) -> str | None:
    if touched.rows_scanned is None:
        return None
    return f"{'' if touched.rows_exact else '≈ '}{touched.rows_scanned:,}"
