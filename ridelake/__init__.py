"""ridelake: rides booked in Postgres, published as Parquet, queried by several engines.

    ride request ──> Postgres row ──> epoch ──> Parquet files ──> engines ──> answer ──> figure
       oltp/            oltp/       lakehouse/    lakehouse/     lakehouse/    olap/      bench/

This package holds what the four stages share (`ride`, `settings`, `errors`, `text`, `screen`), the command
line (`__main__`) and the Python API (`api`). Start reading at `oltp/schema.sql`.

    import ridelake

    with ridelake.open() as lake:
        print(lake.sql("SELECT count(*) FROM rides"))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lakehouse.capture.maintain import MaintenanceResult
    from lakehouse.capture.sync import SyncResult
    from lakehouse.table.epoch import Epoch, Selection
    from lakehouse.verify import VerifyResult
    from olap.answer import AnswersDiffer
    from olap.result import Answer, Comparison
    from oltp.batching import Batcher
    from ridelake.api import LakeWarning, RideStore, Session, open
    from ridelake.errors import (
        BadInput,
        BatcherClosed,
        CannotConnect,
        NotReady,
        NotReplicated,
        OutOfResources,
        ProofFailed,
        QueryRejected,
        RidelakeError,
        TimedOut,
        UsageError,
    )
    from ridelake.ride import CancelReason, Decision, Outcome, RideRequest, RideStatus, new_request_id

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "AnswersDiffer",
    "BadInput",
    "Batcher",
    "BatcherClosed",
    "CancelReason",
    "CannotConnect",
    "Comparison",
    "Decision",
    "Epoch",
    "LakeWarning",
    "MaintenanceResult",
    "NotReady",
    "NotReplicated",
    "OutOfResources",
    "Outcome",
    "ProofFailed",
    "QueryRejected",
    "RideRequest",
    "RideStatus",
    "RideStore",
    "RidelakeError",
    "Selection",
    "Session",
    "SyncResult",
    "TimedOut",
    "UsageError",
    "VerifyResult",
    "__version__",
    "new_request_id",
    "open",
]

# The modules of the names above that are not in `errors`. They are imported when a name is used: some take
# a second.
_MODULES = {
    "Answer": "olap.result",
    "AnswersDiffer": "olap.answer",
    "Batcher": "oltp.batching",
    "CancelReason": "ridelake.ride",
    "Comparison": "olap.result",
    "Decision": "ridelake.ride",
    "Epoch": "lakehouse.table.epoch",
    "LakeWarning": "ridelake.api",
    "MaintenanceResult": "lakehouse.capture.maintain",
    "Outcome": "ridelake.ride",
    "RideRequest": "ridelake.ride",
    "RideStatus": "ridelake.ride",
    "RideStore": "ridelake.api",
    "Selection": "lakehouse.table.epoch",
    "Session": "ridelake.api",
    "SyncResult": "lakehouse.capture.sync",
    "VerifyResult": "lakehouse.verify",
    "new_request_id": "ridelake.ride",
    "open": "ridelake.api",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'ridelake' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULES.get(name, "ridelake.errors")), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
