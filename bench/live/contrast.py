"""The process in which clients compete for the same drivers under each strategy of `ridelake acid`. It counts
the anomalies after each round. It uses a scratch database on the embedded server, never the store."""

import threading
from contextlib import ExitStack
from typing import Any

import psycopg

from bench.live.worker import WorkerChannel, one_line
from oltp.acid.contrast import WORDS, StrategyResult, run_strategy
from oltp.acid.strategies import STRATEGIES, Anomaly, ContentionRules, Strategy
from oltp.scratch import scratch_on_server
from ridelake.errors import RidelakeError

ALL = "all"
RULES = ContentionRules()
NOT_RUN: dict[str, Any] = {
    "state": "idle", "strategy": None, "why": None, "round": 0, "rounds": RULES.rounds, "anomalies": {},
    "rides": 0, "done": [], "error": None,
}  # fmt: skip


class Stopped(Exception):
    """Ends a run between two rounds."""


def work(channel: WorkerChannel, server: str) -> None:
    """Wait for commands until the channel is stopped. `server`: a connection string of the server."""
    runner = ContrastRunner(channel, server)
    channel.listen(runner.obey, runner.stop)
    channel.report("contrast", NOT_RUN)
    runner.run()


class ContrastRunner:
    """The part `contrast` of the state. One run at a time; a new command replaces the run."""

    def __init__(self, channel: WorkerChannel, server: str) -> None:
        self._channel, self._server = channel, server
        self._wanted: tuple[Strategy, ...] = ()
        self._stop = threading.Event()
        self._changed = threading.Event()
        self._part = NOT_RUN

    def obey(self, name: str, arguments: dict[str, Any]) -> None:
        if name == "contrast":
            strategy = arguments.get("strategy")
            self._wanted = tuple(one for one in STRATEGIES if strategy in (ALL, one.name))
            self._stop.set()
            self._changed.set()

    def stop(self) -> None:
        self._stop.set()
        self._changed.set()

    def run(self) -> None:
        while not self._channel.stopped.is_set():
            self._changed.wait()
            self._changed.clear()
            self._stop.clear()
            strategies, self._wanted = self._wanted, ()
            if strategies and not self._channel.stopped.is_set():
                self._run(strategies)

    def _run(self, strategies: tuple[Strategy, ...]) -> None:
        error = None
        self._report(NOT_RUN | {"state": "running"})
        try:
            with ExitStack() as opened:
                scratch = opened.enter_context(scratch_on_server(self._server))
                for strategy in strategies:
                    self._report({"strategy": strategy.name, "why": strategy.why, "round": 0, "rides": 0})

                    def show(rounds: int, counts: dict[str, int]) -> None:
                        anomalies = {anomaly: counts[anomaly] for anomaly in Anomaly}
                        self._report(
                            {"round": rounds, "anomalies": _named(anomalies), "rides": counts["rides"]}
                        )
                        if self._stop.is_set():
                            raise Stopped

                    result = run_strategy(scratch, strategy, RULES, show=show)
                    self._report({"done": [*self._part["done"], _done(result)]})
        except Stopped:
            pass
        except (RidelakeError, psycopg.Error) as failure:
            error = one_line(failure)
        self._report({"state": "idle", "error": error})

    def _report(self, changes: dict[str, Any]) -> None:
        self._part = self._part | changes
        self._channel.report("contrast", self._part)


def _named(anomalies: dict[Anomaly, int]) -> dict[str, int]:
    """The counts by their names for people, in the singular."""
    return {WORDS[anomaly][0]: count for anomaly, count in anomalies.items()}


def _done(result: StrategyResult) -> dict[str, Any]:
    return {
        "strategy": result.strategy.name,
        "mark": result.mark,
        "verdict": result.verdict,
        "anomalies": _named(result.anomalies),
        "rides": result.rides,
    }
