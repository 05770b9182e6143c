"""Trip files of the TLC, and damaged copies of them."""

from pathlib import Path

import pytest

from oltp.ingest.tlc import check_files, load_files
from oltp.ingest.tlc.rules import CODE, GOOD
from oltp.store import Store
from ridelake.errors import BadInput


@pytest.fixture
def counts(real_data: Path):
    def counts_of(name: str) -> dict[str, int]:
        path = real_data / name
        if not path.exists():
            pytest.skip(f"{name} is not among the real trip files")
        (checked,) = check_files([path])
        names = {code: str(reason) for reason, code in CODE.items()} | {GOOD: "loaded"}
        return {names[code]: count for code, count in checked.verdicts.value_counts().rows()}

    return counts_of


def test_each_row_of_a_month_of_green_taxis_is_loaded_or_rejected_with_a_reason(counts):
    found = counts("green_tripdata_2024-01.parquet")
    assert sum(found.values()) == 56_551
    assert found["refund"] == found["refunded"] == 181
    assert found["too_long"] == 152
    assert found["other_period"] == 2
    assert found["loaded"] == 53_039


def test_a_year_of_yellow_taxis_in_an_older_format_is_loaded(counts):
    found = counts("yellow_sample_2019.parquet")
    assert sum(found.values()) == 120_000
    assert found["other_period"] == 1
    assert found["loaded"] == 117_371


@pytest.mark.slow
def test_the_trips_of_a_sample_and_its_csv_are_the_same(real_data, store: Store, tmp_path):
    names = ("yellow_sample_2019.parquet", "dirty/yellow_2019-01_mixed_crlf_lf.csv")
    checked = check_files([real_data / name for name in names])
    whole, january = load_files(store, checked, tmp_path / "quarantine").files
    assert (whole.read, whole.loaded) == (120_000, 117_371)
    assert (january.read, january.loaded, january.rejected["already_loaded"]) == (10_000, 0, 9_693)
    for file in (whole, january):
        assert file.read == file.loaded + sum(file.rejected.values())


def test_a_zone_table_with_cr_line_endings_is_refused(real_data):
    with pytest.raises(BadInput, match=r"is not a trip file.*LocationID, Borough, Zone"):
        check_files([real_data / "dirty" / "taxi-zone-lookup_cr_only.csv"])
