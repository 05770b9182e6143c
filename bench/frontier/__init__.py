"""Bookings and questions at once: how much of the one is left while there is more of the other.

    questions/s
      │ ·────────────┐  bounding box: neither notices the other (isolation)
      │  ╲ ╲         │
      │    ╲   ·     │
      │      ·   ╲   │  proportional line: what the one gains the other loses (one resource, shared)
      │        ╲   ╲ │
      └──────────────·──  bookings/s

Each point is a number of booking clients beside a number of asking clients, all in closed loops. The frontier
is the upper right edge of the points; the area beneath it, as a share of its box, is 1 for isolation, ½ for
proportional sharing, and less where the two hinder each other. What isolation costs is freshness: how old the
oldest change is that a question should have seen and did not.

    clients.py     processes that book or ask, in windows of one clock; they end when their parent does
    asking.py      the questions in turn, each answer checked
    setups.py      Postgres alone, with epochs, with a hot standby; DuckDB alone: made ready, proved
    posts.py       what the processes of a set-up are for
    duckdb_rows.py DuckDB as a row store: the same booking, by its own transactions
    grid.py        a set-up at all points, in shuffled order
    envelope.py    frontier and area
    age.py         freshness
    verdict.py     what all that says about one system for both

The method is HATtrick's (Milkai et al., How Good is My HTAP System?, SIGMOD 2022), with rides for its orders.
"""
