"""`ridelake live`."""

import webbrowser

import click

from ridelake.errors import NotReady, RidelakeError
from ridelake.screen import note, say
from ridelake.settings import Settings

PORT = 8400


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=PORT,
    show_default=True,
    help="Port on the loopback interface; 0: a free one.",
)
@click.option("--open", "in_browser", is_flag=True, help="Open the page in the browser.")
@click.pass_obj
def live(settings: Settings, port: int, in_browser: bool) -> None:
    """Serve a page that shows Postgres and the lake at work: bookings, epochs, queries, failures.

    The page runs until Ctrl-C. It books rides in the embedded store, which is filled with 100,000 rides if
    it is empty, and publishes them every second. A store that --dsn names is only read. The address contains
    a secret and works on this machine only.
    """
    try:
        from bench.live.session import open_live
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in ("starlette", "uvicorn", "h11"):
            raise
        raise NotReady(f"{package} is not installed: `pip install 'ridelake[live]'`") from error
    with open_live(settings, port) as run:
        say(run.url, verbatim=True)
        note("press Ctrl-C to stop")
        if in_browser and not _opened(run.url):
            note("no browser found; open the address by hand")
        while not run.failed.wait(0.5):  # a wait without a limit delays signals
            pass
    raise RidelakeError("the web server ended unexpectedly: run the command again with --debug")


def _opened(url: str) -> bool:
    try:
        return webbrowser.open(url)
    except (webbrowser.Error, OSError):
        return False
