"""`ridelake epochs`."""

import click

from ridelake.screen import note, say_json, say_table
from ridelake.settings import Settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
@click.pass_obj
def epochs(settings: Settings, as_json: bool) -> None:
    """List the published epochs, newest first."""
    from lakehouse.epoch import read_epochs

    found = read_epochs(settings.lake)
    if as_json:
        say_json([epoch.report() for epoch in found])
    elif not found:
        note(f"no epoch yet in {settings.lake}: run `ridelake snapshot`")
    else:
        rows = [
            (
                epoch.number,
                f"{epoch.published_at:%Y-%m-%d %H:%M:%S} UTC",
                epoch.rows,
                epoch.tables["rides"].rows,
                len(epoch.files),
                f"{epoch.bytes / 1e6:,.1f}",
                f"{epoch.seconds:.1f}",
                epoch.token.snapshot,
            )
            for epoch in found
        ]
        say_table(("epoch", "published", "rows", "rides", "files", "MB", "seconds", "token"), rows)
