"""What breaks without ACID, shown on the server at hand.

strategies.py   nine ways to book the same drivers, and what each of them lets through
rivals.py       the rivals: threads that are released together, round after round
small.py        eight of the ways, on four small tables (schema.sql and a file of statements each)
real.py         the ninth: the store itself
contrast.py     all of them in turn, counted in SQL

isolation.spec  fourteen interleavings, and what each isolation level makes of them
spec.py         reads that file
sessions.py     sessions that take one statement at a time; who waits is asked, not guessed
hermitage.py    plays the interleavings and compares

scratch.py      the database in which all of this happens, and which is dropped after it
"""
