"""The verdict in sentences, from the measured crossings alone."""

from collections.abc import Mapping

from bench.leaving.crossing import Crossing, words
from bench.record import Entry, Record

TITLE = "When should I leave Postgres?"


def by_size(crossings: Mapping[str, Crossing]) -> str:
    """One sentence; questions of the same answer stand together."""
    alike: dict[str, list[str]] = {}
    for question, crossing in crossings.items():
        alike.setdefault(words(crossing, "rides"), []).append(question)
    told = "; ".join(f"for {', '.join(names)} {when}" for when, names in alike.items())
    return f"The columns overtake the rows {told}."


def by_share(crossing: Crossing, rides: int, what: str) -> str:
    """Of ranges found by an index; `crossing` is in rows wanted of so many rides."""
    if crossing.always:
        return (
            f"Even for {crossing.first:,.0f} of {rides:,} rides by their key ({what}) the columns are faster."
        )
    if crossing.never:
        share = crossing.last / rides
        return f"By their key the row store is faster for up to {share:.2%} of {rides:,} rides ({what})."
    return (
        f"By their key ({what}) the columns overtake the index {words(crossing, 'rows')} of {rides:,} rides."
    )


def is_leaving(entry: Entry) -> bool:
    return entry.group == TITLE and entry.status == "measured"


def verdict_of(record: Record) -> list[str]:
    """The sentences of a record; none if it has no such figure."""
    found = [entry.figure for entry in record.figures if is_leaving(entry)]
    return [str(figure["facts"][name]) for figure in found if figure for name in ("questions", "ranges")]
