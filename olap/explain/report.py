"""Render what each engine read: sentences, numbers and bars."""

from collections.abc import Iterator, Mapping

from rich.text import Text

from olap.ask import AskResult
from olap.explain.scans import ScanShare, ScanStats
from ridelake.screen import draw, drawing_columns
from ridelake.text import counted, grouped, listed, size

BARS = {"row-major": ("▓", "yellow"), "column-major": ("▒", "cyan")}


def print_reasons(asked: AskResult, scan_stats: Mapping[str, ScanStats]) -> None:
    """Print the reasons to stderr, and bars if there are several engines."""
    lines = list(reasons(scan_stats))
    if len(scan_stats) > 1:
        seconds = {run.engine: run.usual_seconds for run in asked.runs if run.answer is not None}
        lines += [Text(), *scan_bars(scan_stats, seconds, drawing_columns())]
    draw(lines, on_stderr=True)


def reason_sentence(scan_stats: ScanStats) -> str:
    """One sentence on what the engine read."""
    text = _of_rows(scan_stats) if scan_stats.layout == "row-major" else _of_columns(scan_stats)
    return text or f"{scan_stats.engine}: not measured."


def scan_numbers(scan_stats: ScanStats) -> str:
    """All numbers, not rounded."""
    if scan_stats.layout == "row-major":
        values: dict[str, object] = {
            "bytes": scan_stats.bytes,
            "pages hit": scan_stats.pages_hit,
            "pages read": scan_stats.pages_read,
            "rows scanned": _rows(scan_stats),
        }
    else:
        values = {
            "bytes": scan_stats.bytes
            if scan_stats.bytes is None or scan_stats.bytes_total is None
            else ScanShare(scan_stats.bytes, scan_stats.bytes_total),
            "files": scan_stats.files,
            "row groups": scan_stats.row_groups,
            "columns": scan_stats.columns,
            "rows past filters": scan_stats.rows_past_filters,
            **({"bytes of delete files": scan_stats.deletes} if scan_stats.deletes else {}),
            "rows decoded": None,  # not reported by any engine
        }
    values["rows returned"] = scan_stats.rows_returned
    unknown = [name for name, value in values.items() if value is None]
    known = [f"{name} {grouped(value)}" for name, value in values.items() if value is not None]
    return " · ".join([*known, *([f"not measured: {', '.join(unknown)}"] if unknown else [])])


def reasons(scan_stats: Mapping[str, ScanStats]) -> Iterator[Text]:
    for one in scan_stats.values():
        yield Text(reason_sentence(one))
        yield Text(f"  {scan_numbers(one)}", "dim")


def scan_bars(
    scan_stats: Mapping[str, ScanStats], seconds: Mapping[str, float], columns: int
) -> Iterator[Text]:
    """A bar chart of the bytes of all engines on one scale, with their times."""
    names = max(len("engine"), *map(len, scan_stats))
    counted = {
        name: "not measured" if one.bytes is None else f"{one.bytes:,}" for name, one in scan_stats.items()
    }
    scan_numbers = max(len("bytes read"), *map(len, counted.values()))
    times = max(len("seconds"), *(len(f"{second:.4f}") for second in seconds.values()))
    width = max(8, columns - names - scan_numbers - times - 4)
    most = max((one.bytes or 0 for one in scan_stats.values()), default=0)
    yield Text(
        f"{'engine':<{names}} {'':<{width}} {'bytes read':>{scan_numbers}} {'seconds':>{times}}", "bold"
    )
    for name, one in scan_stats.items():
        sign, style = BARS[one.layout]
        line = Text(f"{name:<{names}} ").append(_bar(one.bytes or 0, most, width, sign), style)
        line.append(" " * (names + 1 + width - len(line)))
        yield line.append(f" {counted[name]:>{scan_numbers}} {seconds[name]:>{times}.4f}")
    layouts = dict.fromkeys(one.layout for one in scan_stats.values())
    yield Text("   ").join(Text.assemble(BARS[layout], f" {layout}") for layout in layouts)


def _bar(count: int, most: int, width: int, sign: str) -> str:
    """A bar; a thin line if the bar is shorter than one character."""
    cells = round(count / most * width) if most else 0
    return sign * cells or ("▏" if count else "")


def _of_rows(scan_stats: ScanStats) -> str | None:
    hit, read = scan_stats.pages_hit, scan_stats.pages_read
    if hit is None or read is None or scan_stats.bytes is None:
        return None
    methods = []
    if scan_stats.index_scans:
        indexes = "indexes" if len(scan_stats.index_scans) > 1 else "index"
        methods.append(f"with the {indexes} {listed(scan_stats.index_scans)}")
    if scan_stats.sequential_scans:
        methods.append(f"with a sequential scan of {listed(scan_stats.sequential_scans)}")
    rows = "1 row" if _rows(scan_stats) == "1" else f"{_rows(scan_stats)} rows"
    method = f", {listed(methods)}" if methods else ""
    return (
        f"postgres scanned {rows} to return {scan_stats.rows_returned:,}{method}: "
        f"{counted(hit + read, 'page access', 'page accesses')} of {scan_stats.page_bytes:,} bytes "
        f"({size(scan_stats.bytes)}), {_where(hit, read)}."
    )


def _where(hit: int, read: int) -> str:
    if not read:
        return "all found in shared buffers"
    if not hit:
        return "all read into shared buffers"
    return f"{hit:,} found in shared buffers, {read:,} read into them"


def _of_columns(scan_stats: ScanStats) -> str | None:
    parts = []
    if scan_stats.columns is not None:
        parts.append(f"{scan_stats.columns} columns")
    if scan_stats.row_groups is not None:
        parts.append(f"{scan_stats.row_groups} row groups")
    if scan_stats.bytes is None and not parts:
        return None
    if scan_stats.bytes is None:
        read = f"{scan_stats.engine} read {' in '.join(parts)}; its bytes were not measured"
    else:
        total = scan_stats.bytes_total
        share = f" of the {size(total)}" if total else ""
        percent = f" ({scan_stats.bytes / total:.1%})" if total else ""
        read = f"{scan_stats.engine} read {size(scan_stats.bytes)}{share} in its files{percent}"
        read += f": {' in '.join(parts)}" if parts else ""
    if scan_stats.rows_past_filters is None:
        read += f", to return {counted(scan_stats.rows_returned, 'row')}."
    else:
        passed = counted(scan_stats.rows_past_filters, "row")
        read += f"; its scans produced {passed}, to return {scan_stats.rows_returned:,}."
    if scan_stats.deletes and scan_stats.rows_deleted:
        rows = counted(scan_stats.rows_deleted, "row")
        read += f" Delete files of {size(scan_stats.deletes)} exclude {rows}."
    return read


def _rows(scan_stats: ScanStats) -> str | None:
    if scan_stats.rows_scanned is None:
        return None
    return f"{'' if scan_stats.rows_exact else '≈ '}{scan_stats.rows_scanned:,}"
