"""The drill: kill the primary under load, and check that no acknowledged request is lost.

             clients                       host=a,b target_session_attrs=read-write
                │ insert workload
        ┌───────┴────────┐   WAL, flushed before a commit returns   ┌────────────────┐
        │ a: the primary │ ───────────────────────────────────────> │ b: the standby │
        └───────┬────────┘                                          └───────┬────────┘
      SIGKILL ──┘  fenced: its data folder is renamed          promoted ──┘
                   rejoins as the standby by pg_rewind         the next round kills this one

pair.py       a primary and its standby: failover, rejoin, degrade; the watchdog that starts the failover;
              `open_standby`, a hot standby of any server, for queries
clients.py    the insert workload, a log of what each client sent and received, and its comparison with
              the store
failover.py   the drill that kills the primary, the drill that kills the standby, and their results

The servers and their temporary folder are those of `oltp.cluster`.

Two servers on one machine can show the failure of a process, not of a machine, a disk or a network:
docs/availability.md.
"""
