"""The three sentences, from what was measured alone."""

from collections.abc import Mapping
from math import inf
from statistics import median_low

from bench.leaving.crossing import Crossing
from bench.record import Entry, Record
from bench.sampling import Ratio

TITLE = "When should I leave Postgres?"


def by_size(rides: int, ratios: Mapping[str, Ratio], crossings: Mapping[str, Crossing]) -> str:
    """`ratios`: of each question, rows over columns, at so many rides; over 1 the columns are faster."""
    ahead = {name: one for name, one in ratios.items() if one.distinguishable and one.median > 1}
    behind = {name: one for name, one in ratios.items() if one.distinguishable and one.median < 1}
    even = len(ratios) - len(ahead) - len(behind)
    parts = []
    if ahead:
        most = max(ahead, key=lambda name: ahead[name].median)
        parts.append(
            f"{_of(ahead, ratios)} faster over columns, most of all {most} "
            f"({_times(ahead[most].median)} ×), {_overtaken([crossings[name] for name in ahead])}"
        )
    if behind:
        most = min(behind, key=lambda name: behind[name].median)
        parts.append(
            f"{_of(behind, ratios)} faster over rows, most of all {most} "
            f"({_times(1 / behind[most].median)} ×)"
        )
    if even:
        parts.append(f"{even} {'is' if even == 1 else 'are'} not distinguishable")
    return f"At {rides:,} rides {'; '.join(parts)}."


def _of(some: Mapping[str, Ratio], ratios: Mapping[str, Ratio]) -> str:
    return f"{len(some)} of {len(ratios)} questions {'is' if len(some) == 1 else 'are'}"


def _overtaken(crossings: list[Crossing]) -> str:
    """From where on those that are ahead have been, or half of them."""
    places = sorted(one.at for one in crossings)
    first, last = crossings[0].first, places[-1]
    if last == 0:
        return f"already at {first:,.0f}"
    if len(places) == 1:
        return f"from {last:,.0f} on"
    half = median_low(places)
    return f"half of them {f'from {half:,.0f} on' if half else f'already at {first:,.0f}'}"


def by_range(rides: int, number: Crossing, whole: Crossing, scanned: Crossing) -> str:
    """Of ranges by key, in rows wanted: one number of them and whole rows through the index, and one number
    without an index."""
    return (
        f"Of a range of keys among {rides:,} rides, one number is found sooner by Postgres' index "
        f"{_until(number, rides)}, and whole rows {_until(whole, rides)}; without an index, "
        f"Postgres is sooner {_until(scanned, rides)}."
    )


def _until(crossing: Crossing, rides: int) -> str:
    """Up to which range the row store is ahead; no more than its interval says."""
    if crossing.always:
        return "for none"
    if crossing.never:
        return f"for all that were tried, up to {crossing.last:,.0f} ({_share(crossing.last / rides)})"
    if crossing.low == 0 and crossing.high == inf:
        return "up to a range that could not be told"
    if crossing.at == 0:
        return f"for none, or up to {crossing.high:,.0f} of them at most"
    if crossing.at == inf:
        return f"up to {crossing.low:,.0f} of them at least ({_share(crossing.low / rides)})"
    low = f"{crossing.low:,.0f}" if crossing.low else "none"
    high = f"{crossing.high:,.0f}" if crossing.high < inf else f"over {crossing.last:,.0f}"
    return f"up to {crossing.at:,.0f} of them ({_share(crossing.at / rides)}; {low} to {high})"


def _share(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else f"{share:.2%}"


def by_freshness(
    rides: int, epoch_seconds: float, now_over_last: Ratio, rows_over_now: Ratio, now_seconds: float
) -> str:
    """`rides`: requested before each epoch, and before the question as of now. The ratios are of times."""
    return (
        f"Freshness costs: an epoch of {rides:,} more requests takes {epoch_seconds:.2f} s, and an answer as "
        f"of now, of the last epoch and what has changed since, {now_seconds:.2f} s, "
        f"{_times(now_over_last.median)} × as long as of the last epoch alone; {rows_over_now.words()}, each "
        "opened for the question."
    )


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.1f}"


def advising(record: Record) -> list[Entry]:
    """The figures that have advice for who has to decide."""
    return [entry for entry in record.figures if entry.figure and entry.figure.get("advice")]
