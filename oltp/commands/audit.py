"""`ridelake audit`."""

import click

from ridelake.errors import ProofFailed
from ridelake.screen import note, say, say_json
from ridelake.settings import Settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
@click.pass_obj
def audit(settings: Settings, as_json: bool) -> None:
    """Check that the store keeps its rules; exit 1 with the rows that break one."""
    from oltp.audit import audit as audit_store
    from oltp.store import open_store

    with open_store(settings) as store, store.connect() as connection:
        report = audit_store(connection)
    if as_json:
        say_json(report.as_dict())
    else:
        for finding in report.findings:
            say(f"{'✗' if finding.broken else '✓'} {finding.condition.name}: {finding.condition.rule}")
            for row in finding.offending:
                say("    " + ", ".join(f"{column} {value}" for column, value in row.items()))
            if finding.broken > len(finding.offending):
                say(f"    … {finding.broken:,} rows in all")
        note(f"one snapshot, {report.seconds:.1f} s")
    if not report.passed:
        raise ProofFailed(report.verdict)
