"""The anomalies that each isolation level of this server allows: the cases of Hermitage, and three more."""

from collections.abc import Iterator

import pytest
from psycopg import IsolationLevel

from oltp.acid.isolation import (
    LEVELS,
    IsolationCase,
    IsolationResult,
    IsolationRunner,
    hermitage_cases,
    level_name,
    open_isolation_runner,
    read_cases,
    run_all,
)
from oltp.cluster.server import Cluster
from oltp.scratch import ScratchDatabase, scratch_on_server

CASES = hermitage_cases()


@pytest.fixture(scope="module")
def scratch(cluster: Cluster) -> Iterator[ScratchDatabase]:
    with scratch_on_server(cluster.conninfo("postgres")) as scratch:
        yield scratch


@pytest.fixture(scope="module")
def runner(scratch: ScratchDatabase) -> Iterator[IsolationRunner]:
    with open_isolation_runner(scratch.small) as runner:
        yield runner


@pytest.mark.parametrize("level", LEVELS, ids=level_name)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_level_behaves_as_specified(runner: IsolationRunner, case: IsolationCase, level: IsolationLevel):
    assert runner.play(case, level).differences == ()


def test_there_are_fourteen_cases_with_a_verdict_for_each_level():
    assert len(CASES) == 14
    assert all(len(case.verdict) == len(LEVELS) for case in CASES)
    assert all(case.description for case in CASES)
    assert [case.name for case in CASES if case.verdict[2] == "anomaly"] == []  # SERIALIZABLE allows none


def test_an_unexpected_result_of_a_level_is_reported(runner: IsolationRunner):
    lost_update = next(case for case in CASES if case.name == "P4")
    played = runner.play(lost_update, IsolationLevel.READ_COMMITTED)
    wrongly_at = IsolationResult(lost_update, IsolationLevel.SERIALIZABLE, played.seen)
    assert wrongly_at.verdict == "differs"
    assert "expected waits, 40001" in wrongly_at.differences[0]


def test_a_waiting_session_is_distinguished_from_a_slow_one(runner: IsolationRunner):
    (case,) = read_cases("""
case slow: a statement that takes its time
    T1: SELECT id, pg_sleep(0.1) IS NULL FROM test WHERE id = 1 | 1=>False
    T2: UPDATE test SET value = 11 WHERE id = 1                 | UPDATE 1
    T1: COMMIT
    T2: COMMIT
    verdict                                                     | prevented""")
    assert runner.play(case, IsolationLevel.READ_COMMITTED).differences == ()


def test_progress_counts_the_runs(scratch: ScratchDatabase):
    over: list[int] = []
    played = run_all(scratch.small, CASES[:2], over.append)
    assert over == [1, 2, 3, 4, 5, 6]
    assert all(one.as_expected for one in played)


ON_CONFLICT = {
    "it is there": ("DO NOTHING", "DELETE FROM test WHERE id = 1"),
    "it is there, and stays as it is": (
        "DO UPDATE SET value = 0 WHERE false",
        "DELETE FROM test WHERE id = 1",
    ),
    "its value is small": (
        "DO UPDATE SET value = 0 WHERE test.value > 100",
        "UPDATE test SET value = 200 WHERE id = 1",
    ),
}


def decided_by(look: str, write: str) -> IsolationCase:
    """T1 reads row 1 with `look` and writes row 2. T2 reads row 2 and changes row 1 with `write`."""
    (case,) = read_cases(f"""
case 15: a decision by what is there
    T1: {look}
    T2: SELECT id, value FROM test WHERE id = 2     | 2=>20
    T1: UPDATE test SET value = 21 WHERE id = 2
    T2: {write}
    T1: COMMIT
    T2: COMMIT                                      | 40001
    verdict                                         | 40001""")
    return case


@pytest.mark.parametrize(("action", "write"), ON_CONFLICT.values(), ids=ON_CONFLICT)
@pytest.mark.xfail(
    strict=False, reason="up to version 18 at least, ON CONFLICT does not count as a read at SERIALIZABLE"
)
def test_serializable_protects_a_decision_by_on_conflict(runner: IsolationRunner, action: str, write: str):
    """Expected to fail on some versions. ON CONFLICT with SERIALIZABLE is not enough: use a lock or a
    constraint."""
    look = f"INSERT INTO test (id, value) VALUES (1, 0) ON CONFLICT (id) {action}"
    assert runner.play(decided_by(look, write), IsolationLevel.SERIALIZABLE).differences == ()


@pytest.mark.parametrize("write", sorted({write for _, write in ON_CONFLICT.values()}))
def test_serializable_protects_a_decision_by_select(runner: IsolationRunner, write: str):
    case = decided_by("SELECT id, value FROM test WHERE id = 1", write)
    assert runner.play(case, IsolationLevel.SERIALIZABLE).differences == ()


def test_two_upserts_that_missed_each_others_row_do_not_both_commit(runner: IsolationRunner):
    (case,) = read_cases("""
case 16: each finds no row of the other's
    T1: SELECT id, value FROM test WHERE id = 3     | nothing
    T2: SELECT id, value FROM test WHERE id = 4     | nothing
    T1: INSERT INTO test (id, value) VALUES (4, 1) ON CONFLICT (id) DO UPDATE SET value = 1
    T2: INSERT INTO test (id, value) VALUES (3, 1) ON CONFLICT (id) DO UPDATE SET value = 1
    T1: COMMIT
    T2: COMMIT                                      | 40001
    end: SELECT id, value FROM test WHERE id > 2    | 4=>1
    verdict                                         | 40001""")
    assert runner.play(case, IsolationLevel.SERIALIZABLE).differences == ()


@pytest.mark.parametrize("level", LEVELS, ids=level_name)
def test_skip_locked_gives_each_session_a_row_without_a_wait(runner: IsolationRunner, level: IsolationLevel):
    (case,) = read_cases("""
case 17: three who want one of two rows
    T1: SELECT id, value FROM test ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED | 1=>10
    T2: SELECT id, value FROM test ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED | 2=>20
    T3: SELECT id, value FROM test ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED | nothing
    T1: COMMIT
    T2: COMMIT
    T3: COMMIT
    verdict                                                                   | prevented""")
    assert runner.play(case, level).differences == ()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("    T1: COMMIT | a | b\n    verdict | prevented", "one expectation for all levels or one for each"),
        (
            "    T1: UPDATE test SET value = 0\n    T2: UPDATE test SET value = 1 | waits\n    T2: COMMIT",
            "waits",
        ),
    ],
)
def test_an_invalid_case_raises(runner: IsolationRunner, line: str, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        (case,) = read_cases(f"case odd: odd\n{line}\n    verdict | prevented")
        runner.play(case, IsolationLevel.READ_COMMITTED)
