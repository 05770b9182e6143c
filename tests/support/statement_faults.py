"""Fault injection: an error at the k-th row that a statement writes, or a long wait within a statement."""

from dataclasses import dataclass

from concurrency import TABLES
from factories import Town
from psycopg import Connection

# Counts the executions of row triggers in a session, and raises an error at the given number.
FAULT = """
    CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE v_step integer := current_setting('fault.step', true)::integer + 1;
    BEGIN
        IF v_step IS NOT NULL THEN
            PERFORM set_config('fault.step', v_step::text, false);
            IF v_step = current_setting('fault.at')::integer THEN
                RAISE EXCEPTION '% % %', TG_WHEN, TG_OP, TG_TABLE_NAME USING ERRCODE = 'XX001';
            END IF;
        END IF;
        RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
    END $$"""


@dataclass(frozen=True, slots=True)
class FaultInjector:
    """Row triggers on every table, before and after each write; inactive until `arm`."""

    connection: Connection

    @classmethod
    def install(cls, connection: Connection) -> "FaultInjector":
        connection.execute(FAULT.encode())
        for table in TABLES:
            for when in ("BEFORE", "AFTER"):
                connection.execute(
                    f"CREATE TRIGGER fault_{when} {when} INSERT OR UPDATE OR DELETE ON {table}"
                    " FOR EACH ROW EXECUTE FUNCTION fault()".encode()
                )
        return cls(connection)

    def arm(self, at: int) -> None:
        self.connection.execute(
            "SELECT set_config('fault.step', '0', false), set_config('fault.at', %s, false)", (str(at),)
        )

    def disarm(self) -> None:
        self.connection.execute("SELECT set_config('fault.step', NULL, false)")


def sleep_in(town: Town, table: str, seconds: float) -> None:
    """Make every later INSERT into the table wait within its statement."""
    with town.store.connect() as connection:
        connection.execute(
            f"CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS $$"
            f" BEGIN PERFORM pg_sleep({seconds}); RETURN NEW; END $$".encode()
        )
        connection.execute(
            f"CREATE TRIGGER sleep BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION sleep()".encode()
        )


def wake_up(town: Town) -> None:
    with town.store.connect() as connection:
        connection.execute("DROP FUNCTION sleep() CASCADE")


def sleepers(town: Town) -> list[int]:
    """The process ids of the sessions that wait in `sleep_in`."""
    found = town.ask(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    )
    return [pid for (pid,) in found]


def raise_at_commit(connection: Connection, table: str, sqlstate: str = "P0001") -> None:
    """Make transactions that write a row of the table fail at COMMIT."""
    connection.execute(
        f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$"
        f" BEGIN RAISE EXCEPTION 'too late' USING ERRCODE = '{sqlstate}'; END $$".encode()
    )
    connection.execute(
        f"CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE ON {table}"
        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()".encode()
    )
