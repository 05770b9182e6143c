"""The lake follows databases of applications with --all-tables and equals Postgres."""

import signal
import subprocess
from pathlib import Path

import pytest
from bare_database import run
from terminal import COMMAND, answer, ridelake

from lakehouse.capture.publish import publish_changes
from lakehouse.capture.sync import sync_repeatedly
from lakehouse.source.tracking import track, untracked_tables
from lakehouse.table.catalog import Lake
from lakehouse.table.epoch import Selection
from lakehouse.table.published import newest_epoch, read_epochs
from lakehouse.verify import verify_now
from oltp.cluster.process import binaries
from oltp.store import Store
from ridelake.errors import BadInput, NotReady
from ridelake.settings import LakeAddress

FILM_RENTAL = Path(__file__).with_name("film_rental.sql")
EVERYTHING = Selection(all_tables=True)


def pgbench(store: Store, *options: str) -> None:
    program = binaries() / "pgbench"
    if not program.exists():
        pytest.skip("this installation of Postgres has no pgbench")
    done = subprocess.run(
        [str(program), *options, store.conninfo], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_pgbench_database_is_followed_under_load(bare: Store, tmp_path: Path):
    pgbench(bare, "-i", "-q", "-s", "1")
    flags = ["--dsn", bare.conninfo, "--lake", str(tmp_path / "lake")]
    tracked = ridelake("track", "--all-tables", *flags[:2])
    assert tracked.stdout.count(" is tracked\n") == 3
    assert "pgbench_history has no primary key" in tracked.stderr
    syncing = subprocess.Popen(
        [*COMMAND, "sync", "--every", "1", "--all-tables", *flags],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert syncing.stdout
        assert syncing.stdout.readline().startswith("epoch 1: ")
        for script in (["-b", "tpcb-like"], ["-n", "-b", "simple-update"]):  # the first one truncates a table
            pgbench(bare, "-c", "4", "-t", "300", *script)
        verified = ridelake("verify", *flags)
        assert verified.returncode == 0, verified.stderr
        assert "not compared, because they are not tracked: public.pgbench_history;" in verified.stderr
        assert syncing.poll() is None
        syncing.send_signal(signal.SIGINT)
        _, messages = syncing.communicate(timeout=60)
    finally:
        syncing.kill()
        syncing.communicate()
    assert syncing.returncode == 130
    assert "Traceback" not in messages
    assert "internal error" not in messages
    answer("sync", "--once", "--verify", *flags)
    epochs = read_epochs(LakeAddress.at(tmp_path / "lake"))
    assert len(epochs) > 2, "there were too few epochs, so the test proves nothing"
    assert epochs[0].tables["pgbench_history"].rows == 2_400
    assert epochs[0].verified


RENTAL_CHANGES = (
    ("UPDATE films SET price = price + 1, features = features || 'new'::text WHERE film_id % 5 = 0",),
    ("DELETE FROM actors WHERE actor_id = 3", "UPDATE actors SET actor_id = 300 WHERE actor_id = 4"),
    ("UPDATE payments SET paid_at = paid_at + interval '1 month' WHERE paid_at < '2026-01-10'",),
    ("DELETE FROM payments_02_a WHERE amount > 40", "REFRESH MATERIALIZED VIEW CONCURRENTLY revenue"),
    ("ALTER TYPE rating ADD VALUE 'nobody'", "UPDATE films SET rating = 'nobody' WHERE film_id = 7"),
    ("ALTER TYPE rating RENAME VALUE 'teens' TO 'youth'",),
    ("ALTER TABLE payments DETACH PARTITION payments_01", "REFRESH MATERIALIZED VIEW revenue"),
    (
        "ALTER TABLE payments ATTACH PARTITION payments_01"
        " FOR VALUES FROM ('2026-01-01 00:00Z') TO ('2026-02-01 00:00Z')",
        "CREATE TABLE payments_03 PARTITION OF payments"
        " FOR VALUES FROM ('2026-03-01 00:00Z') TO ('2026-04-01 00:00Z')",
        "UPDATE payments SET paid_at = paid_at + interval '1 month' WHERE paid_at > '2026-02-20'",
    ),
    ("DELETE FROM customers WHERE email LIKE '1%'", "TRUNCATE log"),
    (
        "INSERT INTO customers (email) VALUES ('a@b')",
        "MERGE INTO customers AS c USING (VALUES ('a@b'), ('2@example.org')) AS v (mail) ON email = mail"
        " WHEN MATCHED AND mail = 'a@b' THEN DELETE WHEN MATCHED THEN UPDATE SET active = false",
    ),
    ("ALTER TYPE place ADD ATTRIBUTE country text", "ALTER TABLE films RENAME COLUMN length TO duration"),
    ("ALTER DOMAIN release_year DROP CONSTRAINT release_year_check", "DROP VIEW film_list"),
    (
        "WITH d AS (DELETE FROM rentals WHERE film_id < 9 RETURNING day)"
        " INSERT INTO log (what) SELECT day FROM d",
    ),
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_schema_of_a_film_rental_is_followed(bare: Store, lake: Lake):
    with bare.connect() as connection:
        connection.execute(FILM_RENTAL.read_bytes())
    for table in untracked_tables(bare, EVERYTHING):
        if table != "rental.log":
            track(bare, table)
    with pytest.raises(BadInput, match=r"rental\.log has no primary key"):
        track(bare, "rental.log")
    publish_changes(
        bare, lake, selection=EVERYTHING, tables=["rental.film_list", "rental.revenue"], verify=True
    )
    assert len(newest_epoch(lake.address).tables) == 10
    ticks = sync_repeatedly(0, bare, lake, verify=True)
    for changes in RENTAL_CHANGES:
        run(bare, *(f"SET search_path = rental; {change}" for change in changes))
        verified = verify_now_if_known(bare, lake)
        synced = next(ticks)
        assert synced.trouble is None, (changes, synced.trouble)
        assert synced.epoch
        assert (synced.is_new, synced.epoch.left_out) == (True, {}), changes
        assert verified, changes
    compared = verify_now(bare, lake)
    assert compared.equal
    assert set(compared.not_compared) == {"rental.log", "rental.revenue"}
    assert "film_list" not in newest_epoch(lake.address).tables


def verify_now_if_known(store: Store, lake: Lake) -> bool:
    """Whether the lake equals Postgres. True if the changes of a table since the epoch are unknown."""
    try:
        return verify_now(store, lake).equal
    except NotReady:
        return True
