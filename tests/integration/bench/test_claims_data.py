"""The data of the claim benchmarks is complete, equal in all variants, and deleted afterwards."""

from contextlib import closing
from pathlib import Path

import duckdb
import numpy as np
import pytest

from bench.claims.bench_etl import (
    ELT,
    ETL,
    ON_READ,
    ON_WRITE,
    ROWS_PER_BAD_ROW,
    DeferralCosts,
    _schemas,
    _transformations,
    bad_row_error_time,
    crossover,
    write_dirty_trips,
)
from bench.claims.bench_graph import draw_people
from bench.claims.bench_inserts import DuckDBInserter, Inserts, LakeInserter, PostgresInserter
from bench.claims.bench_models import leaves
from bench.claims.rides import RideBatch, generated_rides
from bench.env import scratch_schema
from oltp.ingest.tlc import check_files
from oltp.store import Store


def test_all_committed_rides_are_in_each_place(store: Store, tmp_path: Path):
    with (
        scratch_schema(store) as connection,
        duckdb.connect(str(tmp_path / "rides.duckdb")) as database,
        closing(LakeInserter(tmp_path)) as lake,
    ):
        stores = {"p": PostgresInserter(connection), "d": DuckDBInserter(database), "l": lake}
        for one in stores.values():
            one.insert(RideBatch.of(generated_rides(0, 1)))
            one.insert(RideBatch.of(generated_rides(1, 10)))
            assert one.rides().equals(generated_rides(0, 11))


def test_a_lost_ride_is_detected(tmp_path: Path):
    with duckdb.connect(":memory:") as database:
        inserts = Inserts({"DuckDB": DuckDBInserter(database)})
        inserts.run_rounds(1)
        inserts.check()
        database.execute("DELETE FROM RideTable WHERE RideID = 7")
        with pytest.raises(AssertionError, match="DuckDB"):
            inserts.check()


def test_the_scratch_schema_is_dropped(store: Store):
    with pytest.raises(ZeroDivisionError), scratch_schema(store) as connection:
        connection.execute("CREATE TABLE rides AS SELECT 1 AS mine")
        raise ZeroDivisionError
    with store.connect() as connection:
        assert connection.execute("SELECT to_regnamespace('bench_scratch')").fetchone() == (None,)
        assert connection.execute("SELECT count(*) FROM ridelake.rides").fetchone() == (0,)


def test_etl_and_elt_accept_the_same_trips_as_the_loader(tmp_path: Path):
    raw = tmp_path / "yellow_tripdata_2025.csv"
    write_dirty_trips(raw, 3_000, seed=2)
    (checked,) = check_files([raw])
    good = int((checked.verdicts == 0).sum())
    assert good <= 3_000 - (3_000 // ROWS_PER_BAD_ROW - 1)
    with _transformations(raw, tmp_path) as variants:
        for name in (ETL, ELT):
            assert sum(int(str(row[1])) for row in variants[name].first()) == good


def test_a_bad_row_fails_at_the_write_or_at_the_first_query(tmp_path: Path):
    arrived = tmp_path / "rides.jsonl"
    arrived.write_text('{"RideID": 1, "Price": 20.4}\n{"RideID": 2, "Price": "twenty"}\n')
    with _schemas(arrived, tmp_path / "lake") as variants:
        assert bad_row_error_time(variants[ON_WRITE]) == "refused when written"
        assert bad_row_error_time(variants[ON_READ]) == "found by the first query"


def test_early_work_pays_off_where_the_total_times_meet():
    assert crossover(DeferralCosts(10.0, 1.0), DeferralCosts(4.0, 3.0)) == 4
    assert crossover(DeferralCosts(1.0, 1.0), DeferralCosts(4.0, 3.0)) == 1
    assert crossover(DeferralCosts(10.0, 3.0), DeferralCosts(4.0, 3.0)) is None
    # Early work is only faster for the first queries.
    assert crossover(DeferralCosts(1.0, 3.0), DeferralCosts(4.0, 1.0)) is None


def test_a_document_has_the_same_values_as_its_row():
    document = {"fare": 2040, "rider": {"name": "memelord"}, "at": "2025-07-01T12:00:00.5+00:00"}
    assert leaves(document) == ["2025-07-01T12:00:00.500000+00:00", "2040", "memelord"]


def test_friendships_are_unique_pairs():
    pairs = draw_people(500, seed=3).friendships.to_numpy()
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert len(np.unique(pairs, axis=0)) == len(pairs)
