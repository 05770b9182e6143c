"""The column names of trip files of the New York City Taxi and Limousine Commission (TLC).

The names depend on the year (`Trip_Pickup_DateTime`, `pickup_datetime`, `tpep_pickup_datetime`), on the kind
of trip and on the program that exported the file. They are compared without case, blanks and underscores.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ridelake.errors import BadInput


class TripKind(StrEnum):
    YELLOW = "yellow"  # taxis hailed in the street
    GREEN = "green"  # taxis of the outer boroughs
    HVFHV = "hvfhv"  # "high-volume for-hire vehicles": Uber, Lyft, Via, Juno


# Meaning → names, without case, blanks and underscores.
BOTH = {
    "pickup": ("tpeppickupdatetime", "lpeppickupdatetime", "pickupdatetime", "trippickupdatetime"),
    "dropoff": ("tpepdropoffdatetime", "lpepdropoffdatetime", "dropoffdatetime", "tripdropoffdatetime"),
    "pickup_zone": ("pulocationid", "pickuplocationid"),
    "dropoff_zone": ("dolocationid", "dropofflocationid"),
}
TAXI = BOTH | {
    "vendor": ("vendorid", "vendorname"),
    "miles": ("tripdistance",),
    "total": ("totalamount", "totalamt"),  # paid by the rider, including the tip (cash tips are not recorded)
    "tip": ("tipamount", "tipamt"),
}
HVFHV = BOTH | {
    "vendor": ("hvfhslicensenum",),
    "request": ("requestdatetime",),
    "miles": ("tripmiles",),
    "base_fare": ("basepassengerfare",),
    "tolls": ("tolls",),
    "bcf": ("bcf",),  # Black Car Fund
    "sales_tax": ("salestax",),
    "congestion_surcharge": ("congestionsurcharge",),
    "airport_fee": ("airportfee",),
    "cbd_congestion_fee": ("cbdcongestionfee",),  # since 2025
    "tip": ("tips",),
}
# Columns that a file need not have: fees that did not exist yet, a vendor that is not recorded.
OPTIONAL = {
    "vendor", "request", "tolls", "bcf", "sales_tax", "congestion_surcharge", "airport_fee",
    "cbd_congestion_fee",
}  # fmt: skip

ONLY_IN_HVFHV = {"hvfhslicensenum", "basepassengerfare", "tripmiles", "driverpay"}
ONLY_IN_GREEN = {"lpeppickupdatetime", "lpepdropoffdatetime", "triptype", "ehailfee"}

KNOWN = (
    "Known are the TLC's yellow and green files (pick-up and drop-off time, PULocationID, DOLocationID, "
    "trip_distance, total_amount, tip_amount) and HVFHV (trip_miles, base_passenger_fare, tips instead)"
)


@dataclass(frozen=True, slots=True)
class TripLayout:
    """The kind of the trips in a file, and the column of each meaning. `time_format`: the format of its
    times, if the user has given one. `date_order`: the format of dates with slashes, which the value
    `decided_by` decided."""

    kind: TripKind
    names: dict[str, str]  # meaning → the file's own name
    time_format: str | None = None
    date_order: str | None = None
    decided_by: str = ""


def detect_layout(path: Path, columns: Sequence[str]) -> TripLayout:
    """The layout of a file with these columns. Raises BadInput if they are not those of a trip file."""
    squeezed: dict[str, list[str]] = {}
    for column in columns:
        squeezed.setdefault(_squeeze(column), []).append(column)

    if ONLY_IN_HVFHV & squeezed.keys():
        kind, spellings = TripKind.HVFHV, HVFHV
    else:
        kind, spellings = TripKind.GREEN if ONLY_IN_GREEN & squeezed.keys() else TripKind.YELLOW, TAXI

    found = {
        meaning: [name for spelling in known for name in squeezed.get(spelling, [])]
        for meaning, known in spellings.items()
    }
    missing = [meaning for meaning, names in found.items() if not names and meaning not in OPTIONAL]
    if missing:
        raise BadInput(_complaint(path, columns, squeezed, kind, missing))
    for names in found.values():
        if len(names) > 1:
            raise BadInput(
                f"{path}: the columns {' and '.join(names)} have the same meaning; remove all but one of them"
            )
    return TripLayout(kind, {meaning: names[0] for meaning, names in found.items() if names})


def _squeeze(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _complaint(
    path: Path, columns: Sequence[str], squeezed: dict[str, list[str]], kind: TripKind, missing: list[str]
) -> str:
    spellings = HVFHV if kind is TripKind.HVFHV else TAXI
    wanted = [_written_out(spellings[meaning][0]) for meaning in missing]
    if {"startlon", "pickuplongitude"} & squeezed.keys():
        return f"{path} has coordinates instead of zones, as TLC files before July 2016 had: load a later one"
    if "dispatchingbasenum" in squeezed:
        return (
            f"{path} has no {', '.join(wanted)} (FHV, or an early HVFHV file): "
            "load a fhvhv_tripdata Parquet file as the TLC publishes it today"
        )
    required = len(spellings) - len(OPTIONAL & spellings.keys())
    if len(missing) > required // 2:
        shown = ", ".join(columns[:8]) + (", …" if len(columns) > 8 else "")
        return f"{path} is not a trip file, columns {', '.join(wanted)} are missing; it has {shown}. {KNOWN}"
    return f"{path}: {kind} trips, but no column {', '.join(wanted)}; get the file as the TLC publishes it"


# The names in current files, for messages.
_TODAY = {
    "tpeppickupdatetime": "pickup_datetime", "tpepdropoffdatetime": "dropoff_datetime",
    "pulocationid": "PULocationID", "dolocationid": "DOLocationID", "tripdistance": "trip_distance",
    "totalamount": "total_amount", "tipamount": "tip_amount", "tripmiles": "trip_miles",
    "basepassengerfare": "base_passenger_fare",
}  # fmt: skip


def _written_out(spelling: str) -> str:
    return _TODAY.get(spelling, spelling)
