"""Concurrent bookings and queries: the query rate that is possible at each booking rate.

    queries/s
      │ ·────────────┐  bounding box: neither slows the other (isolation)
      │  ╲ ╲         │
      │    ╲   ·     │
      │      ·   ╲   │  proportional line: one shared resource
      │        ╲   ╲ │
      └──────────────·──  bookings/s

Each point is a number of booking clients and a number of querying clients, all in closed loops. The frontier
is the upper right edge of the points. The area below it, as a share of its bounding box, is 1 for isolation,
½ for proportional sharing, and less if the two interfere. Isolation costs freshness: the age of the oldest
change that a query did not see.

    clients.py           processes that book or query within given times, and end with their parent
    client_functions.py  the clients of each set-up, the check of each answer, and freshness
    setups.py            Postgres alone, with epochs, with a hot standby; DuckDB alone; each with its checks
    duckdb_rows.py       DuckDB as a row store: the same booking as a DuckDB transaction
    grid.py              measures a set-up at all points, in shuffled order; frontier, area and verdict

The method is that of HATtrick (Milkai et al., How Good is My HTAP System?, SIGMOD 2022), with rides instead
of orders.
"""
