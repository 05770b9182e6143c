"""What the Python API returns for a query: the rows of one engine, or the comparison of several."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from lakehouse.engines import full_version
from olap.ask import AskResult, EngineRun
from ridelake.errors import NotReady
from ridelake.text import counted, digits

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from lakehouse.table.epoch import Epoch

SHOWN_ROWS = 20
SHOWN_COLUMNS = 120  # of text


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """The rows of a query. `epoch`: the epoch that was read; None: the tables of Postgres, if there is no
    epoch."""

    asked: AskResult
    epoch: "Epoch | None"

    @property
    def engine(self) -> str:
        return self._run.engine

    @property
    def seconds(self) -> float:
        """Seconds until all rows were in memory."""
        return self._run.first_seconds

    @property
    def _run(self) -> EngineRun:
        return next(run for run in self.asked.runs if run.answer is not None)

    def __len__(self) -> int:
        return int(self.to_arrow().num_rows)

    def to_arrow(self) -> "pa.Table":
        return self.asked.answer

    def to_polars(self) -> "pl.DataFrame":
        import polars as pl

        frame = pl.from_arrow(self.to_arrow())
        assert isinstance(frame, pl.DataFrame)
        return frame

    def to_pandas(self) -> "pd.DataFrame":
        """With Arrow types, which hold every value exactly: an integer column with nulls stays integer.
        Raises NotReady if pandas is not installed."""
        if find_spec("pandas") is None:
            raise NotReady("pandas is not installed: run `pip install pandas`")
        import pandas as pd

        return self.to_arrow().to_pandas(types_mapper=pd.ArrowDtype)

    def rows(self) -> list[tuple[Any, ...]]:
        """The rows as Python objects; a time that Python cannot represent is text."""
        from olap.formats import values

        return list(zip(*map(values, self.to_arrow().columns), strict=True))

    def __repr__(self) -> str:
        from olap.formats import table_lines

        return "\n".join([*table_lines(self._shown(), SHOWN_COLUMNS), self._caption()])

    def _repr_html_(self) -> str:
        from olap.formats import text_rows

        shown = self._shown()
        return html_table(shown.schema.names, list(text_rows(shown)), self._caption())

    def _shown(self) -> "pa.Table":
        return self.to_arrow().slice(0, SHOWN_ROWS)

    def _caption(self) -> str:
        rows = counted(len(self), "row")
        first = f"the first {SHOWN_ROWS} of {rows}" if len(self) > SHOWN_ROWS else rows
        source = "the rows as of now" if self.epoch is None or self.engine == "postgres" else (
            f"epoch {self.epoch.number}"
        )  # fmt: skip
        return f"{first} ({self.engine} {full_version(self.engine, self._run.version)}, {source})"


@dataclass(frozen=True, slots=True, repr=False)
class Comparison:
    """One query on several engines. The answers were compared and are equal. `answer`: the rows, of the first
    engine that answered."""

    answer: Answer

    @property
    def seconds(self) -> dict[str, float]:
        """Engine → median seconds of the warm runs, or of the only run. An engine that rejected the query is
        missing; see `refused`."""
        return {run.engine: run.usual_seconds for run in self._runs if run.answer is not None}

    @property
    def refused(self) -> dict[str, str]:
        """Engine → its message, for engines that rejected the query or took too long."""
        return self.answer.asked.refusals

    @property
    def _runs(self) -> tuple[EngineRun, ...]:
        return self.answer.asked.runs

    def _lines(self) -> list[Sequence[str]]:
        return [
            (
                f"{run.engine} {full_version(run.engine, run.version)}",
                "" if run.answer is None else digits(run.usual_seconds, zeros=True),
                "" if run.answer is None else f"{run.answer.num_rows:,}",
                "equal" if run.answer is not None else run.refused or "",
            )
            for run in self._runs
        ]

    def _caption(self) -> str:
        epoch = self.answer.epoch
        rounds = max(len(run.seconds) for run in self._runs)
        how = f"median of {rounds - 1} interleaved runs after the first" if rounds > 1 else "one run"
        return f"{f'epoch {epoch.number}; ' if epoch else ''}seconds: {how}"

    def __repr__(self) -> str:
        lines: list[Sequence[str]] = [HEADS, *self._lines()]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        shown = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        return "\n".join([*shown, self._caption()])

    def _repr_html_(self) -> str:
        return html_table(HEADS, self._lines(), self._caption())


HEADS = ("engine", "seconds", "rows", "answer")


def html_table(heads: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """A table for a notebook; all text is escaped."""
    lines = [("th", heads), *(("td", row) for row in rows)]
    body = "".join(
        f"<tr>{''.join(f'<{tag}>{escape(text)}</{tag}>' for text in line)}</tr>" for tag, line in lines
    )
    return f"<table>{body}</table><p>{escape(caption)}</p>"
