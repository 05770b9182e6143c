"""Checks whether a history has a serial order. Its transactions append to lists and read them. The method is
that of Elle (Kingsbury and Alvaro, VLDB 2020).

The order of the elements in a list that was read is the order of the appends. It gives dependencies between
transactions:

    ww    the second transaction appended the next element
    wr    the second transaction read the element that the first one appended, as the last one of the list
    rw    the first transaction did not see the next element, which the second one appended

A cycle of dependencies is an anomaly. Its name depends on the number of rw dependencies that it needs: G0 or
G1c without any, G-single with one, G2 with more.
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
    cycle: tuple[Edge, ...]  # edges between positions in the history


def anomalies(history: Sequence[Committed]) -> list[Anomaly]:
    """At most one anomaly for each set of transactions in cycles, and every read of an element that was never
    committed or of a list that contradicts another read."""
    lists = _longest_reads(history)
    found = list(_impossible_reads(history, lists))
    edges = set(_edges(history, lists))
    for component in _components(len(history), edges):
        inside = [edge for edge in edges if edge[0] in component and edge[2] in component]
        found.append(_most_severe(inside))
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
                yield Anomaly("G1a: read of an element that was never committed", ((place, "reads", place),))
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


def _components(count: int, edges: set[Edge]) -> list[set[int]]:
    """Strongly connected components with more than one node (Kosaraju's algorithm)."""
    onwards: dict[int, list[int]] = {}
    backwards: dict[int, list[int]] = {}
    for start, _, end in edges:
        onwards.setdefault(start, []).append(end)
        backwards.setdefault(end, []).append(start)
    postorder: list[int] = []
    seen: set[int] = set()
    for root in range(count):
        postorder += _reachable(root, onwards, seen)
    left: set[int] = set()
    components = [set(_reachable(root, backwards, left)) for root in reversed(postorder) if root not in left]
    return [component for component in components if len(component) > 1]


def _reachable(root: int, edges: dict[int, list[int]], seen: set[int]) -> list[int]:
    """The unvisited nodes that can be reached, in postorder."""
    if root in seen:
        return []
    seen.add(root)
    ended: list[int] = []
    path = [(root, iter(edges.get(root, ())))]
    while path:
        place, left = path[-1]
        for after in left:
            if after not in seen:
                seen.add(after)
                path.append((after, iter(edges.get(after, ()))))
                break
        else:
            ended.append(place)
            path.pop()
    return ended


def _most_severe(edges: list[Edge]) -> Anomaly:
    """The cycle with the fewest rw edges. Fewer rw edges mean a more severe anomaly."""
    without = [edge for edge in edges if edge[1] != "rw"]
    for kinds, name in (("ww",), "G0"), (("ww", "wr"), "G1c"):
        allowed = [edge for edge in without if edge[1] in kinds]
        for edge in allowed:
            if (path := _shortest_path(edge[2], edge[0], allowed)) is not None:
                return Anomaly(name, (edge, *path))
    for edge in edges:
        if edge[1] == "rw" and (path := _shortest_path(edge[2], edge[0], without)) is not None:
            return Anomaly("G-single", (edge, *path))
    first = edges[0]
    return Anomaly("G2", (first, *(_shortest_path(first[2], first[0], edges) or ())))


def _shortest_path(start: int, end: int, edges: list[Edge]) -> tuple[Edge, ...] | None:
    paths: dict[int, tuple[Edge, ...]] = {start: ()}
    waiting = deque([start])
    while waiting:
        place = waiting.popleft()
        if place == end:
            return paths[place]
        for edge in edges:
            if edge[0] == place and edge[2] not in paths:
                paths[edge[2]] = (*paths[place], edge)
                waiting.append(edge[2])
    return None
