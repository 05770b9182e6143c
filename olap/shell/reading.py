"""Reading statements from a terminal: many lines until `;`, a history, completion of what has a name."""

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

COMMANDS = {
    r"\d": "the tables; \\d TABLE: its columns",
    r"\e": "who answers; \\e NAME (a,b or all): somebody else",
    r"\timing": "tell the time of an answer, or no more",
    r"\why": "tell what each engine had to touch, or no more",
    r"\?": "this list",
    r"\q": "leave, as Ctrl-D does",
}

KEYWORDS = """
SELECT FROM WHERE GROUP BY ORDER HAVING LIMIT OFFSET DISTINCT AS JOIN LEFT RIGHT FULL INNER OUTER CROSS ON
USING UNION ALL EXCEPT INTERSECT WITH AND OR NOT IN BETWEEN LIKE IS NULL CASE WHEN THEN ELSE END CAST
COUNT SUM AVG MIN MAX COALESCE EXTRACT OVER PARTITION ROWS FILTER ASC DESC INTERVAL EXPLAIN
"""

_WORD = re.compile(r"\w*$")


class Names(Completer):
    """Completes commands, engines, tables and columns; columns of tables in the statement come first."""

    def __init__(self, relations: Mapping[str, Sequence[str]], engines: Sequence[str]) -> None:
        self.relations = relations
        self.engines = engines

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        text = document.text_before_cursor
        if text.startswith("\\") and " " not in text:
            return _beginning(text, COMMANDS)
        begun = _WORD.search(text)
        word = begun[0] if begun else ""
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
    """Whether Enter ends the statement: a command of one line, a `;` at the end, or nothing at all."""
    text = text.strip()
    return not text or text.startswith("\\") or text.endswith(";")


def reader(home: Path, names: Names) -> PromptSession[str]:
    """Its `prompt` gives a statement; raises KeyboardInterrupt on Ctrl-C, EOFError on Ctrl-D."""
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
    """In a file for its owner's eyes, where the home can be written to."""
    file = home / "sql_history"
    try:
        home.mkdir(parents=True, exist_ok=True)
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    except OSError:
        return InMemoryHistory()
    return FileHistory(file)
