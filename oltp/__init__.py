"""oltp: a request becomes a row.

A row-major store keeps all columns of one ride together, so that one ride is written, locked and
read in one place. That is what taking requests needs:

    book_ride(...)  ──one round trip──>  ┌ accounts: hold the fare   ┐
                                         │ drivers:  claim one       │  together or not at all,
                                         │ rides:    write the ride  │  one driver for one request
                                         └ requests: what was decided┘

Read `schema.sql` first, then `booking.sql`; `store` opens the store, `booking` calls it,
`embedded` runs a server where there is none.
"""
