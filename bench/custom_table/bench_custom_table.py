"""Benchmarks on a table of the user; only with `ridelake bench --table`.

The queries are derived from the column types. They are built as syntax trees, so that any name is quoted
correctly.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import duckdb
import psycopg
import pyarrow as pa
import pytest
from sqlglot import exp

from bench.advice import TITLE, crossing_of, crossing_text, table_sentences
from bench.custom_table.subject import (
    UserTable,
    insert_into_duckdb,
    insert_into_postgres,
    postgres_copy,
    smaller_copies,
    some_rows,
)
from bench.figure import Axis, Chart, Figure, Series, VariantTimes
from bench.statistics import percentile
from lakehouse.engines import open_engine, open_engines
from lakehouse.table.columns import SourceColumn
from lakehouse.table.epoch import DECIMAL_DIGITS_MAX
from olap.answer import compare_answers
from olap.ask import answer_of
from olap.question import Question, ad_hoc_question
from ridelake.queries import load_queries

QUERIES = load_queries("bench.custom_table")

ENGINES = ("postgres", "duckdb")
INSERTS = 200
GROUPS_MIN, GROUPS_MAX = 2, 1_000
COPIED_ROWS = {
    "quick": (1_000, 10_000),
    "default": (1_000, 10_000, 100_000),
    "full": (1_000, 10_000, 100_000, 1_000_000),
}
SECONDS_SHARE = 0.2  # of the time of a comparison, for a copy


@pytest.fixture(scope="module")
def subject(pytestconfig: pytest.Config) -> UserTable:
    """The table that the command has opened."""
    (subject,) = [one for one in pytestconfig.pluginmanager.get_plugins() if isinstance(one, UserTable)]
    return subject


def bench_look_up(figure: Figure, subject: UserTable) -> None:
    figure.title = "How long does it take to look up a row by its key?"
    if subject.key is None:
        pytest.skip("the primary key has several columns, or text in the lake; the look-up supports neither")
    question = middle_look_up(subject)
    if question is None:
        pytest.skip(
            "the key in the middle is a date outside the years 1 to 9999, which a parameter cannot hold"
        )
    times = time_query(figure, subject, question)
    figure.ratio(times.ratio("postgres", "duckdb"))


def bench_scan(figure: Figure, subject: UserTable) -> None:
    figure.title = "How long does it take to scan one, four and all columns?"
    plain = plain_columns(subject)
    counts = sorted({min(count, len(plain)) for count in (1, 4, len(plain))})
    milliseconds: dict[str, list[float]] = {name: [] for name in ENGINES}
    for count in counts:
        times = time_query(
            figure, subject, scan(subject.name, plain[:count], subject.state.rows), f"{count} columns"
        )
        figure.ratio(times.ratio("postgres", "duckdb"))
        for name in ENGINES:
            milliseconds[name].append(times.median_seconds(name) * 1e3)
    figure.chart(
        Chart(
            "lines",
            figure.title,
            Axis("columns read"),
            Axis("milliseconds", log=True),
            [Series(name, list(counts), list(ms)) for name, ms in milliseconds.items()],
        )
    )


def bench_group_by(figure: Figure, subject: UserTable) -> None:
    figure.title = "How long does a group-by take?"
    candidates = [column for column in subject.queried if may_group(column, subject)]
    if not candidates:
        pytest.skip("no column to group by: all are in the key, floats, or have a nondeterministic collation")
    fit = group_columns(subject, candidates)
    if not fit:
        pytest.skip(f"no column has {GROUPS_MIN} to {GROUPS_MAX:,} different values to group by")
    fewest, most = min(fit, key=lambda found: found[0]), max(fit, key=lambda found: found[0])
    for count, column in [fewest] if fewest == most else [fewest, most]:
        question = grouped(subject.name, column, measure_of(subject, column))
        times = time_query(figure, subject, question, f"{count} groups of {column.name}")
        figure.ratio(times.ratio("postgres", "duckdb"))


def bench_leaving(figure: Figure, subject: UserTable, tmp_path: Path) -> None:
    """The last of the queries: copies of the table with fewer rows show from how many rows columns are
    faster."""
    figure.title = TITLE
    counts = [count for count in COPIED_ROWS[figure.scale.name] if count * 2 <= subject.state.rows]
    candidates = [column for column in subject.queried if may_group(column, subject)]
    fit = group_columns(subject, candidates) if candidates else []
    by = min(fit, key=lambda found: found[0])[1] if fit else None
    times: dict[str, list[VariantTimes]] = {}
    smaller: list[UserTable] = []
    with ExitStack() as opened:
        try:
            smaller = opened.enter_context(smaller_copies(subject, counts, tmp_path)) if counts else []
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:
            why = error.diag.message_primary
            figure.warn(f"only the whole table is measured, because it cannot be copied: {why}")
        for table in [*smaller, subject]:
            for name, question in questions_of(table, by).items():
                label = f"{name}, {table.state.rows:,} rows"
                seconds = None if table is subject else figure.scale.seconds * SECONDS_SHARE
                times.setdefault(name, []).append(time_query(figure, table, question, label, seconds))
    counts = [table.state.rows for table in [*smaller, subject]]
    ratios = {name: [one.ratio("postgres", "duckdb") for one in of] for name, of in times.items()}
    crossings = {name: crossing_of(counts, of) for name, of in times.items()}
    for sentence in table_sentences(subject.state.rows, {n: of[-1] for n, of in ratios.items()}, crossings):
        figure.advise(sentence)
    figure.table(
        "Time of Postgres divided by the time of DuckDB",
        [
            {"question": name}
            | {f"{count:,} rows": f"{one.median:.2f}" for count, one in zip(counts, of, strict=True)}
            | {"DuckDB is faster": crossing_text(crossings[name], "rows")}
            for name, of in ratios.items()
        ],
    )
    for of in ratios.values():
        figure.ratio(of[-1])


def bench_insert(figure: Figure, subject: UserTable, tmp_path: Path) -> None:
    figure.title = "How long does a durable insert of one row take?"
    rows = some_rows(subject, INSERTS)
    if not rows:
        pytest.skip("the table itself has no rows, only its child tables have rows; name one of them")

    def both() -> dict[str, tuple[list[float], int]]:
        with skip_rejected_copies(), postgres_copy(subject) as connection:
            into_rows = insert_into_postgres(connection, subject, rows)
        return {"postgres": into_rows, "duckdb": insert_into_duckdb(tmp_path / "copy.db", subject, rows)}

    found = figure.once(both)
    assert {count for _, count in found.values()} == {len(rows)}, "rows are missing in a copy"
    figure.checked(f"all {len(rows)} rows are in both copies")
    figure.rows = len(rows)
    if subject.generated:
        columns = ", ".join(sorted(subject.generated))
        figure.warn(
            f"generated columns ({columns}): Postgres computes them, the DuckDB copy does not have them"
        )
    figure.table(
        "Single inserts, each in its own transaction",
        [
            {
                "engine": name,
                "rows_per_second": round(len(rows) / sum(seconds)),
                "latency_ms_p50": round(percentile(seconds, 50) * 1e3, 3),
                "latency_ms_p99": round(percentile(seconds, 99) * 1e3, 3),
            }
            for name, (seconds, _) in found.items()
        ],
    )


def bench_size(figure: Figure, subject: UserTable, tmp_path: Path) -> None:
    figure.title = "How large is the table?"
    sizes = QUERIES["sizes"]
    with subject.store.connect() as connection:
        found = connection.execute(sizes, {"oid": subject.state.relation}).fetchone()
    assert found is not None
    with duckdb.connect() as database:
        rows = database.read_parquet(subject.state.locations)
        figure.once(lambda: rows.write_csv(str(tmp_path / "rows.csv")))
        counted = len(rows)
    assert counted == subject.state.rows
    figure.checked("the CSV file has as many rows as the epoch")
    figure.rows = subject.state.rows
    sized = {
        "Postgres, the table": found[0],
        "Postgres, its indexes": found[1],
        "CSV": (tmp_path / "rows.csv").stat().st_size,
        "Parquet, in the lake": subject.state.bytes,
    }
    figure.table(
        "Bytes",
        [
            {"form": form, "bytes": size, "bytes_per_row": round(size / max(subject.state.rows, 1), 1)}
            for form, size in sized.items()
        ],
    )
    for warning in subject.warnings:
        figure.warn(warning)


def questions_of(subject: UserTable, by: SourceColumn | None) -> dict[str, Question]:
    """The questions whose times are compared at several sizes. `by`: the column to group by."""
    plain = plain_columns(subject)
    found = {}
    if subject.key is not None and (question := middle_look_up(subject)) is not None:
        found["look-up by key"] = question
    found["scan of 1 column"] = scan(subject.name, plain[:1], subject.state.rows)
    if len(plain) > 1:
        found[f"scan of {len(plain)} columns"] = scan(subject.name, plain, subject.state.rows)
    if by is not None:
        found[f"group-by of {by.name}"] = grouped(subject.name, by, measure_of(subject, by))
    return found


def time_query(
    figure: Figure, subject: UserTable, question: Question, label: str = "", seconds: float | None = None
) -> VariantTimes:
    """Time a query on both engines, interleaved."""
    with open_engines(ENGINES, subject.settings, subject.epoch) as engines:
        times = figure.interleaved(
            {engine.name: partial(answer_of, engine, question) for engine in engines},
            lambda answers: compare_answers(question, answers),
            label=label,
            seconds=seconds,
        )
    figure.checked(f"the answers of {' and '.join(ENGINES)} are equal")
    figure.rows = subject.state.rows
    return times


@contextmanager
def skip_rejected_copies() -> Iterator[None]:
    """Skip the benchmark if Postgres rejects the copy or a row: a privilege is missing, or an index or check
    calls a function that depends on the original table."""
    try:
        yield
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        pytest.skip(f"cannot insert into a copy of the table: {error.diag.message_primary}")


def middle_look_up(subject: UserTable) -> Question | None:
    """The row with the key in the middle of the table; None if a parameter cannot hold the key."""
    key = subject.key
    assert key is not None
    with open_engine("duckdb", subject.settings, subject.epoch) as engine:
        middle = answer_of(engine, middle_key(subject.name, key, subject.state.rows)).column(0)[0]
    try:
        value = middle.as_py()
    except (OverflowError, ValueError):
        return None
    all_queried = len(subject.queried) == len(subject.columns)
    return look_up(subject.name, key, value, () if all_queried else subject.queried)


def plain_columns(subject: UserTable) -> list[SourceColumn]:
    """The columns that are not in the key, or all."""
    return [column for column in subject.queried if not column.in_key] or subject.queried


def group_columns(subject: UserTable, candidates: list[SourceColumn]) -> list[tuple[int, SourceColumn]]:
    """The columns with a suitable number of groups, and that number."""
    with open_engine("duckdb", subject.settings, subject.epoch) as engine:
        (groups,) = engine.sql(count_distinct(subject.name, candidates).sql).to_pylist()
    counted = zip(groups.values(), candidates, strict=True)
    return [(count, column) for count, column in counted if GROUPS_MIN <= count <= GROUPS_MAX]


def measure_of(subject: UserTable, by: SourceColumn) -> SourceColumn | None:
    """The first column with an exact sum, to be summed by group; None if it is the column of the groups."""
    rows = subject.state.rows
    found = next((one for one in subject.queried if not one.in_key and has_exact_sum(one, rows)), None)
    return None if found == by else found


def middle_key(table: str, key: SourceColumn, rows: int) -> Question:
    """The key of the row in the middle of the table."""
    tree = exp.select(_column(key)).from_(_table(table)).order_by(_column(key))
    return _question(tree.offset(rows // 2).limit(1))


def look_up(
    table: str, key: SourceColumn, value: int | str, columns: Sequence[SourceColumn] = ()
) -> Question:
    """The row with this key. `columns`: empty for all."""
    wanted = exp.EQ(this=_column(key), expression=exp.Placeholder(this="key"))
    selected = exp.select(*map(_column, columns)) if columns else exp.select("*")
    return _question(selected.from_(_table(table)).where(wanted), {"key": value})


def scan(table: str, columns: list[SourceColumn], rows: int) -> Question:
    """One aggregate for each column, which has to read all values of the column."""
    selected = [exp.alias_(_summary(column, rows), f"c{number}") for number, column in enumerate(columns)]
    return _question(exp.select(*selected).from_(_table(table)))


def grouped(table: str, by: SourceColumn, measure: SourceColumn | None) -> Question:
    """The number of rows of each group, and the sum of `measure`."""
    selected: list[exp.Expr] = [exp.alias_(_column(by), "g"), exp.alias_(exp.Count(this=exp.Star()), "n")]
    if measure is not None:
        selected.append(exp.alias_(exp.Sum(this=_column(measure)), "total"))
    return _question(exp.select(*selected).from_(_table(table)).group_by(_column(by)))


def count_distinct(table: str, columns: list[SourceColumn]) -> Question:
    selected = [
        exp.alias_(exp.Count(this=exp.Distinct(expressions=[_column(column)])), f"c{number}")
        for number, column in enumerate(columns)
    ]
    return _question(exp.select(*selected).from_(_table(table)))


def may_group(column: SourceColumn, subject: UserTable) -> bool:
    is_exact = not pa.types.is_floating(column.arrow_type)
    return is_exact and not column.in_key and column.name not in subject.nondeterministic


def has_exact_sum(column: SourceColumn, rows: int) -> bool:
    """Whether the sum of this many rows does not depend on their order and fits into 38 digits, the limit of
    DuckDB."""
    arrow = column.arrow_type
    if pa.types.is_decimal(arrow):
        return bool(arrow.precision + len(str(rows)) <= DECIMAL_DIGITS_MAX)
    return bool(pa.types.is_integer(arrow))


def _summary(column: SourceColumn, rows: int) -> exp.Expr:
    """An aggregate that is exact and reads the column. MIN and MAX are not used: the footer of a file answers
    them. Each expression has the same result in Postgres and DuckDB; a cast of char(n) or bytea to text has
    not."""
    found, arrow = _column(column), column.arrow_type
    if has_exact_sum(column, rows):
        return exp.Sum(this=found)
    if pa.types.is_boolean(arrow):
        return _how_many(found)
    if pa.types.is_decimal(arrow):
        return _how_many(exp.GT(this=found, expression=exp.Literal.number(0)))
    if pa.types.is_binary(arrow):
        return exp.Sum(this=exp.Anonymous(this="octet_length", expressions=[found]))
    if column.pg_type == "bpchar":
        trimmed = exp.Anonymous(this="rtrim", expressions=[found, exp.Literal.string(" ")])
        return exp.Sum(this=exp.Length(this=trimmed))
    if pa.types.is_floating(arrow):
        return _how_many(exp.GT(this=found, expression=exp.Literal.number(1)))
    if pa.types.is_timestamp(arrow) or pa.types.is_date(arrow):
        day = exp.Extract(this=exp.var("DAY"), expression=found)
        return _how_many(exp.GT(this=day, expression=exp.Literal.number(15)))
    return exp.Sum(this=exp.Length(this=exp.cast(found, "VARCHAR")))


def _how_many(condition: exp.Expr) -> exp.Expr:
    return exp.Count(this=exp.case().when(condition, exp.Literal.number(1)))


def _column(column: SourceColumn) -> exp.Column:
    return exp.column(exp.to_identifier(column.name, quoted=True))


def _table(name: str) -> exp.Table:
    return exp.Table(this=exp.to_identifier(name, quoted=True))


def _question(tree: exp.Expr, parameters: dict[str, int | str] | None = None) -> Question:
    # DuckDB's dialect writes a placeholder as $name, as `parameters.py` expects.
    return ad_hoc_question(tree.sql(dialect="duckdb"), parameters or {})
