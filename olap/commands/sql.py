"""`ridelake sql`: one query, answered from the newest epoch."""

import sys

import click

from olap.commands.options import EPILOG, answer_options, complete_tables
from ridelake.settings import Settings


@click.command(epilog=EPILOG)
@click.argument("query", required=False, shell_complete=complete_tables)
@click.option("-f", "--file", "query_file", metavar="FILE", help="Read the query from FILE, - is stdin.")
@answer_options(engine="duckdb")
@click.pass_obj
def sql(
    settings: Settings,
    query: str | None,
    query_file: str | None,
    engines: tuple[str, ...],
    as_of: str | None,
    fresh: bool,
    parameters: tuple[str, ...],
    format_: str | None,
    file: str | None,
    limit: int | None,
    timeout_seconds: float | None,
    why: bool,
    as_json: bool,
) -> None:
    """Answer a QUERY from the newest epoch; - or a pipe reads it from stdin. Without one, on a
    terminal, an interactive shell starts.

    The answer alone goes to stdout. Tables: rides, riders, drivers, zones, cities, payments, ledger,
    accounts, requests, and the view RideTable.

    \b
        ridelake sql "SELECT AVG(Price) FROM RideTable WHERE City = 'Stanford' AND Month = 'July'"
        ridelake sql --engine all --format json < query.sql
        ridelake sql --fresh "SELECT count(*) FROM rides WHERE status = 'started'"
        ridelake sql 'SELECT * FROM rides WHERE fare_cents > $dear' -p dear=5000 -o dear.parquet
    """
    from olap.parameters import parse
    from olap.telling import Telling, ask_and_tell

    telling = Telling(format_, file, limit, as_json, why=why)
    values = parse(parameters)
    if query is None and query_file is None and sys.stdin.isatty() and sys.stdout.isatty():
        from olap.shell import Shell

        Shell(settings, engines, telling, values, as_of, fresh, timeout_seconds).run()
        return
    from olap.question import free, query_text

    # One engine is asked once: this is for the answer. Several are compared, and then timed as `ask` does.
    several = len(engines) > 1 or "," in engines[0] or engines[0] == "all"
    ask_and_tell(
        settings,
        free(query_text(query, query_file), values),
        engines,
        telling,
        repeat=several,
        as_of=as_of,
        fresh=fresh,
        timeout_seconds=timeout_seconds,
    )
