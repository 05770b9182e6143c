"""Run a query on open engines: what `ridelake sql`, the shell and the Python API share."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from olap.ask import AskResult, ask
from olap.query_epoch import relations, without_schemas
from ridelake.errors import QueryRejected, RidelakeError

if TYPE_CHECKING:
    from lakehouse.engines import Engine
    from lakehouse.table.epoch import Epoch
    from olap.question import Question


def run_query(
    question: "Question",
    engines: "Sequence[Engine]",
    epoch: "Epoch | None",
    *,
    rounds_max: int,
    timeout_seconds: float | None = None,
) -> AskResult:
    """`ask`, with table names as Postgres has them. Raises as `ask` does; the message of a QueryRejected ends
    with a hint, and its note is the line of the query with a caret."""
    if epoch is not None:
        question = replace(question, files_sql=without_schemas(question.sql, epoch))
    try:
        return ask(question, engines, epoch, rounds_max=rounds_max, timeout_seconds=timeout_seconds)
    except QueryRejected as error:
        raise _with_hint(str(error), question, engines, epoch) from error.__cause__


def _with_hint(
    message: str, question: "Question", engines: "Sequence[Engine]", epoch: "Epoch | None"
) -> QueryRejected:
    from olap.error_hints import error_hint, error_position, error_sentence, missing_table

    if epoch is not None and (missing := missing_table(question.sql, epoch)):
        return QueryRejected(missing)
    try:
        meant = error_hint(message, question.sql, lambda: relations(engines[0], epoch))
    except RidelakeError:  # the hint is optional
        meant = None
    rejected = QueryRejected(f"{error_sentence(message)}: {meant}" if meant else error_sentence(message))
    if where := error_position(message, question.sql):
        rejected.add_note(where)
    return rejected
