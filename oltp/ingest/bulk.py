"""COPY of frames into tables, blocks of sequence numbers, and the riders and drivers of one city."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Identifier

from ridelake.queries import load_queries

QUERIES = load_queries("oltp.ingest")

CHUNK_ROWS = 50_000  # of CSV in memory at a time


def copy_into(
    connection: Connection[TupleRow],
    table: str,
    rows: pl.DataFrame,
    on_rows: Callable[[int], None] = lambda rows: None,
) -> None:
    """COPY a frame into the columns of the same names. Bytes are sent as hexadecimal text, nulls as empty
    fields. `on_rows` is called with the number of rows of each chunk."""
    if rows.is_empty():
        return
    binary = [name for name, dtype in rows.schema.items() if dtype == pl.Binary]
    columns = SQL(", ").join(map(Identifier, rows.columns))
    statement = SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(Identifier(table), columns)
    with connection.cursor().copy(statement) as copy:
        for chunk in rows.iter_slices(CHUNK_ROWS):
            copy.write(
                chunk.with_columns(pl.col(binary).bin.encode("hex")).write_csv(include_header=False).encode()
            )
            on_rows(chunk.height)


@contextmanager
def foreign_keys_disabled(connection: Connection[TupleRow]) -> Iterator[None]:
    """Disable the foreign-key triggers in this session, if the role may. They look up every key of every row,
    and make a bulk load three times slower. Only for rows whose parents were written or locked in the same
    transaction."""
    may = connection.execute("SELECT has_parameter_privilege('session_replication_role', 'SET')").fetchone()
    if may != (True,):
        yield
        return
    connection.execute("SET LOCAL session_replication_role = replica")
    yield
    connection.execute("SET LOCAL session_replication_role = origin")


def reserve_ids(connection: Connection[TupleRow], table: str, column: str, count: int) -> NDArray[np.int64]:
    """`count` numbers of the column's sequence, which no concurrent writer gets."""
    row = connection.execute(QUERIES["reserve"], (table, column, count)).fetchone()
    return np.array(row[0] if row and row[0] else [], dtype=np.int64)


Ints = NDArray[np.int64]

# Usernames are two of these words and the id. Drivers' names are combined from names of database researchers.
FIRST = """
amber bold brave bright calm clever cosmic daring eager early electric fancy gentle golden happy humble
jolly keen lucky mellow merry mighty neon nimble polite proud quick quiet silver sunny swift witty
"""
SECOND = """
otter badger heron falcon lynx panda walrus beaver raven gecko bison moose koala tapir puffin ferret
marmot osprey tiger dolphin condor jaguar iguana magpie oriole rabbit salmon toucan turtle weasel wombat yak
"""
GIVEN = """
Ada Alan Barbara Carol Donald Edgar Edsger Frances Grace Hedy Ivan James Jim Joan John Karen Ken Leslie
Lynn Margaret Mary Michael Niklaus Patricia Pat Radia Ray Shafi Sophie Sue Tony Yukihiro
"""
FAMILY = """
Bachman Bayer Bernstein Boyce Chamberlin Codd Date Fagin Gray Haerder Hopper Lamport Lindsay Lovelace
Lorie McJones Mohan Patterson Price Putzolu Reuter Rowe Selinger Stonebraker Thomas Traiger Ullman Weikum
"""


@dataclass(frozen=True, slots=True)
class CityPeople:
    """Riders or drivers of one city and their accounts; the first `old` of them existed before."""

    ids: Ints
    account_ids: Ints
    old: int


def find_or_create_people(
    connection: Connection[TupleRow], table: str, window: dict[str, object], needed: int
) -> CityPeople:
    """`needed` riders or drivers: first existing people of the city who are idle in the window, then new
    ones."""
    found = connection.execute(QUERIES[f"idle_{table}"], {**window, "needed": needed}).fetchall()
    old = np.array(found, dtype=np.int64).reshape(-1, 2)
    new = needed - len(old)
    key = {"riders": "rider_id", "drivers": "driver_id"}[table]
    return CityPeople(
        np.concatenate([old[:, 0], reserve_ids(connection, table, key, new)]),
        np.concatenate([old[:, 1], reserve_ids(connection, "accounts", "account_id", new)]),
        len(old),
    )


def username(rider_id: int) -> str:
    """A unique name for every rider. The first is the one in the textbook's example."""
    if rider_id == 1:
        return "memelord"
    return f"{pick(FIRST, rider_id)}_{pick(SECOND, rider_id // 33)}_{rider_id}"


def pick(words: str, number: int) -> str:
    return words.split()[number % len(words.split())]


def driver_name(driver_id: int) -> str:
    return f"{pick(GIVEN, driver_id)} {pick(FAMILY, driver_id // 33)}"


def write_people(
    connection: Connection[TupleRow],
    city_id: int,
    riders: CityPeople,
    drivers: CityPeople,
    pickups: pl.Series,
    random: np.random.Generator,
) -> None:
    """Write the new riders and drivers, each with an empty account. Drivers wait in the zones of the
    pick-ups."""
    for people, kind in ((riders, "rider"), (drivers, "driver")):
        new = pl.DataFrame({"account_id": people.account_ids[people.old :]})
        copy_into(connection, "accounts", new.with_columns(kind=pl.lit(kind), balance_cents=pl.lit(0)))

    new_riders = riders.ids[riders.old :]
    names = pl.Series([username(number) for number in new_riders.tolist()], dtype=pl.String)
    frame = pl.DataFrame(
        {"rider_id": new_riders, "account_id": riders.account_ids[riders.old :], "username": names}
    )
    copy_into(connection, "riders", frame.with_columns(city_id=pl.lit(city_id)))

    new_drivers = drivers.ids[drivers.old :]
    names = pl.Series([driver_name(number) for number in new_drivers.tolist()], dtype=pl.String)
    stands = random.choice(pickups.to_numpy(), size=len(new_drivers))
    frame = pl.DataFrame(
        {"driver_id": new_drivers, "account_id": drivers.account_ids[drivers.old :], "name": names}
    )
    frame = frame.with_columns(zone_id=pl.Series(stands), city_id=pl.lit(city_id), status=pl.lit("available"))
    copy_into(connection, "drivers", frame)
