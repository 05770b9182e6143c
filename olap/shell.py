"""The interactive shell of `ridelake sql`. An error does not end the shell."""

import math
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, cast

from lakehouse.engines import ENGINE_NAMES, full_version, open_engines
from lakehouse.engines.parameters import Parameters, placeholders
from olap.ask import ANSWER_THREAD_SUFFIX, interruptible
from olap.formats import type_name
from olap.options import TIMEOUT_SECONDS_MAX, QueryOptions
from olap.output import choose_format
from olap.parameters import parse
from olap.query_epoch import note_missing_unions, open_query_epoch, relations, without_schemas
from olap.question import ad_hoc_question, query_text, statements
from olap.render import answer_and_print, files_only
from olap.shell_input import COMMAND_WORDS, COMMANDS, NameCompleter, prompt_session, with_shell_commands
from ridelake import signals
from ridelake.errors import RidelakeError, UsageError, did_you_mean
from ridelake.screen import note, say_table
from ridelake.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

    from lakehouse.engines import Engine
    from lakehouse.table.epoch import Epoch
    from olap.options import Expanded


TOGGLES = {r"\timing": "timing", r"\why": "why", r"\pager": "the pager"}
DISPLAY = (*TOGGLES, r"\x", r"\o", r"\limit", r"\timeout")


def changed(options: QueryOptions, word: str, rest: str) -> tuple[QueryOptions, str]:
    """The options after a command that changes how queries run or answers are shown, and a remark.

    Raises UsageError for an invalid argument."""
    if word in TOGGLES:
        state = not getattr(options, word[1:])
        remark = f"{TOGGLES[word]} is {'on' if state else 'off'}"
        return replace(options, **{word[1:]: state}), remark  # type: ignore[arg-type]
    match word:
        case r"\x":
            if rest not in ("", "auto", "on", "off"):
                raise UsageError(rf"\x takes auto, on or off, not {rest}")
            display = rest or ("on" if options.expanded != "on" else "auto")
            return replace(options, expanded=cast("Expanded", display)), f"expanded display is {display}"
        case r"\o":
            if not rest:
                return replace(options, file=None), "answers are written to the terminal"
            choose_format(options.format_, rest)  # raises if the file cannot be written
            return replace(options, file=rest), f"the next answer is written to {rest}"
        case r"\limit":
            if rest and not rest.isdecimal():
                raise UsageError(rf"\limit takes a number of rows, 0 for all, not {rest}")
            limit = int(rest) if rest else None
            shown = {None: "100 on a terminal", 0: "all"}.get(limit, f"{limit or 0:,}")
            return replace(options, limit=limit), f"rows shown: {shown}"
        case _:
            seconds = _timeout(rest) if rest else options.timeout_seconds or 0.0
            remark = f"the timeout is {seconds:g} s" if seconds else "there is no timeout"
            return replace(options, timeout_seconds=seconds or None), remark


