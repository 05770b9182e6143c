"""`ridelake up` and `ridelake down`."""

import click

from oltp.cluster import server
from oltp.store import ensure_database
from ridelake.errors import UsageError
from ridelake.screen import note
from ridelake.settings import Settings


@click.command()
@click.pass_obj
def up(settings: Settings) -> None:
    """Start the embedded Postgres and keep it running until `ridelake down`."""
    cluster = server.keep_running(_embedded(settings).home)
    ensure_database(cluster.conninfo("postgres"), "ridelake")
    note(f"up: psql '{cluster.conninfo('ridelake')}'", verbatim=True)


@click.command()
@click.pass_obj
def down(settings: Settings) -> None:
    """Stop the embedded Postgres once no command uses it."""
    stopped = server.stop_when_unused(_embedded(settings).home)
    note("down" if stopped else "the server is in use; it stops when the last command that uses it ends")


def _embedded(settings: Settings) -> Settings:
    if settings.dsn is not None:
        raise UsageError(
            "ridelake does not start or stop the server of --dsn; leave out --dsn and RIDELAKE_DSN"
        )
    return settings
