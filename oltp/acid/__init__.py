"""Anomalies without ACID, measured on the configured server.

strategies.py   nine strategies to book the same drivers, and the anomalies that each allows
rivals.py       the contending clients: threads that start each round together
small.py        eight of the strategies, on four small tables (schema.sql and one file of statements each)
real.py         the ninth: the store itself
contrast.py     runs all strategies in turn and counts anomalies in SQL

isolation.spec  fourteen interleavings, with the expected result at each isolation level
spec.py         parses that file
sessions.py     sessions that execute one statement at a time, and detect waits by asking Postgres
hermitage.py    runs the interleavings and compares

scratch.py      the scratch database, dropped at the end
"""
