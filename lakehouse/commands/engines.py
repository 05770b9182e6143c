"""`ridelake engines`."""

import click

from ridelake.screen import say_json, say_table
from ridelake.settings import Settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
@click.pass_obj
def engines(settings: Settings, as_json: bool) -> None:
    """List the engines: which are here, and what installs the others."""
    from lakehouse.engines import ENGINES

    found = [
        {
            "engine": name,
            "here": package.version() is not None,
            "version": package.version(),
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
                one["version"] or "",
                one["reads"] if one["here"] else f"not here: {one['install']}",
            )
            for one in found
        ]
        say_table(("engine", "version", "reads"), rows)