def _timeout(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= TIMEOUT_SECONDS_MAX:
        raise UsageError(rf"\timeout takes seconds from 0 (never) to {TIMEOUT_SECONDS_MAX:,.0f}, not {text}")
    return seconds


class Shell:
    """Open engines on one epoch. The epoch stays the same until `\\e` reopens the engines."""

    def __init__(self, settings: Settings, options: QueryOptions, parameters: Parameters) -> None:
        if options.file is not None or options.as_json:
            raise UsageError("-o and --json need a query; give one, or omit them to start the shell")
        self._settings = settings
        self._options = replace(options, pager=True, limit_option=r"\limit")
        self._parameters = parameters
        self._querying = False
        self._reading: list[Path] = []  # files that \\i is running, the innermost last
        self._open(self._options)

    def run(self) -> None:
        """Run until Ctrl-D or \\q. Ctrl-C cancels the line, or the running query."""
        with self._opened, self._ctrl_c():
            names = NameCompleter({}, ENGINE_NAMES)
            session = prompt_session(self._settings.home, names)
            note_missing_unions(self._settings, self._epoch)
            note(f"{self._state_text()}; end a query with ; and type help for the commands")
            while True:
                names.relations = {name: schema.names for name, schema in self._relations.items()}
                try:
                    line = session.prompt(f"{','.join(engine.name for engine in self._engines)}> ").strip()
                except KeyboardInterrupt:
                    if signals.received() is not None:  # SIGTERM or SIGHUP
                        raise
                    continue
                except EOFError:
                    return
                if not self._run_line(line):
                    return

    def _run_line(self, line: str) -> bool:
        """Run a line; return whether the shell continues."""
        continues = True
        try:
            self._querying = True
            continues = self._run_all(line)
        except KeyboardInterrupt:
            note("cancelled")
        finally:
            self._querying = False
        if any(thread.name.endswith(ANSWER_THREAD_SUFFIX) for thread in threading.enumerate()):
            # An engine still runs a cancelled query and would reject the next one.
            self._switch(self._options)
        return continues

    def _run_all(self, text: str) -> bool:
        """Run all statements of the text, even if one fails; return False at \\q."""
        for statement in statements(text):
            line = COMMAND_WORDS.get(statement.lower(), statement)
            if line.rstrip("; ") == "\\q":
                return False
            try:
                self._command(line) if line.startswith("\\") else self._ask(line)
            except RidelakeError as error:
                note(with_shell_commands(" ".join(str(error).split())))
        return True

    def _ask(self, query: str) -> None:
        wanted = placeholders(query)
        values = {name: value for name, value in self._parameters.items() if name in wanted}
        answer_and_print(
            ad_hoc_question(query, values),
            self._engines,
            self._epoch,
            self._options,
        )
        if self._options.file is not None:
            note(f"written: {self._options.file}")
            self._options = replace(self._options, file=None)

    def _command(self, line: str) -> None:
        word, _, rest = line.rstrip("; ").partition(" ")
        rest = rest.strip()
        if word in DISPLAY:
            self._options, remark = changed(self._options, word, rest)
            note(remark)
            return
        match word:
            case "\\d":
                self._describe(rest)
            case "\\e":
                if rest:
                    self._switch(replace(self._options, engines=(rest,)))
                note(self._state_text())
            case "\\i":
                self._run_file(rest)
            case "\\set":
                self._set(rest)
            case "\\?" | "\\h" | "\\help":
                say_table(
                    ("command", "argument", "effect"), [(name, *texts) for name, texts in COMMANDS.items()]
                )
            case _:
                meant = did_you_mean(word, COMMANDS)
                raise UsageError(f"there is no command {word}: {meant}\\? lists the commands")

    def _run_file(self, file: str) -> None:
        if not file:
            raise UsageError("\\i takes the name of a file with statements, as in \\i query.sql")
        path = Path(file).expanduser().resolve()
        if path in self._reading:
            raise UsageError(f"{file} runs itself; remove the \\i {file} from it")
        self._reading.append(path)
        try:
            self._run_all(query_text(None, str(path)))
        finally:
            self._reading.pop()

    def _set(self, rest: str) -> None:
        if rest:
            self._parameters = {**self._parameters, **parse([rest])}
        shown = [f"${name} = {value!r}" for name, value in self._parameters.items()]
        note("\n".join(shown) or "no parameter is set; set one with \\set NAME=VALUE")

    def _describe(self, table: str) -> None:
        if not table:
            heads = ["table", "columns", "rows"]
            lines = [[name, str(len(schema)), self._rows(name)] for name, schema in self._relations.items()]
        else:
            unqualified = without_schemas(table, self._epoch) if self._epoch is not None else table
            found = next(
                (name for name in self._relations if name.lower() == unqualified.strip('"').lower()), None
            )
            if found is None:
                raise UsageError(f"there is no table {table}; \\d lists the tables")
            heads = ["column", "type"]
            lines = [[field.name, type_name(field.type)] for field in self._relations[found]]
        say_table(heads, lines)

    def _rows(self, table: str) -> str:
        state = self._epoch.tables.get(table) if self._epoch is not None else None
        return f"{state.rows:,}" if state is not None else ""

    def _switch(self, options: QueryOptions) -> None:
        before = self._opened
        self._open(options)
        self._options = options
        before.close()

    def _open(self, options: QueryOptions) -> None:
        """Open the engines. Raises as `open_query_epoch` and `open_engine` do, and then changes nothing."""
        names = options.engine_names(self._settings)
        with ExitStack() as opening:
            epoch = opening.enter_context(
                open_query_epoch(
                    self._settings, names, as_of=options.as_of, fresh=options.fresh, source=options.source
                )
            )
            names = files_only(names, epoch, options)
            engines = opening.enter_context(open_engines(names, self._settings, epoch))
            known = interruptible(engines[0], lambda: relations(engines[0], epoch))
            self._opened = opening.pop_all()
        self._engines: Sequence[Engine] = engines
        self._epoch: Epoch | None = epoch
        self._relations: dict[str, pa.Schema] = known

    def _state_text(self) -> str:
        versions = ", ".join(
            f"{engine.name} {full_version(engine.name, engine.version())}" for engine in self._engines
        )
        source = "the rows as of now" if self._epoch is None else f"epoch {self._epoch.number}"
        return f"{versions} over {source}"

    @contextmanager
    def _ctrl_c(self) -> Iterator[None]:
        """Replace the handler of `ridelake.signals`, which would end the process at Ctrl-C."""

        def interrupted(_: int, __: FrameType | None) -> None:
            if self._querying:
                raise KeyboardInterrupt

        before = signal.signal(signal.SIGINT, interrupted)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
            sys.stdout.flush()
