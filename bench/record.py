"""The record of a run: one JSON file, rewritten after each benchmark. An interrupted run leaves a valid
record.

    {"format": 1, "scale", "seed", "started_at", "finished_at": null while it runs, "machine", "warnings",
     "figures": [{"name", "group", "status": "measured|failed|skipped", "why", "seconds", "figure": {…}}]}

`figure` is the result of `bench.figure.Figure.report`, or null.
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
    """A benchmark: its figure, or in `why` the reason for having none. `seconds` is its total time."""

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
        facts = asdict(machine) | {"measured_at": machine.measured_at.isoformat()}
        return cls(scale, seed, facts, list(machine.warnings), datetime.now(UTC).isoformat())

    def finish(self) -> None:
        self.finished_at = datetime.now(UTC).isoformat()

    @property
    def failed(self) -> list[Entry]:
        return [entry for entry in self.figures if entry.status == "failed"]

    @property
    def claims(self) -> list[Entry]:
        """The entries with a verdict on a claim, ordered by the number of the claim."""
        stated = [entry for entry in self.figures if entry.figure and entry.figure["claim"]]
        return sorted(stated, key=lambda entry: entry.figure["claim"]["number"])  # type: ignore[index]

    def write(self, path: Path) -> None:
        """Write the file atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        draft.write_text(json.dumps({"format": FORMAT, **asdict(self)}, ensure_ascii=False, indent=1) + "\n")
        draft.replace(path)


def read_record(path: Path) -> Record:
    """Raises BadInput if the file is missing, not a record, damaged, or of another format."""
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
        _rename_old_keys(found)
        figures = [Entry(**entry) for entry in found.pop("figures")]
        return Record(**found, figures=figures)
    except (KeyError, TypeError) as error:
        raise BadInput(f"{path} is a damaged record ({error}): run `ridelake bench` again") from error


def _rename_old_keys(found: dict[str, Any]) -> None:
    """Older records have `doubts` for `warnings`. Raises KeyError for a damaged record."""
    for owner in (found, *(entry.get("figure") for entry in found["figures"])):
        if owner and "doubts" in owner:
            owner["warnings"] = owner.pop("doubts")
