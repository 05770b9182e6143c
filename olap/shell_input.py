"""Read statements for the shell: several lines up to `;`, with history and completion of names."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import PygmentsLexer
from pygments.lexers.sql import PostgresLexer

COMMANDS = {  # name: (arguments, what it does)
    r"\d": ("[TABLE]", "list the tables, or the columns of a table"),
    r"\e": ("[NAME]", "show the engines, or change them: NAME, a,b or all"),
    r"\x": ("[auto|on|off]", "show one column a line; auto: only if the rows are too wide"),
    r"\o": ("[FILE]", "write the next answer to FILE; without FILE, to the terminal"),
    r"\i": ("FILE", "run the statements in FILE"),
    r"\set": ("[NAME=VALUE]", "show the parameters, or set $NAME to VALUE"),
    r"\limit": ("[N]", "show the first N rows of an answer, 0 for all"),
    r"\timeout": ("[SECONDS]", "cancel a query after SECONDS, 0 for never"),
    r"\pager": ("", "toggle the pager (PAGER) for long answers"),
    r"\timing": ("", "toggle the timing of answers"),
    r"\why": ("", "toggle the report of what each engine read"),
    r"\?": ("", "show this list; help does the same"),
    r"\q": ("", "quit; exit, quit and Ctrl-D do the same"),
}
OPTIONS = {
    "--timeout": r"\timeout",
    "--limit": r"\limit",
    "--engine": r"\e",
    "with -p ": r"with \set ",
    "-p name=value": r"\set name=value",
    "-p ": r"\set ",
    ", or give --format": "",
    " in the shell (`ridelake sql`)": "",
}
COMMAND_WORDS = {"help": r"\?", "exit": r"\q", "quit": r"\q"}  # accepted without a backslash or a semicolon

KEYWORDS = """
SELECT FROM WHERE GROUP BY ORDER HAVING LIMIT OFFSET DISTINCT AS JOIN LEFT RIGHT FULL INNER OUTER CROSS ON
USING UNION ALL EXCEPT INTERSECT WITH AND OR NOT IN BETWEEN LIKE IS NULL CASE WHEN THEN ELSE END CAST
COUNT SUM AVG MIN MAX COALESCE EXTRACT OVER PARTITION ROWS FILTER ASC DESC INTERVAL EXPLAIN
"""

_WORD = re.compile(r"\w*$")


class NameCompleter(Completer):
    """Completes commands, engines, tables and columns; columns of tables in the statement come first."""

    def __init__(self, relations: Mapping[str, Sequence[str]], engines: Sequence[str]) -> None:
        self.relations = relations
        self.engines = engines

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        text = document.text_before_cursor
        if text.startswith("\\") and " " not in text:
            return _beginning(text, COMMANDS)
        match = _WORD.search(text)
        word = match[0] if match else ""
        if text.startswith(r"\e "):
            return _beginning(word, [*self.engines, "all"])
        if text.startswith(r"\d "):
            return _beginning(word, self.relations)
        return _beginning(word, self._names(document.text)) if word else ()

    def _names(self, text: str) -> Iterator[str]:
        mentioned = {word.lower() for word in re.findall(r"\w+", text)}
        for name, columns in self.relations.items():
            if name.lower() in mentioned:
                yield from columns
        yield from self.relations
        for columns in self.relations.values():
            yield from columns
        yield from KEYWORDS.split()


def _beginning(word: str, names: Iterable[str]) -> Iterator[Completion]:
    for name in dict.fromkeys(names):
        if name.lower().startswith(word.lower()):
            yield Completion(name, start_position=-len(word))


def is_complete(text: str) -> bool:
    """Whether Enter ends the statement: it is a command, ends with `;`, or is empty."""
    text = text.strip()
    return not text or text.startswith("\\") or text.endswith(";") or text.lower() in COMMAND_WORDS


def with_shell_commands(message: str) -> str:
    """The message with command-line options replaced by the commands of the shell."""
    for option, command in OPTIONS.items():
        message = message.replace(option, command)
    return message


def prompt_session(home: Path, names: NameCompleter) -> PromptSession[str]:
    """A session whose `prompt` returns a statement; it raises KeyboardInterrupt on Ctrl-C, EOFError on
    Ctrl-D."""
    keys = KeyBindings()

    @keys.add("enter", filter=Condition(lambda: is_complete(get_app().current_buffer.text)))
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    return PromptSession(
        history=_history(home),
        completer=names,
        complete_while_typing=False,
        lexer=PygmentsLexer(PostgresLexer),
        multiline=True,
        key_bindings=keys,
        prompt_continuation="      ... ",
    )


def _history(home: Path) -> History:
    """A file that only its owner can read; in memory if the home is not writable."""
    file = home / "sql_history"
    try:
        home.mkdir(parents=True, exist_ok=True)
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    except OSError:
        return InMemoryHistory()
    return FileHistory(file)
