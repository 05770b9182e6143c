"""`ridelake epochs`."""

import click

from ridelake.screen import note, say_json, say_table
from ridelake.settings import Settings

WHAT = {"full": "all rows", "changes": "changes", "maintenance": "no rows"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
@click.pass_obj
def epochs(settings: Settings, as_json: bool) -> None:
    """List the published epochs, newest first."""
    from lakehouse.table.published import no_epoch_message, read_epochs

    found = read_epochs(settings.lake)
    if as_json:
        say_json([epoch.report() for epoch in found])
    elif not found:
        note(no_epoch_message(settings.lake))
    else:
        rows = [
            (
                epoch.number,
                f"{epoch.token.taken_at[5:19].replace('T', ' ')}",
                WHAT[epoch.kind],
                f"+{epoch.changed:,} −{epoch.deleted:,}",
                epoch.rows,
                len(epoch.files),
                f"{epoch.bytes / 1e6:,.1f}",
                f"{epoch.seconds:.2f}",
                "yes" if epoch.verified else "",
                epoch.token.snapshot,
            )
            for epoch in found
        ]
        heads = ("epoch", "as of (UTC)", "copied", "rows ±", "rows", "files", "MB", "s", "equal", "token")
        say_table(heads, rows)
