"""`ridelake status`."""

import click

from ridelake.screen import say, say_json
from ridelake.settings import Settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
@click.pass_obj
def status(settings: Settings, as_json: bool) -> None:
    """What is there: the server, its rows, the newest epoch, and what holds back clean-up."""
    from lakehouse.status import status_of

    report = status_of(settings)
    if as_json:
        say_json(report)
        return
    width = max(map(len, report))
    for name, value in report.items():
        shown = f"{value:,}" if isinstance(value, int) else ("none" if value is None else str(value))
        say(f"{name.replace('_', ' '):<{width}}  {shown}")
