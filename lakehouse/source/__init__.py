"""The Postgres side of the lake: tables and their tracking, one snapshot of them, and their rows or changes.

The triggers that record changes are in `oltp/tracking.sql`.
"""
