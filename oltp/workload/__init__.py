"""The simulated workload: concurrent clients that book rides.

demand.py    draws the requests: rider, zones, distance, fare; the same seed gives the same requests
fates.py     draws the course of each request: completed, cancelled, sent twice, abandoned
agenda.py    the schedule: closed loop, or open loop with a given rate
client.py    the behavior of one client, as a generator of operations
verbs.py     the operations of a client
crew.py      runs the clients: one thread per client, or one event loop with batching
tally.py     the metrics, in bounded memory
request_ids.py   request ids that contain a mark of the run, so that its decisions can be counted afterwards
run.py       a whole run; live.py displays it
"""

from oltp.workload.metrics import SimulationResult
from oltp.workload.requests import draw_requests, riders_by_city
from oltp.workload.simulation import simulate

__all__ = ["SimulationResult", "draw_requests", "riders_by_city", "simulate"]
