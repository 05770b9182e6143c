"""`ridelake sql` runs one query, or the shell; `ridelake ask` runs a named question on several engines."""

import re
import sys
from typing import Any

import click

from olap.options import EPILOG, QueryOptions, complete_questions, complete_tables, query_options
from ridelake.settings import Settings

COMMENT = re.compile(r"--(\s|[^=\n]*\n)")


class QueryCommand(click.Command):
    """Accepts a query that begins with a comment; click would parse `--` as an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [f"\n{one}" if COMMENT.match(one) else one for one in args])


@click.command(cls=QueryCommand, epilog=EPILOG)
@click.argument("query", required=False, shell_complete=complete_tables)
@click.option("-f", "--file", "query_file", metavar="FILE", help="Read the query from FILE; - is stdin.")
@query_options(engine="duckdb")
@click.pass_obj
def sql(settings: Settings, /, query: str | None, query_file: str | None, **given: Any) -> None:
    """Run a QUERY on the newest epoch; - or a pipe reads it from stdin. Without a query, on a terminal,
    start an interactive shell.

    Only the answer goes to stdout. Tables: rides, riders, drivers, zones, cities, payments, ledger,
    accounts, requests, and the view RideTable.

    \b
        ridelake sql "SELECT AVG(Price) FROM RideTable WHERE City = 'Stanford'"
        ridelake sql --engine all --format json < query.sql
        ridelake sql --fresh "SELECT count(*) FROM rides WHERE status = 'started'"
        ridelake sql 'SELECT * FROM rides WHERE city_id = $c' -p c=1 -o rides.csv
    """
    from olap.parameters import parse

    options = QueryOptions(**given)
    values = parse(options.parameters)
    if query is None and query_file is None and sys.stdin.isatty() and sys.stdout.isatty():
        from olap.shell import Shell

        Shell(settings, options, values).run()
        return
    from olap.question import ad_hoc_question, query_text, single_statement
    from olap.render import ask_and_print

    text = single_statement(query_text(query, query_file))
    ask_and_print(settings, ad_hoc_question(text, values), options)


@click.command(epilog=EPILOG)
@click.argument("question", required=False, shell_complete=complete_questions)
@query_options(engine="all")
@click.pass_obj
def ask(settings: Settings, /, question: str | None, **given: Any) -> None:
    """Run a named QUESTION on every engine; without a name, list the questions and their parameters.

    The answers are compared before any time is shown; if two differ, the exit code is 1.

    \b
        ridelake ask driver_ranking -p alpha=0.3 -p beta=0.7
        ridelake ask ride_by_id -p ride_id=42 --engine postgres,duckdb
    """
    options = QueryOptions(**given)
    if question is None:
        from olap.catalogue import list_questions

        list_questions(settings, options)
        return
    from olap.parameters import parse
    from olap.question import find_question
    from olap.render import ask_and_print

    ask_and_print(settings, find_question(question).given(parse(options.parameters)), options, repeat=True)
