"""The record of a run: one JSON file, whole after every benchmark, so that an interrupted run is a valid
partial one.

    {"format": 1, "scale", "seed", "started_at", "finished_at": null while it runs, "machine", "warnings",
     "figures": [{"name", "group", "status": "measured|failed|skipped", "why", "seconds", "figure": {…}}]}

`figure` is what `bench.figure.Figure.report` gives, or null without one.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from bench.machine import Machine
from ridelake.errors import BadInput

FORMAT = 1

Status = Literal["measured", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One benchmark: its figure, or `why` there is none. `seconds` is what it took as a whole."""

    name: str
    group: str
    status: Status
    why: str | None
    seconds: float
    figure: dict[str, Any] | None


@dataclass(slots=True)
class Record:
    scale: str
    seed: int
    machine: dict[str, Any]
    warnings: list[str]
    started_at: str
    finished_at: str | None = None
    figures: list[Entry] = field(default_factory=list)

    @classmethod
    def begin(cls, scale: str, seed: int, machine: Machine) -> "Record":
        told = asdict(machine) | {"measured_at": machine.measured_at.isoformat()}
        return cls(scale, seed, told, list(machine.warnings), datetime.now(UTC).isoformat())

    def finish(self) -> None:
        self.finished_at = datetime.now(UTC).isoformat()

    @property
    def failed(self) -> list[Entry]:
        return [entry for entry in self.figures if entry.status == "failed"]

    @property
    def claims(self) -> list[Entry]:
        """Those with a verdict on a claim, in the order of the claims' numbers."""
        stated = [entry for entry in self.figures if entry.figure and entry.figure["claim"]]
        return sorted(stated, key=lambda entry: entry.figure["claim"]["number"])  # type: ignore[index]

    def write(self, path: Path) -> None:
        """Whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        draft.write_text(json.dumps({"format": FORMAT, **asdict(self)}, ensure_ascii=False, indent=1) + "\n")
        draft.replace(path)


def read_record(path: Path) -> Record:
    """Raises BadInput for what is no record, or one of another format."""
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise BadInput(
            f"{path} does not exist: correct the path, or run `ridelake bench` to write a record"
        ) from error
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}; name a record of `ridelake bench`") from error
    except ValueError as error:
        raise BadInput(f"{path} is not JSON ({error}): name a record of `ridelake bench`") from error
    if not isinstance(found, dict) or "format" not in found:
        raise BadInput(f"{path} is not a record of `ridelake bench`: name another file")
    if (format_ := found.pop("format")) != FORMAT:
        raise BadInput(
            f"{path} has record format {format_}, and this version reads {FORMAT}: run `ridelake bench` again"
        )
    try:
        figures = [Entry(**entry) for entry in found.pop("figures")]
        return Record(**found, figures=figures)
    except (KeyError, TypeError) as error:
        raise BadInput(f"{path} is a damaged record ({error}): run `ridelake bench` again") from error
