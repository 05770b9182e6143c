"""The drill: kill the primary in the middle of the load, and see that nothing acknowledged is lost.

             clients                       host=a,b target_session_attrs=read-write
                │ insert workload
        ┌───────┴────────┐   log, flushed before a commit answers   ┌────────────────┐
        │ a: the primary │ ───────────────────────────────────────> │ b: the standby │
        └───────┬────────┘                                          └───────┬────────┘
      SIGKILL ──┘  fenced: its data folder is renamed          promoted ──┘
                   rejoins as the standby by pg_rewind         the next round kills this one

node.py       one server: made, copied, started, killed, fenced, rewound
folder.py     where they are, and that nothing stays of them
pair.py       two of them, and which of them leads
standby.py    a standby of somebody else's primary, for questions
watch.py      who notices that the primary is gone, and what is done then
clients.py    the insert workload, and what each client was told
findings.py   what was told against what is there
rounds.py     a drill from its first server to its last audit; standby_dies.py: the other half of the question
result.py     for programs, and in a few lines for people
keeper.py     ends the servers and takes the folder away if the drill itself is killed

Two servers on one machine show that a process may die. They cannot show what a machine, a disk or a network
does: docs/availability.md.
"""
