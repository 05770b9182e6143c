"""`ridelake status`, `engines` and `xray`."""

import subprocess
import sys
from typing import Any

import click

from lakehouse.commands.options import json_option
from ridelake.errors import CannotConnect
from ridelake.screen import draw, drawing_columns, say, say_json, say_table
from ridelake.settings import Settings


@click.command()
@json_option
@click.pass_obj
def status(settings: Settings, as_json: bool) -> None:
    """Show the server, the ride store, the lake, its lag behind Postgres, and the next command to run.

    It does not create or start anything. The lag counts transactions of all databases of the server.
    """
    from lakehouse.capture.status import read_status

    report = read_status(settings)
    if as_json:
        say_json(report)
        return
    tables, next_step = report.pop("tables", []), report.pop("next")
    report.pop("same_server", None)
    width = max(map(len, report))
    for name, value in report.items():
        shown = f"{value:,}" if isinstance(value, int) else ("none" if value is None else str(value))
        say(f"{name.replace('_', ' '):<{width}}  {shown}")
    if tables:
        words = {True: "yes", False: "no", None: "unknown"}
        rows = [(one["table"], one["rows"], words[one["tracked"]]) for one in tables]
        say_table(("table in the lake", "rows", "tracked"), rows)
    say(f"next: {next_step}")


def _version(name: str, settings: Settings) -> str | None:
    """The version of the engine, as `ask` prints it; None for an unreachable server. Does not start a
    server."""
    from lakehouse.engines import ENGINES

    if name == "chdb":  # the version needs an import, which is safer in a separate process
        program = "import chdb; print(chdb.engine_version)"
        done = subprocess.run(
            ["env", "DO_NOT_TRACK=1", sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
        )
        return done.stdout.strip() or None
    if name != "postgres":
        return ENGINES[name].version()
    try:
        if settings.dsn is None:
            from oltp.cluster.process import binaries

            words = subprocess.check_output([binaries() / "postgres", "--version"], text=True).split()
            return words[-1]
        from oltp.store import open_database

        number = open_database(settings.dsn, install=False).server_version
        return f"{number // 10_000}.{number % 10_000}"
    except CannotConnect:
        return None


@click.command()
@json_option
@click.pass_obj
def engines(settings: Settings, as_json: bool) -> None:
    """List the engines that are installed, and how to install the others.

    The columns `folder` and `bucket` show whether an engine reads a lake in a folder and in a bucket.
    """
    from lakehouse.engines import ENGINES, full_version

    versions = {name: _version(name, settings) for name, package in ENGINES.items() if package.version()}
    found: list[dict[str, Any]] = [
        {
            "engine": name,
            "here": name in versions,
            "version": versions.get(name),
            "package": f"{package.distribution} {package.version()}" if name in versions else None,
            "reads": package.reads,
            "folder": True,
            "bucket": True,
            "in_subprocess": package.in_subprocess,
            "install": package.install,
        }
        for name, package in ENGINES.items()
    ]
    if as_json:
        say_json(found)
    else:
        rows = [
            (
                one["engine"],
                full_version(one["engine"], one["version"]) if one["here"] else "",
                "✓" if one["folder"] else "–",
                "✓" if one["bucket"] else "–",
                one["reads"] if one["here"] else f"not installed: {one['install']}",
            )
            for one in found
        ]
        say_table(("engine", "version", "folder", "bucket", "reads"), rows)


@click.command()
@click.option("--ride", "ride_id", type=click.IntRange(min=1, max=2**63 - 1), metavar="ID",
              help="The ride to show [one in the middle of the newest epoch].")  # fmt: skip
@click.option("--column", default="fare_cents", metavar="NAME", show_default=True, help="The column to show.")
@click.option("--source", metavar="NAME", help="The store of --dsn, in a lake of several stores.")
@json_option
@click.pass_obj
def xray(settings: Settings, ride_id: int | None, column: str, source: str | None, as_json: bool) -> None:
    """Show the bytes of one ride and one column in a heap page of Postgres and in a Parquet row group.

    Nothing is changed: if the page is read with the extension pageinspect, its creation is rolled back.
    """
    from lakehouse.inspect import xray_ride as look

    found = look(settings, ride_id, column, source)
    if as_json:
        say_json(found.report())
        return
    from lakehouse.inspect.draw import draw_xray

    draw(list(draw_xray(found, drawing_columns())))
