"""`ridelake sql`: one query, answered from the newest epoch."""

import sys
from pathlib import Path

import click

from olap.commands.options import answer_options
from ridelake.errors import BadInput, UsageError
from ridelake.settings import Settings


@click.command()
@click.argument("query", required=False)
@click.option("-f", "--file", metavar="FILE", help="Read the query from FILE, - is stdin.")
@answer_options(engine="duckdb")
@click.pass_obj
def sql(
    settings: Settings,
    query: str | None,
    file: str | None,
    engines: tuple[str, ...],
    format_: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Answer a QUERY from the newest epoch; - or a pipe reads it from stdin.

    The answer alone goes to stdout. Tables: rides, riders, drivers, zones, cities, payments, ledger,
    accounts, requests, and the view RideTable.

    \b
        ridelake sql "SELECT AVG(Price) FROM RideTable WHERE City = 'Stanford' AND Month = 'July'"
        ridelake sql --engine all --format json < query.sql
    """
    text = query_text(query, file)
    from olap.question import free
    from olap.telling import ask_and_tell

    # One engine is asked once: this is for the answer. Several are compared, and then timed as `ask` does.
    several = len(engines) > 1 or "," in engines[0] or engines[0] == "all"
    ask_and_tell(settings, free(text), engines, format_=format_, limit=limit, as_json=as_json, repeat=several)


def query_text(query: str | None, file: str | None) -> str:
    """The SQL of the call. Raises UsageError if there is none, or two."""
    if query is not None and file is not None:
        raise UsageError("there are two queries: give it as an argument or with -f, not both")
    source = file or ("-" if query is None and not sys.stdin.isatty() else query)
    try:
        if source == "-":
            text = sys.stdin.buffer.read().decode()
        elif file is not None:
            text = Path(file).read_text("utf-8")
        else:
            text = query or ""
    except OSError as error:
        raise BadInput(f"cannot read {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{file or 'stdin'} is not text in UTF-8: is it the right file?") from error
    text = text.removeprefix("\ufeff").strip().rstrip(";").rstrip()
    if not text:
        raise UsageError(
            'no query: give one, as in `ridelake sql "SELECT COUNT(*) FROM rides"`, or - to read stdin'
        )
    return text
