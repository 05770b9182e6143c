"""The claim on graph databases: the same relationships, queried in SQL and in Cypher."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
from psycopg import Connection, RawCursor
from psycopg.rows import TupleRow

from bench.env import BenchEnv, scratch_schema
from bench.figure import Axis, Cell, Chart, Figure, Series, VariantTimes, Verdict
from bench.statistics import Ratio
from bench.textbook import ClaimId
from oltp.ingest.bulk import copy_into
from ridelake.queries import load_queries, load_script

QUERIES = load_queries("bench.claims")

COUNTRIES = ("USA", "Canada", "France", "Vietnam")
STATES_PER_COUNTRY, CITIES_PER_STATE = 10, 20
FRIENDS_DRAWN = 4  # per person; on average, as many others draw the person


@dataclass(frozen=True, slots=True)
class PeopleGraph:
    """`places`: place_id, name, within_id (null: a country). `people`: person_id, name, born_in_id.
    `friendships`: person_id, friend_id, each pair once, the smaller id first."""

    places: pl.DataFrame
    people: pl.DataFrame
    friendships: pl.DataFrame

    @property
    def friendships_both_ways(self) -> pl.DataFrame:
        """Each friendship in both directions, as SQL needs it to follow it from either side."""
        back = self.friendships.select(person_id="friend_id", friend_id="person_id")
        return pl.concat([self.friendships, back])


def draw_people(people: int, seed: int) -> PeopleGraph:
    random = np.random.default_rng(seed)
    countries = len(COUNTRIES)
    states = countries * STATES_PER_COUNTRY
    cities = states * CITIES_PER_STATE
    place = np.arange(countries + states + cities)
    first_city = countries + states
    within = [
        *[None] * countries,
        *(state // STATES_PER_COUNTRY for state in range(states)),
        *(countries + city // CITIES_PER_STATE for city in range(cities)),
    ]
    names = [*COUNTRIES, *(f"place {number}" for number in place[countries:])]
    person = np.arange(people)
    pairs = random.integers(0, people, (people * FRIENDS_DRAWN, 2))
    pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)
    return PeopleGraph(
        pl.DataFrame({"place_id": place, "name": names, "within_id": within}),
        pl.DataFrame(
            {
                "person_id": person,
                "name": [f"person {number}" for number in person],
                "born_in_id": random.integers(first_city, len(place), people),
            }
        ),
        pl.DataFrame({"person_id": pairs[:, 0], "friend_id": pairs[:, 1]}),
    )


POSTGRES, DUCKDB, GRAPH = "SQL in Postgres", "SQL in DuckDB", "Cypher in Ladybug"
BORN_IN_USA = "born in the USA"
HOPS = (2, 3, 4)
PEOPLE_PER_QUERY = 5  # people per query, so that one person with few friends does not decide
RIDES_PER_PERSON = 10

Ask = Callable[[str, list[Any]], int]  # a query and its parameters → its result, a count


def bench_graph(figure: Figure, env: BenchEnv, tmp_path: Path) -> None:
    pytest.importorskip("ladybug", reason="the graph engine is not installed: pip install 'ridelake[bench]'")
    figure.title = "Are relationships easier to follow in a graph database?"
    known = draw_people(figure.scale.rides // RIDES_PER_PERSON, seed=1)
    with (
        scratch_schema(env.store) as connection,
        duckdb.connect(str(tmp_path / "people.duckdb")) as database,
        _graph(tmp_path / "people.ladybug", known) as graph,
    ):
        engines: dict[str, Ask] = {
            POSTGRES: _postgres(connection, known),
            DUCKDB: _duckdb(database, known),
            GRAPH: graph,
        }
        all_times = {
            question: figure.interleaved(
                {name: partial(_answers, ask, texts[name], values) for name, ask in engines.items()},
                _equal,
                label=question,
                seconds=figure.scale.seconds / 2,
            )
            for question, texts, values in _questions(len(known.people))
        }
    lengths = {question: lengths_of(texts) for question, texts, _ in _questions(len(known.people))}
    figure.rows = len(known.people) + len(known.friendships)
    figure.checked(f"{', '.join(engines)} return the same count for every query")
    figure.table("Milliseconds per query, characters of its text", list(_rows(all_times, lengths)))
    figure.chart(_bars(all_times))
    ratios = [figure.ratio(times.ratio(POSTGRES, GRAPH)) for times in all_times.values()]
    for times in all_times.values():
        figure.ratio(times.ratio(DUCKDB, GRAPH))
    figure.set_verdict(ClaimId.GRAPH, judge_graph(ratios, list(lengths.values())))


def judge_graph(ratios: list[Ratio], lengths: list[dict[str, int]]) -> Verdict:
    """`ratios`: the time in Postgres divided by the time in the graph engine, for each query. `lengths`: the
    characters of each query."""
    shorter = all(length[GRAPH] < length[POSTGRES] for length in lengths)
    faster = [ratio.low > 1 for ratio in ratios]
    if shorter and all(faster):
        return "holds"
    return "holds in part" if shorter or any(faster) else "does not hold"


def lengths_of(texts: dict[str, str]) -> dict[str, int]:
    """Characters; each run of whitespace counts as one."""
    return {name: len(" ".join(text.split())) for name, text in texts.items()}


def _questions(people: int) -> Iterator[tuple[str, dict[str, str], list[list[Any]]]]:
    """The name of a query, its text for each engine, and the parameters of each execution."""
    born = QUERIES["born_in"]
    yield (
        BORN_IN_USA,
        {POSTGRES: born, DUCKDB: born, GRAPH: load_script("bench.claims", "born_in.cypher")},
        [["USA"]],
    )
    within = QUERIES["friends_within"]
    asked = range(0, people, people // PEOPLE_PER_QUERY)
    for hops in HOPS:
        # In Cypher the length of a path is part of the text and cannot be a parameter.
        pattern = load_script("bench.claims", "friends_within.cypher").replace("$hops", str(hops))
        texts = {POSTGRES: within, DUCKDB: within, GRAPH: pattern}
        yield f"friends within {hops} hops", texts, [[person, hops] for person in asked]


def _answers(ask: Ask, text: str, values: list[list[Any]]) -> list[int]:
    return [ask(text, one) for one in values]


def _postgres(connection: Connection[TupleRow], known: PeopleGraph) -> Ask:
    connection.execute(QUERIES["graph_tables"])
    copy_into(connection, "places", known.places)
    copy_into(connection, "people", known.people)
    copy_into(connection, "friendships", known.friendships_both_ways)
    connection.execute(QUERIES["graph_indexes"])
    connection.execute("VACUUM (ANALYZE) places, people, friendships")
    cursor = RawCursor(connection)

    def ask(text: str, values: list[Any]) -> int:
        return int(cursor.execute(text.encode(), values).fetchall()[0][0])

    return ask


def _duckdb(database: duckdb.DuckDBPyConnection, known: PeopleGraph) -> Ask:
    database.execute(QUERIES["graph_tables"])
    for statement, frame in (
        ("INSERT INTO places SELECT * FROM frame", known.places),
        ("INSERT INTO people SELECT * FROM frame", known.people),
        ("INSERT INTO friendships SELECT * FROM frame", known.friendships_both_ways),
    ):
        database.register("frame", frame.to_arrow())
        database.execute(statement)
    database.execute(QUERIES["graph_indexes"])
    return lambda text, values: int(database.execute(text, values).fetchall()[0][0])


@contextmanager
def _graph(path: Path, known: PeopleGraph) -> Iterator[Ask]:
    import ladybug

    with ladybug.Database(path) as database, ladybug.Connection(database) as connection:
        for statement in load_script("bench.claims", "graph.cypher").split(";\n"):
            if statement:
                connection.execute(statement)
        within = known.places.drop_nulls("within_id").select("place_id", "within_id")
        for statement, frame in (
            ("COPY Place FROM $frame", known.places.select("place_id", "name")),
            ("COPY Person FROM $frame", known.people.select("person_id", "name")),
            ("COPY WITHIN FROM $frame", within),
            ("COPY BORN_IN FROM $frame", known.people.select("person_id", "born_in_id")),
            ("COPY FRIEND FROM $frame", known.friendships),
        ):
            connection.execute(statement, {"frame": frame.to_arrow()})

        def ask(text: str, values: list[Any]) -> int:
            # The length of the path is part of the text, so only the first value is a parameter.
            result = connection.execute(text, {"1": values[0]})
            assert not isinstance(result, list)
            (count,) = result.get_next()
            return int(count)

        yield ask


def _equal(answers: dict[str, list[int]]) -> None:
    first, *others = answers.values()
    assert all(count > 0 for count in first), answers
    assert all(other == first for other in others), answers


def _rows(
    all_times: dict[str, VariantTimes], lengths: dict[str, dict[str, int]]
) -> Iterator[dict[str, Cell]]:
    for question, times in all_times.items():
        asked = 1 if question == BORN_IN_USA else PEOPLE_PER_QUERY
        yield {
            "question": question,
            **{f"{name}, ms": times.median_seconds(name) * 1000 / asked for name in times.samples},
            "SQL, characters": lengths[question][POSTGRES],
            "Cypher, characters": lengths[question][GRAPH],
        }


def _bars(all_times: dict[str, VariantTimes]) -> Chart:
    bars = [
        Series(name, [*all_times], [times.median_seconds(name) * 1000 for times in all_times.values()])
        for name in (POSTGRES, DUCKDB, GRAPH)
    ]
    title = f"Relationships followed (friends: {PEOPLE_PER_QUERY} people per query)"
    return Chart("bars", title, Axis("question"), Axis("ms", log=True), bars)
