"""One HTML file for the report and for the demo, with one style sheet. A content security policy forbids
network access."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from bench.report.charts import number
from ridelake.errors import UsageError
from ridelake.text import digits

QUANTITY = re.compile(r"\d[\d,.]*( \S{1,3}|×)?|–")  # 12,345; 1.23 ms; 2.5×


def write_file(path: Path, page: str, option: str) -> None:
    """Write the page to the file. Raises UsageError, which names the option of the path, if the file cannot
    be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, "utf-8")
    except OSError as error:
        raise UsageError(
            f"cannot write {path} ({error.strerror}): choose another file with {option}"
        ) from error


def page_of(
    title: str, lead: str, warnings: Iterable[str], main: str, footer: str, nav: str = "", scripts: str = ""
) -> str:
    """`title`, `lead` and `warnings` are texts, the others HTML."""
    return Template(asset("page.html")).substitute(
        css=asset("page.css"),
        title=escape(title),
        lead=escape(lead),
        warnings=paragraphs("warning", (f"⚠ {warning}" for warning in warnings)),
        nav=nav,
        main=main,
        footer=footer,
        scripts=scripts,
    )


def asset(name: str) -> str:
    return files("bench.report").joinpath(name).read_text("utf-8")


def paragraphs(kind: str, texts: Iterable[str]) -> str:
    return "".join(f'<p class="{kind}">{escape(text)}</p>' for text in texts)


def table(rows: Sequence[Mapping[str, Any]], title: str = "") -> str:
    """A table with a column for each name in any row. Columns of numbers are right-aligned."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    numeric = {name: all(_is_number(row.get(name)) for row in rows) for name in columns}
    sides = {name: ' class="number"' if numeric[name] else "" for name in columns}
    head = "".join(f"<th{sides[name]}>{escape(str(name))}</th>" for name in columns)
    body = "".join(
        f"<tr>{''.join(f'<td{sides[name]}>{escape(cell_text(row.get(name)))}</td>' for name in columns)}</tr>"
        for row in rows
    )
    caption = f"<caption>{escape(title)}</caption>" if title else ""
    return (
        f'<div class="wide"><table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def facts(values: Mapping[str, Any]) -> str:
    """Facts as a list of terms; a fact that is a list of rows becomes a table."""
    tables = {name: value for name, value in values.items() if _is_rows(value)}
    terms = "".join(
        f"<div><dt>{escape(str(name))}</dt><dd>{escape(cell_text(value))}</dd></div>"
        for name, value in values.items()
        if name not in tables
    )
    return (f"<dl>{terms}</dl>" if terms else "") + "".join(
        table(rows, str(name)) for name, rows in tables.items()
    )


def cell_text(value: Any) -> str:
    """The text of a cell or a fact."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return digits(value) if number(value) is not None else "–"
    if isinstance(value, list):
        return ", ".join(map(cell_text, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {cell_text(one)}" for name, one in value.items())
    return "–" if value is None else str(value)


def as_script(data: Any) -> str:
    """JSON that cannot end the script element that contains it. NaN is already null."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return QUANTITY.fullmatch(value) is not None
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)
