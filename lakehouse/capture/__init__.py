"""From a Postgres snapshot to a published epoch.

`publish` reads the tables of a snapshot in full or by their changes, writes them with `writer` and
`apply`, and commits all tables in one transaction (`lakehouse.table.catalog`). `sync` repeats that.
`overlay` adds newer changes to an epoch for one query, `maintain` compacts and expires epochs.
"""
