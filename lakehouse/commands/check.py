"""`ridelake audit` and `ridelake verify`. `audit` is not in `oltp`, because its last condition concerns the
lake."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from lakehouse.commands.options import json_option, store_and_lake
from lakehouse.commands.stores import for_each_source, source_option, sources_of
from ridelake.errors import ProofFailed, RidelakeError, UsageError
from ridelake.progress import progress
from ridelake.screen import note, say, say_json, say_table
from ridelake.settings import Settings

if TYPE_CHECKING:
    from lakehouse.verify import VerifyResult


@click.command()
@json_option
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


@click.command()
@click.argument("epoch", type=click.IntRange(min=1, max=10**9), required=False, metavar="[EPOCH]")
@source_option
@json_option
@click.pass_obj
def verify(settings: Settings, epoch: int | None, sources: tuple[str, ...], as_json: bool) -> None:
    """Compare the lake with Postgres row by row.

    The newest epoch plus the changes since then is compared with all current rows. With EPOCH, the
    number of an epoch, the checksums of its files are checked instead. If there is a difference, the rows or
    files are listed and the exit code is 1. With --source NAME=DSN, several times, each of these stores is
    compared at its own token.
    """
    from lakehouse.verify import verify_files, verify_now

    if epoch is not None:
        if sources:
            raise UsageError("EPOCH checks files, and --source compares rows: leave out one of them")
        with progress("verifying files"):
            checked = verify_files(settings.lake, epoch)
        if as_json:
            say_json({"epoch": epoch, "files": checked, "equal": True})
        else:
            say(f"epoch {epoch}: {checked:,} files match their checksums")
        return
    if named := sources_of(settings, sources):
        with progress("verifying"):
            reports, failures = for_each_source(settings, named, verify_now)
    else:
        with progress("verifying"), store_and_lake(settings, begin=False) as (store, lake):
            reports, failures = {"": verify_now(store, lake)}, []
    if as_json:
        say_json({n: one.as_dict() for n, one in reports.items()} if named else reports[""].as_dict())
    elif reports:
        _show_comparisons(reports)
    for name, report in reports.items():
        try:
            failures += (left := _left_out(name, report))
        except ProofFailed as error:
            if len(named) < 2:
                raise
            failures.append(f"{name}: {error}")
            continue
        if not as_json and not left:
            what = f"{name}: epoch" if name else "epoch"
            say(f"{what} {report.epoch} with the changes since then equals Postgres: {report.rows:,} rows")
    if failures:
        raise RidelakeError("; ".join(failures))


def _show_comparisons(reports: "Mapping[str, VerifyResult]") -> None:
    rows = [
        (name, one.table, one.rows, tail, "equal" if one.equal else "DIFFERS")
        for name, report in reports.items()
        for one, tail in zip(report.comparisons, report.tail_rows, strict=True)
    ]
    first = 1 if "" in reports else 0  # a lake of one store has no column `source`
    say_table(("source", "table", "rows", "changed since", "")[first:], [row[first:] for row in rows])


def _left_out(name: str, report: "VerifyResult") -> list[str]:
    """A sentence for each table that cannot be compared. Raises ProofFailed if the others differ."""
    from lakehouse.verify import NOT_TRACKED

    report.prove()
    store = f"{name}: " if name else ""
    if untracked := [table for table, why in report.not_compared.items() if why == NOT_TRACKED]:
        note(
            f"{store}not compared, because they are not tracked: {', '.join(untracked)}; "
            "`ridelake snapshot --verify` compares all tables"
        )
    return [
        f"{store}{table} is not compared: {why}"
        for table, why in report.not_compared.items()
        if table not in untracked
    ]
