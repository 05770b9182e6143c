"""`ridelake status`."""

import click

from lakehouse.commands.options import json_option
from ridelake.screen import say, say_json, say_table
from ridelake.settings import Settings


@click.command()
@json_option
@click.pass_obj
def status(settings: Settings, as_json: bool) -> None:
    """Show the server, the ride store, the lake, its lag behind Postgres, and the next command to run.

    It does not create or start anything. Transactions of all databases of the server are counted.
    """
    from lakehouse.capture.status import read_status

    report = read_status(settings)
    if as_json:
        say_json(report)
        return
    tables, next_step = report.pop("tables", []), report.pop("next")
    report.pop("same_server", None)
    width = max(map(len, report))
    for name, value in report.items():
        shown = f"{value:,}" if isinstance(value, int) else ("none" if value is None else str(value))
        say(f"{name.replace('_', ' '):<{width}}  {shown}")
    if tables:
        words = {True: "yes", False: "no", None: "unknown"}
        rows = [(one["table"], one["rows"], words[one["tracked"]]) for one in tables]
        say_table(("table in the lake", "rows", "tracked"), rows)
    say(f"next: {next_step}")
