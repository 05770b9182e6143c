"""The command line: `ridelake` and `python -m ridelake`.

The only module that names modules of all packages. It reads the settings, imports the module of the
requested command, and turns every error into one line and an exit code.
"""

import atexit
import inspect
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

try:
    import click

    from ridelake import __version__, signals
    from ridelake.errors import RidelakeError, UsageError, did_you_mean, first_line, grant_hint
    from ridelake.resources import describe_shortage
    from ridelake.screen import columns_of
    from ridelake.settings import Settings
    from ridelake.text import wrapped
except KeyboardInterrupt:  # `main` cannot handle it yet; imports take most of the time of a short call
    print("ridelake: interrupted", file=sys.stderr)
    sys.exit(128 + signal.SIGINT)

# What `ridelake --help` lists, in groups. A command's module is loaded when it is called.
GROUPS = {
    "Try": {"demo": "bench.commands.demo:demo", "live": "bench.commands.live:live"},
    "Book": {
        "seed": "oltp.commands.store:seed",
        "load": "oltp.commands.store:load",
        "simulate": "oltp.commands.simulate:simulate",
        "audit": "lakehouse.commands.check:audit",
        "acid": "oltp.commands.acid:acid",
        "drill": "oltp.commands.drill:drill",
    },
    "Lake": {
        "doctor": "lakehouse.commands.doctor:doctor",
        "snapshot": "lakehouse.commands.publish:snapshot",
        "sync": "lakehouse.commands.publish:sync",
        "epochs": "lakehouse.commands.epochs:epochs",
        "verify": "lakehouse.commands.check:verify",
        "maintain": "lakehouse.commands.epochs:maintain",
        "track": "lakehouse.commands.track:track",
        "untrack": "lakehouse.commands.track:untrack",
    },
    "Ask": {
        "sql": "olap.commands:sql",
        "ask": "olap.commands:ask",
        "xray": "lakehouse.commands.show:xray",
        "engines": "lakehouse.commands.show:engines",
        "connect": "lakehouse.commands.connect:connect",
        "catalog": "lakehouse.commands.catalog:catalog",
    },
    "Measure": {
        "bench": "bench.commands.bench:bench",
        "report": "bench.commands.report:report",
        "compare": "bench.commands.report:compare",
    },
    "Run": {
        "up": "oltp.commands.store:up",
        "down": "oltp.commands.store:down",
        "status": "lakehouse.commands.show:status",
    },
}
NUMBERS = (click.types.IntParamType, click.types.FloatParamType)
COMMANDS = {name: place for group in GROUPS.values() for name, place in group.items()}


class OutputClosed(Exception):
    """The reader of the pipe has closed it. This is not an error, but click and rich would exit with 1."""


class CommandGroup(click.Group):
    """Imports a command's module when it is called, and adds the options of the settings to each command."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name].split(":")
        command: click.Command = getattr(import_module(module), attribute)
        if not any(option.name == "home" for option in command.params):
            for option in command.params:
                if isinstance(option.type, NUMBERS) and option.metavar is None:
                    option.metavar = "N"  # instead of INTEGER RANGE
            command.params.extend(settings_options(hidden=True))
            parts = [inspect.cleandoc(command.epilog or ""), "Global options: see `ridelake --help`."]
            command.epilog = "\n\n".join(filter(None, parts))
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] == "help":  # `help COMMAND` is `COMMAND --help`
            if len(args) == 1 or args[1].startswith("-"):
                print(ctx.get_help())
                ctx.exit()
            args = [args[1], "--help"]
        if args[0] not in COMMANDS:
            meant = did_you_mean(args[0], COMMANDS)
            raise UsageError(f"there is no command '{args[0]}': {meant}run `ridelake help` for the list")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, COMMANDS))
        for title, group in GROUPS.items():
            commands = ((name, self.get_command(ctx, name)) for name in group)
            rows = [(name.ljust(width), _first_sentence(command)) for name, command in commands if command]
            with formatter.section(title):
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise OutputClosed from None
        except SystemExit as left:
            if isinstance(left.__context__, BrokenPipeError):
                raise OutputClosed from None
            raise


def _first_sentence(command: click.Command) -> str:
    """The first sentence of a command's help, up to a semicolon; click would truncate it."""
    paragraph = " ".join((command.help or "").split("\n\n")[0].split())
    return re.split(r"\. |;", paragraph)[0].rstrip(".") + "."


def settings_options(*, hidden: bool = False) -> list[click.Option]:
    """--home, --dsn, --lake, --catalog, --spark-master, --debug: taken before or after the command's name;
    `hidden` in a command's own help."""

    def keep(ctx: click.Context, option: click.Parameter, value: Any) -> None:
        given = ctx.find_root().meta.setdefault("ridelake.settings", {})
        if value:
            given[option.name] = value
        ctx.obj = Settings.read(os.environ, **given)

    def option(name: str, **more: Any) -> click.Option:
        return click.Option([name], expose_value=False, callback=keep, hidden=hidden, **more)

    return [
        option(
            "--home",
            metavar="DIR",
            help="Folder of the embedded server and the lake [./.ridelake, RIDELAKE_HOME].",
        ),
        option("--dsn", metavar="DSN", help="A Postgres ≥ 15 instead of the embedded one [RIDELAKE_DSN]."),
        option(
            "--lake", metavar="DIR|URL", help="Folder of the epochs, or s3://… [HOME/lake, RIDELAKE_LAKE]."
        ),
        option(
            "--catalog",
            metavar="URL",
            help="SQLAlchemy URL of the catalog database "
            "[an SQLite file in the lake, or in HOME for s3://…; RIDELAKE_CATALOG].",
        ),
        option(
            "--spark-master",
            metavar="URL",
            help="Spark master: local[N], spark://host:7077 or sc://host [local[*], RIDELAKE_SPARK_MASTER].",
        ),
        option("--debug", is_flag=True, help="Show the traceback of an error."),
    ]


