"""`ridelake xray`."""

import click

from ridelake.screen import draw, drawing_columns, say_json
from ridelake.settings import Settings


@click.command()
@click.option("--ride", "ride_id", type=click.IntRange(min=1, max=2**63 - 1), metavar="ID",
              help="The ride to look for [one in the middle of the newest epoch].")  # fmt: skip
@click.option(
    "--column", default="fare_cents", metavar="NAME", show_default=True, help="The column to look for."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
@click.pass_obj
def xray(settings: Settings, ride_id: int | None, column: str, as_json: bool) -> None:
    """Show the bytes: one heap page of rides beside one row group, and where one ride and one column lie.

    Nothing is written: where the page can be read only by an extension, that is undone.
    """
    from lakehouse.xray import xray as look

    found = look(settings, ride_id, column)
    if as_json:
        say_json(found.report())
        return
    from lakehouse.xray.drawing import drawn

    draw(list(drawn(found, drawing_columns())))
