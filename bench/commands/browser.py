"""Opens a page in the user's browser."""

import webbrowser
from pathlib import Path

from ridelake.screen import note


def open_page(page: Path) -> None:
    """Print a note if there is no browser; this is not an error."""
    try:
        opened = webbrowser.open(page.resolve().as_uri())
    except (webbrowser.Error, OSError):
        opened = False
    if not opened:
        note(f"no browser found; open {page} by hand")
