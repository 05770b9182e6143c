"""The drill: kill the primary under load, and check that no acknowledged request is lost.

             clients                       host=a,b target_session_attrs=read-write
                │ insert workload
        ┌───────┴────────┐   log, flushed before a commit answers   ┌────────────────┐
        │ a: the primary │ ───────────────────────────────────────> │ b: the standby │
        └───────┬────────┘                                          └───────┬────────┘
      SIGKILL ──┘  fenced: its data folder is renamed          promoted ──┘
                   rejoins as the standby by pg_rewind         the next round kills this one

node.py       one server: create, copy, start, kill, fence, rewind
folder.py     the temporary folder of the servers, and its cleanup
pair.py       a primary and its standby: failover, rejoin, degrade
standby.py    a hot standby of any server, for queries
watch.py      the failure detector: probes the primary and starts the failover
clients.py    the insert workload, and a log of what each client sent and received
findings.py   compares the clients' log with the store
rounds.py     the drill that kills the primary; standby_dies.py: the drill that kills the standby
result.py     the result, as JSON and as text
reaper.py     removes servers and folder if the drill itself is killed

Two servers on one machine can show the failure of a process, not of a machine, a disk or a network:
docs/availability.md.
"""
