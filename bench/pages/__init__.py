"""The pages of `report` and `demo`: one template engine, one style, charts as SVG.

    page.html     the page: base.css, and a content security policy that forbids scripts and network access
      report.html, demo.html     its contents
    chart.html                   one chart, for the notebook
    figures.svg                  the picture of the README; it stands alone
    charts.html, tables.html     macros; the switches of a chart are CSS, so a page needs no JavaScript
    plots.py, questions.py       the positions of a chart
    cells.py                     tables and facts as texts

Only base.css and figures.svg name colours: for light, for dark and for paper. The templates escape texts.
"""

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from bench.pages.cells import css_string, facts_of, table_of
from bench.pages.plots import RowPlot
from ridelake.errors import UsageError


def render(template: str, **values: Any) -> str:
    """The page. Raises jinja2.UndefinedError if a value is missing."""
    return _templates().get_template(template).render(**values)


def chart(plot: RowPlot) -> str:
    """One chart with its style, for a notebook."""
    return render("chart.html", plot=plot)


@cache
def _templates() -> Environment:
    found = Environment(
        loader=PackageLoader("bench.pages", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"css_string": css_string, "facts": facts_of, "table": table_of}
    found.globals["css"] = files("bench.pages").joinpath("base.css").read_text("utf-8")
    return found


def write_page(path: Path, page: str, option: str) -> None:
    """Write the page to the file. Raises UsageError, which names the option of the path, if the file cannot
    be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, "utf-8")
    except OSError as error:
        raise UsageError(
            f"cannot write {path} ({error.strerror}): choose another file with {option}"
        ) from error
