"""Claims about engines: the lecture's question, and several engines over the same files."""

from functools import partial

from bench.claims.words import Saying
from bench.conftest import Ground
from bench.figure import Figure
from lakehouse.engines import open_engines
from lakehouse.epoch import Epoch
from olap.ask import answer_of
from olap.comparison import compare
from olap.question import find

ENGINES = ("postgres", "duckdb", "polars")


def bench_average_price(figure: Figure, ground: Ground, epoch: Epoch) -> None:
    figure.title = "How long does the average price of a city and a month take?"
    question = find("average_price")
    with open_engines(ENGINES, ground.settings, epoch) as engines:
        contest = figure.in_turns(
            {engine.name: partial(answer_of, engine, question) for engine in engines},
            lambda answers: compare(question, answers),
        )
    figure.rows = epoch.tables["rides"].rows
    figure.checked(f"the answers of {', '.join(ENGINES)} are equal")
    ratio = figure.ratio(contest.ratio("postgres", "duckdb"))
    holds = ratio.distinguishable and ratio.median > 1
    figure.state(
        Saying.AVERAGE_PRICE,
        "holds" if holds else "does not hold",
        f"{ratio.words()}, over {figure.rows:,} rides.",
    )
