"""`ridelake sql`: run one query on the newest epoch."""

import re
import sys

import click

from olap.commands.options import EPILOG, answer_options, complete_tables
from ridelake.errors import UsageError
from ridelake.settings import Settings

COMMENT = re.compile(r"--(\s|[^=\n]*\n)")


class QueryCommand(click.Command):
    """Accepts a query that begins with a comment; click would parse `--` as an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [f"\n{one}" if COMMENT.match(one) else one for one in args])


@click.command(cls=QueryCommand, epilog=EPILOG)
@click.argument("query", required=False, shell_complete=complete_tables)
@click.option("-f", "--file", "query_file", metavar="FILE", help="Read the query from FILE; - is stdin.")
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
    """Run a QUERY on the newest epoch; - or a pipe reads it from stdin. Without a query, on a
    terminal, start an interactive shell.

    Only the answer goes to stdout. Tables: rides, riders, drivers, zones, cities, payments, ledger,
    accounts, requests, and the view RideTable.

    \b
        ridelake sql "SELECT AVG(Price) FROM RideTable WHERE City = 'Stanford' AND Month = 'July'"
        ridelake sql --engine all --format json < query.sql
        ridelake sql --fresh "SELECT count(*) FROM rides WHERE status = 'started'"
        ridelake sql 'SELECT * FROM rides WHERE fare_cents > $min' -p min=5000 -o rides.parquet
    """
    from olap.parameters import parse
    from olap.render import OutputOptions, ask_and_print

    telling = OutputOptions(format_, file, limit, as_json, why=why)
    values = parse(parameters)
    if query is None and query_file is None and sys.stdin.isatty() and sys.stdout.isatty():
        from olap.shell import Shell

        Shell(settings, engines, telling, values, as_of, fresh, timeout_seconds).run()
        return
    from olap.question import ad_hoc_question, query_text, statements

    text = query_text(query, query_file)
    if (count := len(list(statements(text)))) > 1:
        raise UsageError(
            f"this is {count} statements; give one, or run a file with \\i in the shell (`ridelake sql`)"
        )
    # One engine runs once, for its answer. Several are compared, then timed in rounds as in `ask`.
    several = len(engines) > 1 or "," in engines[0] or engines[0] == "all"
    ask_and_print(
        settings,
        ad_hoc_question(text, values),
        engines,
        telling,
        repeat=several,
        as_of=as_of,
        fresh=fresh,
        timeout_seconds=timeout_seconds,
    )
