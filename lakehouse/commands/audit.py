"""`ridelake audit`. It is not in `oltp`, because its last condition concerns the lake."""

import click

from ridelake.errors import ProofFailed
from ridelake.progress import progress
from ridelake.screen import note, say, say_json
from ridelake.settings import Settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
@click.pass_obj
def audit(settings: Settings, as_json: bool) -> None:
    """Check the invariants of the store and the lake.

    Rows that violate an invariant are listed, and the exit code is then 1. Eleven conditions concern the
    store. The twelfth, F12, compares the newest epoch with the store, and is checked if there is an epoch.
    """
    from lakehouse.capture.publish import newest_epoch_sums
    from oltp.audit import audit as audit_store
    from oltp.store import open_existing_store

    with (
        progress("auditing"),
        open_existing_store(settings) as store,
        store.connect() as connection,
    ):
        epoch = newest_epoch_sums(store, settings.lake)
        report = audit_store(connection, epoch)
    if as_json:
        say_json(report.as_dict())
    else:
        for finding in report.findings:
            mark, condition = "✗" if finding.broken else "✓", finding.condition
            say(f"{mark} {condition.number:>3} {condition.name}: {condition.rule}")
            for row in finding.offending:
                say("      " + ", ".join(f"{column} {value}" for column, value in row.items()))
            if finding.broken > len(finding.offending):
                say(f"      … {finding.broken:,} rows in all")
        against = (
            f"epoch {epoch.number}"
            if epoch
            else "no epoch of this server with all tables, so F12 was not checked"
        )
        note(f"one snapshot, {report.seconds:.1f} s; {against}")
    if not report.passed:
        raise ProofFailed(report.verdict)
