"""The record of a run: the JSON of pytest-benchmark, complete after every benchmark.

machine_info, commit_info, datetime, version   as pytest-benchmark writes them; `machine_info.ridelake` is
              a `bench.machine.Machine`
benchmarks    those that were measured. `extra_info.figure` is the result of `bench.figure.Figure.report`,
              `extra_info.seconds` the time of the whole benchmark
ridelake      {"format": 2, "scale", "seed", "started_at", "finished_at": null while it runs, "warnings",
              "not_measured": [{"name", "group", "status": "failed|skipped", "why", "seconds"}]}
"""

import json
import os
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from bench.machine import Machine
from ridelake.errors import BadInput

FORMAT = 2

Status = Literal["measured", "failed", "skipped"]
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """A benchmark and its figure. Without a figure, `why` is the reason. `seconds` is the total time."""

    name: str
    group: str
    status: Status
    why: str | None
    seconds: float
    figure: Json = field(default_factory=dict)

    @property
    def claim(self) -> Json | None:
        return self.figure.get("claim")

    @property
    def title(self) -> str:
        """The title of the figure; without a figure, the group and the parameter."""
        parameter = re.search(r"\[(.+)\]$", self.name)
        group = f"{self.group}: {parameter[1]}" if parameter else self.group
        return str(self.figure.get("title") or group)


@dataclass(slots=True)
class Record:
    scale: str
    seed: int
    machine: Machine
    warnings: list[str]
    started_at: str
    finished_at: str | None = None
    figures: list[Entry] = field(default_factory=list)

    @classmethod
    def begin(cls, scale: str, seed: int, machine: Machine) -> "Record":
        return cls(scale, seed, machine, machine.warnings, datetime.now(UTC).isoformat())

    def finish(self) -> None:
        self.finished_at = datetime.now(UTC).isoformat()

    def with_status(self, status: Status) -> list[Entry]:
        return [entry for entry in self.figures if entry.status == status]

    @property
    def claims(self) -> list[Entry]:
        """The entries with a verdict on a claim, ordered by the number of the claim."""
        stated = [(entry.claim["number"], entry) for entry in self.figures if entry.claim]
        return [entry for _, entry in sorted(stated, key=lambda pair: pair[0])]

    @property
    def with_advice(self) -> list[Entry]:
        return [entry for entry in self.figures if entry.figure.get("advice")]

    def add_to(self, document: Json) -> None:
        """Add the run to a document of pytest-benchmark, and remove benchmarks that failed after they were
        timed."""
        measured = {entry.name for entry in self.with_status("measured")}
        document["benchmarks"] = [one for one in document["benchmarks"] if one["fullname"] in measured]
        kept = ("scale", "seed", "started_at", "finished_at", "warnings")
        left_out = ("name", "group", "status", "why", "seconds")
        document["ridelake"] = {
            "format": FORMAT,
            **{name: getattr(self, name) for name in kept},
            "not_measured": [
                {name: getattr(entry, name) for name in left_out}
                for entry in self.figures
                if entry.status != "measured"
            ],
        }


def write_document(document: Json, path: Path) -> None:
    """Write the file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    draft.write_text(json.dumps(document, ensure_ascii=False, indent=1, default=str) + "\n", "utf-8")
    draft.replace(path)


def read_record(path: Path) -> Record:
    """The record in the file. Raises BadInput if the file is missing, not a record, damaged, or of another
    format."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise BadInput(
            f"{path} does not exist: correct the path, or run `ridelake bench` to write a record"
        ) from error
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}; name a record of `ridelake bench`") from error
    except ValueError as error:
        raise BadInput(f"{path} is not JSON ({error}): name a record of `ridelake bench`") from error
    if not isinstance(found, dict) or not found.keys() & {"ridelake", "format"}:
        raise BadInput(f"{path} is not a record of `ridelake bench`: name another file")
    try:
        if (format_ := found.get("ridelake", found)["format"]) != FORMAT:
            raise BadInput(
                f"{path} has record format {format_}, and this version reads {FORMAT}: run `ridelake bench` "
                "again"
            )
        return _record_of(found)
    except (AttributeError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is a damaged record ({error}): run `ridelake bench` again") from error


def _record_of(document: Json) -> Record:
    run = dict(document["ridelake"])
    del run["format"]
    entries = [
        Entry(one["fullname"], one["group"], "measured", None, extra["seconds"], extra.get("figure") or {})
        for one in document["benchmarks"]
        for extra in [one["extra_info"]]
    ]
    entries += [Entry(**one) for one in run.pop("not_measured")]
    machine = Machine(**document["machine_info"]["ridelake"])
    return Record(**run, machine=machine, figures=entries)
