"""The average price of a city and a month on each engine. The answers are compared before the timing."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.env import BenchEnv
from lakehouse.engines import ENGINE_NAMES, open_engine
from lakehouse.table.epoch import Epoch
from olap.answer import checksum, difference
from olap.ask import answer_of
from olap.question import find_question

pytestmark = pytest.mark.scale("full")

QUESTION = "average_price"


@pytest.mark.parametrize("name", ENGINE_NAMES)
def bench_question_by_engine(benchmark: BenchmarkFixture, env: BenchEnv, epoch: Epoch, name: str) -> None:
    benchmark.group = QUESTION
    question = find_question(QUESTION)
    with open_engine("postgres", env.settings, epoch) as rows:
        reference = answer_of(rows, question)
    with open_engine(name, env.settings, epoch) as engine:
        answer = answer_of(engine, question)
        assert difference(reference, answer, ordered=question.ordered, names=("postgres", name)) is None
        benchmark.pedantic(answer_of, (engine, question), rounds=20, warmup_rounds=2)
        benchmark.extra_info |= {
            "engine": f"{name} {engine.version()}",
            "rides": epoch.tables["rides"].rows,
            "answer": checksum(answer, ordered=question.ordered),
        }
