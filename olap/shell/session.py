"""What the shell does with a line: ask, describe, switch; an error is told and the shell goes on."""

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING

from lakehouse.engines import ENGINE_NAMES, open_engines
from lakehouse.engines.parameters import Parameters, placeholders
from olap.ask import ANSWERS, ROUNDS_MAX, interruptible
from olap.formats import aligned, type_name
from olap.pinned import pinned
from olap.question import free
from olap.relations import relations
from olap.shell.reading import COMMANDS, Names, reader
from olap.telling import Telling, answer_and_tell, chosen, unasked
from ridelake import signals
from ridelake.errors import RidelakeError, UsageError
from ridelake.screen import note, say
from ridelake.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

    from lakehouse.engines import Engine
    from lakehouse.epoch import Epoch


class Shell:
    """Engines over one epoch, which stays the same until `\\e` opens engines anew."""

    def __init__(
        self,
        settings: Settings,
        engines: Sequence[str],
        telling: Telling,
        parameters: Parameters,
        as_of: str | None,
        fresh: bool,
        timeout_seconds: float | None,
    ) -> None:
        if telling.file is not None or telling.as_json:
            raise UsageError("-o and --json go with a query: give one, or leave them out for the shell")
        self._settings = settings
        self._telling = telling
        self._parameters = parameters
        self._as_of = as_of
        self._fresh = fresh
        self._timeout_seconds = timeout_seconds
        self._asking = False
        self._open(chosen(engines, without=unasked(settings, as_of)))

    def run(self) -> None:
        """Until Ctrl-D or \\q. Ctrl-C cancels the line, or the query that runs."""
        with self._opened, self._ctrl_c():
            names = Names({}, ENGINE_NAMES)
            session = reader(self._settings.home, names)
            note(f"{self._where()}; a query ends with ; and \\? lists the commands")
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
                if line.rstrip(";").strip() in (r"\q", "exit", "quit"):
                    return
                if line:
                    self._do(line)

    def _do(self, line: str) -> None:
        try:
            self._asking = True
            self._command(line) if line.startswith("\\") else self._ask(line)
        except KeyboardInterrupt:
            note("cancelled")
        except RidelakeError as error:
            note(" ".join(str(error).split()))
        finally:
            self._asking = False
        if any(thread.name.endswith(ANSWERS) for thread in threading.enumerate()):
            # An engine has not let go of a query that was given up, and would refuse the next one.
            self._switch(",".join(engine.name for engine in self._engines))

    def _ask(self, line: str) -> None:
        query = line.rstrip("; \n\t")
        if not query:
            return
        wanted = placeholders(query)
        values = {name: value for name, value in self._parameters.items() if name in wanted}
        answer_and_tell(
            free(query, values),
            self._engines,
            self._epoch,
            self._telling,
            rounds_max=ROUNDS_MAX if len(self._engines) > 1 else 1,
            timeout_seconds=self._timeout_seconds,
        )

    def _command(self, line: str) -> None:
        word, _, rest = line.rstrip(";").partition(" ")
        rest = rest.strip()
        match word:
            case "\\d":
                self._describe(rest)
            case "\\e":
                if rest:
                    self._switch(rest)
                note(self._where())
            case "\\timing":
                self._telling = replace(self._telling, timing=not self._telling.timing)
                note(f"timing is {'on' if self._telling.timing else 'off'}")
            case "\\why":
                self._telling = replace(self._telling, why=not self._telling.why)
                note(f"why is {'on' if self._telling.why else 'off'}")
            case "\\?" | "\\h" | "\\help":
                say("\n".join(f"{name:<9}{does}" for name, does in COMMANDS.items()))
            case _:
                raise UsageError(f"there is no {word}: \\? lists what there is")

    def _describe(self, table: str) -> None:
        if not table:
            heads = [("table", "", False), ("columns", "", True), ("rows", "", True)]
            lines = [[name, str(len(schema)), self._rows(name)] for name, schema in self._relations.items()]
        else:
            found = next((name for name in self._relations if name.lower() == table.strip('"').lower()), None)
            if found is None:
                raise UsageError(f"there is no table {table}: \\d lists what there is")
            heads = [("column", "", False), ("type", "", False)]
            lines = [[field.name, type_name(field.type)] for field in self._relations[found]]
        say("\n".join(aligned(heads, lines)))

    def _rows(self, table: str) -> str:
        state = self._epoch.tables.get(table) if self._epoch is not None else None
        return f"{state.rows:,}" if state is not None else ""

    def _switch(self, engines: str) -> None:
        names = chosen([engines], without=unasked(self._settings, self._as_of))
        before = self._opened
        self._open(names)
        before.close()

    def _open(self, names: Sequence[str]) -> None:
        """Raises as `pinned` and `open_engine` do; then all is as before."""
        with ExitStack() as opening:
            epoch = opening.enter_context(pinned(self._settings, names, as_of=self._as_of, fresh=self._fresh))
            engines = opening.enter_context(open_engines(names, self._settings, epoch))
            known = interruptible(engines[0], lambda: relations(engines[0], epoch))
            self._opened = opening.pop_all()
        self._engines: Sequence[Engine] = engines
        self._epoch: Epoch | None = epoch
        self._relations: dict[str, pa.Schema] = known

    def _where(self) -> str:
        who = ", ".join(f"{engine.name} {engine.version()}" for engine in self._engines)
        return f"{who} over {'the rows as of now' if self._epoch is None else f'epoch {self._epoch.number}'}"

    @contextmanager
    def _ctrl_c(self) -> Iterator[None]:
        """The handler of `ridelake.signals` would end the process. Between queries Ctrl-C is a key."""

        def interrupted(_: int, __: FrameType | None) -> None:
            if self._asking:
                raise KeyboardInterrupt

        before = signal.signal(signal.SIGINT, interrupted)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
            sys.stdout.flush()