@click.group(
    cls=CommandGroup,
    params=settings_options(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
)
@click.version_option(__version__, "--version", message="ridelake %(version)s")
def ridelake() -> None:
    """Book rides in Postgres, publish them as Parquet files, and query them with any engine.

    Start with `ridelake demo`. By default the embedded Postgres and the lake are in ./.ridelake.
    """


def main() -> NoReturn:
    """Run the command line; never returns. Exit codes: 0 done, 1 the work failed, 2 usage, 3 cannot
    connect, 4 timed out, 130 interrupted (128 + the signal)."""
    exit_code = 128 + signal.SIGINT
    with suppress(KeyboardInterrupt):  # a signal between two statements of this function
        signals.install()
        exit_code = _run(sys.argv[1:])
    for _ in range(2):  # the exception can come once more, before the first statement of `settle_signals`
        with suppress(KeyboardInterrupt):
            signals.settle_signals()
    _exit(exit_code)


def _exit(exit_code: int) -> NoReturn:
    """Exit without Python's finalization, which waits for threads of libraries and runs without handlers of
    signals."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        pass
    except OSError as error:
        exit_code = _fail(f"cannot write the output: {error.strerror}", 1)
    if exit_code != 0:
        sys.unraisablehook = lambda _: None  # the error is reported already; hide errors that follow from it
        warnings.simplefilter("ignore")  # such as one for each temporary folder that is deleted now
    # A cancelled query may still be running in native code; skip interpreter shutdown.
    if not any(thread.name.endswith(" answers") for thread in threading.enumerate()):
        atexit._run_exitfuncs()
    os._exit(exit_code)


def _run(arguments: list[str]) -> int:
    try:
        ridelake.main(arguments, prog_name="ridelake", standalone_mode=False)
        return 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.exceptions.NoArgsIsHelpError as help_text:
        print(help_text.format_message())
        return 0
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "ridelake"
        return _fail(f"{_usage_message(error)} (see `{where} --help`)", 2)
    except (KeyboardInterrupt, click.Abort):
        if signals.received() is None:
            signals.end(signal.SIGINT)
        return 130
    except OutputClosed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # discards what is still in the buffers
        return 0
    except Exception as error:
        if "--debug" in arguments:
            traceback.print_exc()
        if signals.received() is not None:
            return 130
        if isinstance(error, RidelakeError):
            return _fail(str(error), error.exit_code)
        if sentence := describe_shortage(error):
            return _fail(sentence, 1)
        if isinstance(error, UnicodeEncodeError) and error.encoding != "utf-8":
            return _fail(
                f"the output is in {error.encoding}, which lacks {error.object[error.start]!a}: "
                "set PYTHONIOENCODING=utf-8",
                1,
            )
        return _fail(*_unexpected(error))


def _usage_message(error: click.UsageError) -> str:
    """Click's message. Click suggests similar options, but not similar choices."""
    message = re.sub("a valid integer( range)?", "a whole number", error.format_message().rstrip("."))
    message = re.sub("a valid float( range)?", "a number", message)
    if "unexpected extra argument" in message and error.ctx and error.ctx.command.name == "sql":
        return 'the query has several words: put it in quotes, as in "SELECT COUNT(*) FROM rides"'
    given = re.search(r"'([^']*)' is not one of (.+)", message)
    meant = did_you_mean(given[1], re.findall(r"'([^']+)'", given[2])) if given else ""
    return f"{message}; {meant}".rstrip("; ")


def _unexpected(error: Exception) -> tuple[str, int]:
    """The message and the exit code of an error that no command handles."""
    if isinstance(error, PermissionError) and error.filename is not None:
        place = f"cannot access {error.filename} ({error.strerror})"
        return f"{place}: use the account that owns it, or choose another folder with --home", 2
    psycopg = sys.modules.get("psycopg")  # not imported here: most commands do not need it
    if psycopg is None or not isinstance(error, psycopg.Error):
        return _internal_error(error), 1
    reason = error.diag.message_primary or first_line(error)
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return f"Postgres refused the statement: {reason}; {grant_hint(reason)}", UsageError.exit_code
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        hint = "connect to the primary, or as a role whose default_transaction_read_only is off"
        return f"Postgres refused the statement: {reason}; {hint}", UsageError.exit_code
    if not isinstance(error, psycopg.OperationalError):
        return _internal_error(error), 1
    reason = first_line(error)
    if error.sqlstate is None or error.sqlstate.startswith(("08", "57P0")):
        return f"lost the connection to Postgres ({reason}): committed work is kept; run the command again", 3
    return f"Postgres error: {reason} (SQLSTATE {error.sqlstate})", 1


def _internal_error(error: Exception) -> str:
    return f"internal error: {type(error).__name__}: {error}; run again with --debug for a traceback"


def _fail(sentence: str, exit_code: int) -> int:
    line = f"ridelake: {' '.join(sentence.split())}"
    print(wrapped(line, columns_of(sys.stderr)) if sys.stderr.isatty() else line, file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    main()
