"""`ridelake xray`."""

import click

from lakehouse.commands.options import json_option
from ridelake.screen import draw, drawing_columns, say_json
from ridelake.settings import Settings


@click.command()
@click.option("--ride", "ride_id", type=click.IntRange(min=1, max=2**63 - 1), metavar="ID",
              help="The ride to show [one in the middle of the newest epoch].")  # fmt: skip
@click.option("--column", default="fare_cents", metavar="NAME", show_default=True, help="The column to show.")
@json_option
@click.pass_obj
def xray(settings: Settings, ride_id: int | None, column: str, as_json: bool) -> None:
    """Show the bytes of one ride and one column in a heap page of Postgres and in a Parquet row group.

    Nothing is changed: if the page is read with the extension pageinspect, its creation is rolled back.
    """
    from lakehouse.inspect import xray_ride as look

    found = look(settings, ride_id, column)
    if as_json:
        say_json(found.report())
        return
    from lakehouse.inspect.draw import draw_xray

    draw(list(draw_xray(found, drawing_columns())))
