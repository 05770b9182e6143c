"""The options that `sql` and `ask` share."""

from collections.abc import Callable
from typing import Any

import click

FORMATS = ("table", "csv", "json", "jsonl", "markdown")


def answer_options(engine: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """--engine (by default `engine`), --format, --limit and --json."""
    options = [
        click.option(
            "--engine", "engines", multiple=True, default=[engine], metavar="NAME|all",
            help=f"Who answers; several by comma, `all` compares every one [{engine}].",
        ),
        click.option(
            "--format", "format_", type=click.Choice(FORMATS),
            help="Of the answer [table on a terminal, csv elsewhere].",
        ),
        click.option(
            "--limit", type=click.IntRange(min=0), metavar="N",
            help="Show the first N rows, 0 for all [100 in a table, all elsewhere].",
        ),
        click.option("--json", "as_json", is_flag=True, help="Tell who answered, how fast, and checksums."),
    ]  # fmt: skip

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return add
