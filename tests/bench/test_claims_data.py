"""What claims are measured on is what they say: nothing is lost on the way, and nothing is left behind."""

from contextlib import closing
from pathlib import Path

import duckdb
import numpy as np
import pytest

from bench.claims.bench_etl import ELT, ETL, ON_READ, ON_WRITE, _schemas, _transformations, found_bad_row
from bench.claims.bench_inserts import Inserts
from bench.claims.bench_models import leaves
from bench.claims.deferral import Costs, crossover
from bench.claims.dirty_trips import DIRTY_EVERY, write_dirty_trips
from bench.claims.inserters import DuckDBInserter, LakeInserter, PostgresInserter
from bench.claims.people import draw_people
from bench.claims.rides import Batch, made_up
from bench.claims.workshop import workshop
from oltp.load import check_files
from oltp.store import Store


def test_every_committed_ride_is_there_in_each_place(store: Store, tmp_path: Path):
    with (
        workshop(store) as connection,
        duckdb.connect(str(tmp_path / "rides.duckdb")) as database,
        closing(LakeInserter(tmp_path)) as lake,
    ):
        places = {"p": PostgresInserter(connection), "d": DuckDBInserter(database), "l": lake}
        for place in places.values():
            place.insert(Batch.of(made_up(0, 1)))
            place.insert(Batch.of(made_up(1, 10)))
            assert place.rides().equals(made_up(0, 11))


def test_a_ride_that_was_not_kept_is_seen(tmp_path: Path):
    with duckdb.connect(":memory:") as database:
        contest = Inserts({"DuckDB": DuckDBInserter(database)})
        contest.play(1)
        contest.check()
        database.execute("DELETE FROM RideTable WHERE RideID = 7")
        with pytest.raises(AssertionError, match="DuckDB"):
            contest.check()


def test_the_workshop_leaves_nothing_behind(store: Store):
    with pytest.raises(ZeroDivisionError), workshop(store) as connection:
        connection.execute("CREATE TABLE rides AS SELECT 1 AS mine")
        raise ZeroDivisionError
    with store.connect() as connection:
        assert connection.execute("SELECT to_regnamespace('workshop')").fetchone() == (None,)
        assert connection.execute("SELECT count(*) FROM ridelake.rides").fetchone() == (0,)


def test_both_moments_of_cleaning_find_the_trips_that_the_loader_finds(tmp_path: Path):
    raw = tmp_path / "yellow_tripdata_2025.csv"
    write_dirty_trips(raw, 3_000, seed=2)
    (checked,) = check_files([raw])
    good = int((checked.verdicts == 0).sum())
    assert good <= 3_000 - (3_000 // DIRTY_EVERY - 1)
    with _transformations(raw, tmp_path) as variants:
        for name in (ETL, ELT):
            assert sum(int(str(row[1])) for row in variants[name].first()) == good


def test_a_bad_row_is_refused_by_one_schema_and_found_by_the_other(tmp_path: Path):
    arrived = tmp_path / "rides.jsonl"
    arrived.write_text('{"RideID": 1, "Price": 20.4}\n{"RideID": 2, "Price": "twenty"}\n')
    with _schemas(arrived, tmp_path / "lake") as variants:
        assert found_bad_row(variants[ON_WRITE]) == "refused when written"
        assert found_bad_row(variants[ON_READ]) == "found by the first question"


def test_early_work_pays_from_the_question_at_which_the_sums_meet():
    assert crossover(Costs(10.0, 1.0), Costs(4.0, 3.0)) == 4
    assert crossover(Costs(1.0, 1.0), Costs(4.0, 3.0)) == 1
    assert crossover(Costs(10.0, 3.0), Costs(4.0, 3.0)) is None
    assert crossover(Costs(1.0, 3.0), Costs(4.0, 1.0)) is None  # ahead at first, and then no more


def test_a_document_and_its_row_hold_the_same_values():
    document = {"fare": 2040, "rider": {"name": "memelord"}, "at": "2025-07-01T12:00:00.5+00:00"}
    assert leaves(document) == ["2025-07-01T12:00:00.500000+00:00", "2040", "memelord"]


def test_friendships_are_pairs_of_two_and_each_is_there_once():
    pairs = draw_people(500, seed=3).friendships.to_numpy()
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert len(np.unique(pairs, axis=0)) == len(pairs)
