"""Could this have happened in some order, one transaction after the other? After Elle (Kingsbury and Alvaro,
VLDB 2020), for transactions that append to lists and read them.

A list that was read tells the order of its appends, and so who came after whom:

    ww    one appended right after the other
    wr    one read what the other had appended last
    rw    one read, and did not see what the other appended next

A cycle of these is an anomaly, named by how many rw it needs: none G0 or G1c, one G-single, more G2.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

Key = int
Element = int
Edge = tuple[int, str, int]


@dataclass(slots=True)
class Committed:
    """One committed transaction: what it appended, and the lists that it read."""

    appends: list[tuple[Key, Element]] = field(default_factory=list)
    reads: list[tuple[Key, tuple[Element, ...]]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Anomaly:
    name: str
    cycle: tuple[Edge, ...]  # of places in the history


def anomalies(history: Sequence[Committed]) -> list[Anomaly]:
    """At most one anomaly for each cycle of transactions, and every read of something that was never
    committed or that contradicts another read."""
    lists = _longest_reads(history)
    found = list(_impossible_reads(history, lists))
    edges = set(_edges(history, lists))
    for knot in _knots(len(history), edges):
        inside = [edge for edge in edges if edge[0] in knot and edge[2] in knot]
        found.append(_worst(inside))
    return found


def _longest_reads(history: Sequence[Committed]) -> dict[Key, tuple[Element, ...]]:
    longest: dict[Key, tuple[Element, ...]] = {}
    for transaction in history:
        for key, seen in transaction.reads:
            longest[key] = max(longest.get(key, ()), seen, key=len)
    return longest


def _impossible_reads(
    history: Sequence[Committed], lists: dict[Key, tuple[Element, ...]]
) -> Iterator[Anomaly]:
    committed = {append for transaction in history for append in transaction.appends}
    for place, transaction in enumerate(history):
        for key, seen in transaction.reads:
            if any((key, element) not in committed for element in seen):
                yield Anomaly("G1a: read of what was never committed", ((place, "reads", place),))
            elif lists[key][: len(seen)] != seen:
                yield Anomaly("incompatible order", ((place, "reads", place),))


def _edges(history: Sequence[Committed], lists: dict[Key, tuple[Element, ...]]) -> Iterator[Edge]:
    writer = {append: place for place, transaction in enumerate(history) for append in transaction.appends}
    for key, elements in lists.items():
        for one, next_one in pairwise(elements):
            yield from _edge(writer.get((key, one)), "ww", writer.get((key, next_one)))
    for place, transaction in enumerate(history):
        for key, seen in transaction.reads:
            if seen:
                yield from _edge(writer.get((key, seen[-1])), "wr", place)
            if len(seen) < len(lists[key]):
                yield from _edge(place, "rw", writer.get((key, lists[key][len(seen)])))


def _edge(start: int | None, kind: str, end: int | None) -> Iterator[Edge]:
    if start is not None and end is not None and start != end:
        yield start, kind, end


def _knots(count: int, edges: set[Edge]) -> list[set[int]]:
    """Strongly connected components with more than one node (Kosaraju's algorithm)."""
    onwards: dict[int, list[int]] = {}
    backwards: dict[int, list[int]] = {}
    for start, _, end in edges:
        onwards.setdefault(start, []).append(end)
        backwards.setdefault(end, []).append(start)
    endings: list[int] = []
    seen: set[int] = set()
    for root in range(count):
        endings += _walk(root, onwards, seen)
    left: set[int] = set()
    knots = [set(_walk(root, backwards, left)) for root in reversed(endings) if root not in left]
    return [knot for knot in knots if len(knot) > 1]


def _walk(root: int, ways: dict[int, list[int]], seen: set[int]) -> list[int]:
    """The unvisited nodes that can be reached, in postorder."""
    if root in seen:
        return []
    seen.add(root)
    ended: list[int] = []
    path = [(root, iter(ways.get(root, ())))]
    while path:
        place, left = path[-1]
        for after in left:
            if after not in seen:
                seen.add(after)
                path.append((after, iter(ways.get(after, ()))))
                break
        else:
            ended.append(place)
            path.pop()
    return ended


def _worst(edges: list[Edge]) -> Anomaly:
    """The cycle with the fewest rw edges, which is the most severe anomaly."""
    without = [edge for edge in edges if edge[1] != "rw"]
    for kinds, name in (("ww",), "G0"), (("ww", "wr"), "G1c"):
        allowed = [edge for edge in without if edge[1] in kinds]
        for edge in allowed:
            if (way := _way(edge[2], edge[0], allowed)) is not None:
                return Anomaly(name, (edge, *way))
    for edge in edges:
        if edge[1] == "rw" and (way := _way(edge[2], edge[0], without)) is not None:
            return Anomaly("G-single", (edge, *way))
    first = edges[0]
    return Anomaly("G2", (first, *(_way(first[2], first[0], edges) or ())))


def _way(start: int, end: int, edges: list[Edge]) -> tuple[Edge, ...] | None:
    """The shortest path."""
    ways: dict[int, tuple[Edge, ...]] = {start: ()}
    waiting = deque([start])
    while waiting:
        place = waiting.popleft()
        if place == end:
            return ways[place]
        for edge in edges:
            if edge[0] == place and edge[2] not in ways:
                ways[edge[2]] = (*ways[place], edge)
                waiting.append(edge[2])
    return None
