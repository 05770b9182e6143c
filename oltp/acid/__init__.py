"""Anomalies without ACID, measured on the configured server.

strategies.py   nine strategies to book the same drivers: eight on four small tables (schema.sql,
                strategies.sql), and the store itself; and the anomalies that each allows
contrast.py     runs clients that contend under each strategy, and counts anomalies in SQL

isolation.spec  fourteen interleavings, with the expected result at each isolation level
isolation.py    runs the interleavings and compares
"""
