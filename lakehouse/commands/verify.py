"""`ridelake verify`."""

import click

from ridelake.progress import progress
from ridelake.screen import say, say_json, say_table
from ridelake.settings import Settings


@click.command()
@click.argument("epoch", type=click.IntRange(min=1, max=10**9), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
@click.pass_obj
def verify(settings: Settings, epoch: int | None, as_json: bool) -> None:
    """Compare the lake with Postgres row by row.

    The newest epoch with the changes since then is compared with all current rows. With the number of an
    EPOCH, the checksums of its files are checked instead. If there is a difference, the rows or files are
    listed and the exit code is 1.
    """
    from lakehouse.commands.options import check_no_tables_left_out, store_and_lake
    from lakehouse.table.published import newest_epoch
    from lakehouse.verify import verify_files, verify_now

    if epoch is not None:
        with progress("verifying files"):
            checked = verify_files(settings.lake, epoch)
        if as_json:
            say_json({"epoch": epoch, "files": checked, "equal": True})
        else:
            say(f"epoch {epoch}: {checked:,} files match their checksums")
        return
    with progress("verifying"), store_and_lake(settings, begin=False) as (store, lake):
        report = verify_now(store, lake)
    if as_json:
        say_json(report.as_dict())
    else:
        say_table(
            ("table", "rows", "changed since", ""),
            [
                (one.table, one.rows, tail, "equal" if one.equal else "DIFFERS")
                for one, tail in zip(report.comparisons, report.tail_rows, strict=True)
            ],
        )
    report.prove()
    check_no_tables_left_out(newest_epoch(settings.lake))
    if not as_json:
        say(f"epoch {report.epoch} with the changes since then equals Postgres: {report.rows:,} rows")
