"""The simulated workload: concurrent clients that book rides.

requests.py    draws the requests: rider, zones, distance, fare, id; the same seed gives the same requests
schedule.py    draws the scenario of each request: completed, cancelled, sent twice, abandoned; and when it
               is due: closed loop, or open loop with a given rate
client.py      the behavior of one client, as a generator of operations
runner.py      runs clients: one thread each, or one event loop with batching
metrics.py     the metrics, in bounded memory
simulation.py  a whole run; dashboard.py displays it
"""

from oltp.workload.metrics import SimulationResult
from oltp.workload.requests import draw_requests, riders_by_city
from oltp.workload.simulation import simulate

__all__ = ["SimulationResult", "draw_requests", "riders_by_city", "simulate"]
