"""The movers, and how a tool is installed and run.

A tool is a script in `tools/`. It runs in a virtual environment of its own, which is created on demand from
the packages that the script names.
"""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryFile
from time import perf_counter
from urllib.parse import quote

import psutil
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ridelake.errors import RidelakeError

TOOLS = Path(str(files("bench.movers.tools")))
CHECKOUT = Path(__file__).parents[2]
INSTALL_SECONDS_MAX = 600
RUN_SECONDS_MAX = 180
SAMPLE_SECONDS = 0.03
ADDRESS = ("host", "port", "user", "password", "dbname")
# The line of the output of a failed tool that has its error; otherwise its last line.
ERROR_LINE = re.compile(r"\s*(error|panic|[\w.]*(Error|Exception|Failed))\b.*: ", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Mover:
    """A tool with its options. `polls`: whether its incremental mode is measured."""

    name: str
    tool: str
    variant: str = ""
    polls: bool = False


MOVERS = (
    Mover("ridelake", "ridelake", polls=True),
    Mover("ridelake, --fast", "ridelake", "--fast"),
    Mover("DuckDB", "duckdb", polls=True),
    Mover("DuckDB, in BEGIN", "duckdb", "transaction"),
    Mover("ADBC", "adbc"),
    Mover("ADBC, REPEATABLE READ", "adbc", "repeatable-read"),
    Mover("ConnectorX", "connectorx"),
    Mover("rivet", "rivet", polls=True),
    Mover("rivet, profile fast", "rivet", "fast"),
    Mover("ingestr", "ingestr", polls=True),
    Mover("dlt", "dlt", polls=True),
    Mover("sling", "sling"),
)


@dataclass(frozen=True, slots=True)
class Job:
    """The argument of a script. `conninfo` and `url` are the same address. `tables`: qualified names. `poll`:
    copy what is new since the last poll into the same folder. `own_tables`: the tables are not those of the
    ride store."""

    conninfo: str
    url: str
    folder: str
    tables: tuple[str, ...]
    variant: str
    poll: bool = False
    own_tables: bool = False


@dataclass(frozen=True, slots=True)
class ToolRun:
    """One run of a tool. `memory_bytes`: the peak of the resident memory of all its processes, sampled.
    `error`: None if it succeeded."""

    seconds: float
    memory_bytes: int
    error: str | None


class ToolMissing(RidelakeError):
    """A tool cannot be installed."""


def packages_of(tool: str) -> list[str]:
    """The packages that the script of a tool names (PEP 723)."""
    comment = []
    for line in (TOOLS / f"{tool}.py").read_text("utf-8").splitlines()[1:]:
        if line == "# ///":
            break
        comment.append(line.removeprefix("#"))
    return [str(package) for package in tomllib.loads("\n".join(comment))["dependencies"]]


def own_packages() -> list[str]:
    """This checkout of ridelake, without its extras: they load more into memory than a user's environment
    does. Empty if ridelake is installed as a package."""
    if not (CHECKOUT / "pyproject.toml").is_file():
        return []
    return ["--constraint", str(CHECKOUT / "constraints.txt"), "--editable", str(CHECKOUT)]


def installed_python(tool: str, cache: Path) -> str:
    """The Python of the environment of a tool, which is created in `cache` if it does not exist. Raises
    ToolMissing if a package cannot be installed."""
    packages = packages_of(tool) or own_packages()
    if not packages:
        return sys.executable
    pins = sha256(" ".join([sys.version, *packages]).encode()).hexdigest()[:8]
    folder = cache / f"{tool}-{pins}"
    python = folder / "bin" / "python"
    finished = folder / "finished"
    if finished.exists():
        return str(python)
    shutil.rmtree(folder, ignore_errors=True)
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", *packages],
    ):
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS_MAX)
        except subprocess.SubprocessError as error:
            lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            raise ToolMissing(f"cannot install {' '.join(packages)}: {lines[-1]}") from error
    finished.touch()
    return str(python)


def plain_address(conninfo: str) -> str:
    """The address without the settings of a session, which a user of the tool would not have."""
    fields = conninfo_to_dict(conninfo)
    return make_conninfo("", **{name: fields[name] for name in ADDRESS if name in fields})


def url_of(conninfo: str) -> str:
    """The address as a URL. A socket is a parameter, because most URL parsers refuse it as a host."""
    fields = {name: str(value) for name, value in conninfo_to_dict(conninfo).items()}
    user = quote(fields["user"], safe="")
    password = f":{quote(fields['password'], safe='')}" if "password" in fields else ""
    host, port = fields.get("host", "localhost"), fields.get("port", "")
    if host.startswith("/"):
        port = f"&port={port}" if port else ""
        return f"postgresql://{user}{password}@/{fields['dbname']}?host={quote(host, safe='')}{port}"
    return f"postgresql://{user}{password}@{host}{port and f':{port}'}/{fields['dbname']}"


def move(
    mover: Mover,
    python: str,
    conninfo: str,
    folder: Path,
    tables: Sequence[str],
    *,
    poll: bool = False,
    own_tables: bool = False,
) -> ToolRun:
    """Run the tool once. It copies `tables` into `folder`."""
    address = plain_address(conninfo)
    job = Job(address, url_of(address), str(folder), tuple(tables), mover.variant, poll, own_tables)
    # -P: the folder of the scripts is not searched for modules, which have the names of the tools.
    command = [python, "-P", str(TOOLS / f"{mover.tool}.py"), json.dumps(asdict(job))]
    with TemporaryFile() as output:
        began = perf_counter()
        process = subprocess.Popen(
            command, cwd=folder.parent, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        memory_bytes = _wait(process, began + RUN_SECONDS_MAX)
        seconds = perf_counter() - began
        output.seek(0)
        lines = output.read().decode(errors="replace").strip().splitlines()
    error = error_in(lines) or f"exit code {process.returncode}" if process.returncode else None
    return ToolRun(seconds, memory_bytes, error)


def error_in(lines: Sequence[str]) -> str:
    """The error in the output of a tool."""
    found = [line for line in lines if ERROR_LINE.match(line)]
    return " ".join([*lines[-1:], *found[-1:]][-1].split()) if lines else ""


def _wait(process: "subprocess.Popen[bytes]", deadline: float) -> int:
    """Wait for the process, and stop it and its children at the deadline. Returns the peak of their memory in
    bytes."""
    peak = 0
    parent = psutil.Process(process.pid)
    while True:
        try:
            process.wait(SAMPLE_SECONDS)
        except subprocess.TimeoutExpired:
            family = _family(parent)
            peak = max(peak, sum(filter(None, map(_memory_bytes, family))))
            if perf_counter() > deadline:
                for one in reversed(family):
                    one.kill()
        else:
            return peak


def _family(parent: psutil.Process) -> list[psutil.Process]:
    try:
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _memory_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # it has ended
        return 0
