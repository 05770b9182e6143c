"""A question: one SQL text for all SQL engines, and a Python function over frames for Polars."""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.engines.parameters import NO_PARAMETERS, Parameters
from olap.parameters import merge_parameters, typed
from ridelake.errors import BadInput, UsageError, did_you_mean

if TYPE_CHECKING:
    import polars as pl

    FrameAnswer = Callable[[Mapping[str, pl.LazyFrame]], pl.LazyFrame]

# Tokens that may contain ORDER BY or a semicolon without being one (comments, strings, quoted names, dollar
# quotes), and parentheses, which determine the nesting depth.
_SQL_TOKEN = re.compile(
    r"""--[^\n]* | /\*.*?\*/ | '(?:[^']|'')*' | "(?:[^"]|"")*" | \$(\w*)\$.*?\$\1\$
        | [();] | \bORDER\s+BY\b""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


LOOK_UP = "look-up"
_COMMENTS = re.compile(r"\A(?:\s+|--[^\n]*|/\*.*?\*/)+", re.DOTALL)

# "-- $alpha = 0.5: its meaning" above the SQL declares a parameter with its default.
_DECLARATION = re.compile(r"-- \$(\w+) = ([^:]+): (.+)")


@dataclass(frozen=True, slots=True)
class Question:
    """A query with values for the `$names` in its SQL. `frames`: the same query for Polars, or None if there
    is only SQL, which Polars then runs itself. `meanings`: descriptions of the parameters. `files_sql`: the
    SQL for engines over files, if it differs."""

    name: str
    purpose: str
    sql: str
    frames: "FrameAnswer | None" = None
    parameters: Parameters = field(default_factory=dict)
    meanings: Mapping[str, str] = field(default_factory=dict)
    files_sql: str | None = None

    def sql_for(self, engine: str) -> str:
        """The SQL for that engine; table names have no schema if the engine reads files."""
        return self.sql if engine == "postgres" or self.files_sql is None else self.files_sql

    @property
    def group(self) -> str:
        """`look-up` or `analysis`."""
        return LOOK_UP if self.purpose.lower().startswith("a look-up") else "analysis"

    @property
    def summary(self) -> str:
        """The purpose without the name of the group."""
        if self.group != LOOK_UP:
            return self.purpose
        summary = self.purpose.split(": ", 1)[-1]
        return summary[:1].upper() + summary[1:]

    @property
    def ordered(self) -> bool:
        """Whether the SQL has an ORDER BY, so that a different order is a different answer."""
        return is_ordered(self.sql)

    def given(self, parameters: Parameters) -> "Question":
        """The question with these values instead of the defaults. Raises UsageError for an unknown name."""
        if not parameters:
            return self
        values = merge_parameters(self.parameters, parameters, self.name)
        return replace(self, parameters=values, frames=self.frames and _frames(self.name, values))


@cache
def questions() -> dict[str, Question]:
    """All questions by name, in alphabetical order."""
    texts = sorted(
        (file for file in files("olap.questions").iterdir() if file.name.endswith(".sql")),
        key=lambda file: file.name,
    )
    return {question.name: question for question in (_read(f.name[:-4], f.read_text("utf-8")) for f in texts)}


def find_question(name: str) -> Question:
    """The question of that name. Raises UsageError, which suggests similar names."""
    known = questions()
    if name in known:
        return known[name]
    raise UsageError(
        f"there is no question '{name}': {did_you_mean(name, known)}run `ridelake ask` for the list"
    )


def ad_hoc_question(sql: str, parameters: Parameters = NO_PARAMETERS) -> Question:
    """A question without a name, from the SQL of the user."""
    return Question(name="", purpose="", sql=sql, parameters=parameters)


def query_text(query: str | None, file: str | None) -> str:
    """The SQL from the argument, the file or stdin. Raises UsageError if there is none or more than one, and
    BadInput if it cannot be read."""
    if query is not None and file is not None:
        raise UsageError("there are two queries; give one as an argument or with -f")
    source = file or ("-" if query is None and not sys.stdin.isatty() else query)
    try:
        if source == "-":
            text = sys.stdin.buffer.read().decode()
        elif file is not None:
            text = Path(file).read_text("utf-8")
        else:
            text = query or ""
            text.encode()
    except OSError as error:
        raise BadInput(f"cannot read {file}: {error.strerror or error}; name a file with a query") from error
    except UnicodeEncodeError as error:
        raise UsageError("the query is not UTF-8; set the terminal to UTF-8, or use -f FILE") from error
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{file or 'stdin'} is not text in UTF-8; convert it, or name a file with a query"
        ) from error
    text = text.removeprefix("\ufeff").strip().rstrip(";").rstrip()
    if next(statements(text), None) is None:
        raise UsageError(
            'no query; give one, as in `ridelake sql "SELECT COUNT(*) FROM rides"`, or - to read stdin'
        )
    return text


def statements(text: str) -> Iterator[str]:
    """The statements of a text, without semicolons and leading comments. A line that begins with a backslash
    is also a statement."""
    while text := _COMMENTS.sub("", text, count=1):
        if text.startswith("\\"):
            statement, _, text = text.partition("\n")
        else:
            end = next((part.start() for part in _SQL_TOKEN.finditer(text) if part[0] == ";"), len(text))
            statement, text = text[:end], text[end + 1 :]
        if statement.strip():
            yield statement.strip()


def single_statement(text: str) -> str:
    """The text without a final semicolon. Raises UsageError if it has several statements."""
    if (count := len(list(statements(text)))) > 1:
        raise UsageError(
            f"this is {count} statements; give one, or run a file with \\i in the shell (`ridelake sql`)"
        )
    return text.strip().rstrip(";").rstrip()


def is_ordered(sql: str) -> bool:
    """Whether there is an ORDER BY at the top level, not in a subquery, window or aggregate."""
    depth = 0
    for match in _SQL_TOKEN.finditer(sql):
        token = match[0]
        if token == "(":
            depth += 1
        elif token == ")":
            depth -= 1
        elif depth == 0 and token[:5].upper() == "ORDER":
            return True
    return False


def _read(name: str, sql: str) -> Question:
    purpose, *lines = sql.splitlines()
    declared = [found.groups() for line in lines if (found := _DECLARATION.fullmatch(line))]
    values = {parameter: typed(value) for parameter, value, _ in declared}
    return Question(
        name,
        purpose.removeprefix("--").strip(),
        sql,
        _frames(name, values),
        values,
        {parameter: meaning for parameter, _, meaning in declared},
    )


def _frames(name: str, values: Parameters) -> "FrameAnswer":
    # By name, so that it can be sent to the process of the engine.
    return partial(_run_frames, name, dict(values))


def _run_frames(name: str, values: Parameters, tables: "Mapping[str, pl.LazyFrame]") -> "pl.LazyFrame":
    # Imported when run: Polars takes 0.2 s to import, and the list of questions does not need it.
    answer: Callable[..., pl.LazyFrame] = import_module(f"olap.questions.{name}").answer
    return answer(tables, **values)
