"""`ridelake up` and `ridelake down`."""

import click

from oltp import embedded
from oltp.store import ensure_database
from ridelake.errors import UsageError
from ridelake.screen import note
from ridelake.settings import Settings


@click.command()
@click.pass_obj
def up(settings: Settings) -> None:
    """Start the embedded Postgres and let it stay until `ridelake down`."""
    cluster = embedded.hold(_embedded(settings).home)
    ensure_database(cluster.conninfo("postgres"), "ridelake")
    note(f"up: psql '{cluster.conninfo('ridelake')}'", verbatim=True)


@click.command()
@click.pass_obj
def down(settings: Settings) -> None:
    """Stop the embedded Postgres, or let it go when its last user leaves."""
    stopped = embedded.release(_embedded(settings).home)
    note("down" if stopped else "the server is in use: it stops when its last user disconnects")


def _embedded(settings: Settings) -> Settings:
    if settings.dsn is not None:
        raise UsageError("--dsn names a server of yours, which ridelake does not start or stop: leave it out")
    return settings
