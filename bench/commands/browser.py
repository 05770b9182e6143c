"""A page that a command has written, in the user's browser."""

import webbrowser
from pathlib import Path

from ridelake.screen import note


def open_page(page: Path) -> None:
    """A machine without a browser is no failure: the page is there, and its path has been printed."""
    try:
        opened = webbrowser.open(page.resolve().as_uri())
    except (webbrowser.Error, OSError):
        opened = False
    if not opened:
        note(f"no browser was found: open {page} yourself")
