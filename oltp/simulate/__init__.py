"""The scripted insert workload: riders who ask at the same time, and what becomes of them.

demand.py    who asks, from where, for what: the same seed, the same requests
fates.py     what shall become of each: a ride, a cancellation, a client that hangs up
agenda.py    what is sent next, and when: as soon as somebody is free, or at the city's own pace
client.py    one client's behaviour, as a script of verbs
verbs.py     what a client can ask of the store
crew.py      who plays the scripts: a thread a client, or one event loop and the batching front
tally.py     what came of it, in bounded memory
request_ids.py   ids that carry a mark of the run, so that its decisions can be counted afterwards
run.py       all of them together; live.py shows it while it runs
"""

from oltp.simulate.demand import draw_requests, riders_by_city
from oltp.simulate.result import Simulated
from oltp.simulate.run import simulate

__all__ = ["Simulated", "draw_requests", "riders_by_city", "simulate"]
