"""oltp: the ride store in Postgres and its clients.

A row store keeps all columns of a ride together, so one ride is written, locked and read in one place:

    book_ride(...)  ──one round trip──>  ┌ accounts: hold the fare       ┐
                                         │ drivers:  claim a driver      │  in one transaction,
                                         │ rides:    write the ride      │  one driver per request
                                         └ requests: record the decision ┘

Read `schema.sql` first, then `booking.sql`. `store` opens the store, `booking` calls it, `cluster` runs a
server if none is configured.
"""
