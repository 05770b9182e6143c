"""The interactive shell of `ridelake sql`.

    reading.py   reads a statement: history, completion, colours, up to the `;`
    session.py   runs it: a query, or a command that begins with a backslash
    display.py   commands that change how answers are shown

Imported when the shell starts; a query on the command line does not need it.
"""

from olap.shell.session import Shell

__all__ = ["Shell"]
