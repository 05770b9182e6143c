"""`ridelake engines`."""

import subprocess
import sys
from typing import Any

import click

from lakehouse.commands.options import json_option
from ridelake.errors import CannotConnect
from ridelake.screen import say_json, say_table
from ridelake.settings import Settings


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
    """List the engines that are installed, and how to install the others."""
    from lakehouse.engines import ENGINES, full_version

    versions = {name: _version(name, settings) for name, package in ENGINES.items() if package.version()}
    found: list[dict[str, Any]] = [
        {
            "engine": name,
            "here": name in versions,
            "version": versions.get(name),
            "package": f"{package.distribution} {package.version()}" if name in versions else None,
            "reads": package.reads,
            "s3": package.remote,
            "apart": package.apart,
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
                one["reads"] if one["here"] else f"not installed: {one['install']}",
            )
            for one in found
        ]
        say_table(("engine", "version", "reads"), rows)
