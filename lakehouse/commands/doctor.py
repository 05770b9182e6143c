"""`ridelake doctor`."""

from dataclasses import replace

import click

from lakehouse.commands.options import json_option
from ridelake.errors import CannotConnect, ProofFailed
from ridelake.screen import say, say_json
from ridelake.settings import Settings


@click.command()
@click.argument("server", required=False, metavar="[DSN]")
@json_option
@click.pass_obj
def doctor(settings: Settings, server: str | None, as_json: bool) -> None:
    """Check what a Postgres server can do for ridelake.

    The command tests snapshots, triggers, rights and the session behind a pooler. It prints one line for each
    check: `ok`, `works without`, or `refused` with the reason and what to do. The exit code is 1 if one is
    refused. Nothing is changed: all writes are rolled back.
    """
    from lakehouse.source.doctor import diagnose
    from oltp.store import open_existing_store

    settings = replace(settings, dsn=server or settings.dsn)
    if settings.dsn is not None:
        diagnosis = diagnose(settings.dsn)
    else:
        hint = "pass a DSN to check another server"
        with open_existing_store(settings, rides=False, hint=hint) as store:
            diagnosis = diagnose(store.conninfo)
    if as_json:
        say_json(diagnosis.report())
    else:
        width = max(map(len, diagnosis.results))
        for name, result in diagnosis.results.items():
            say(f"{name:<{width}}  {result.line()}")
    if not diagnosis.connected:
        raise CannotConnect(diagnosis.results["connection"].text)
    if not diagnosis.passed:
        failed = sum(one.status == "refused" for one in diagnosis.results.values())
        checks = f"{failed} of {len(diagnosis.results)} checks {'is' if failed == 1 else 'are'} refused"
        raise ProofFailed(f"ridelake cannot use this server with this role yet: {checks}")
