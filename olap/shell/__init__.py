"""The interactive shell of `ridelake sql`: one line in, one answer out.

    reading.py   the line: history, completion, colours, until the `;`
    session.py   what it does: a query, or a command that begins with a backslash

Loaded when the shell starts; a query in the command line needs none of it.
"""

from olap.shell.session import Shell

__all__ = ["Shell"]
