"""A read-only Iceberg REST catalog over the lake, in which a prefix is one epoch.

    GET   /v1/config?warehouse=NAME                          the prefix for NAME: newest, epoch-42, a time
    GET   /v1/epoch-42/namespaces                            the only one is `ridelake`
    GET   /v1/epoch-42/namespaces/ridelake/tables            the tables of the epoch
    GET   /v1/epoch-42/namespaces/ridelake/tables/rides      the metadata file, as it is stored
    HEAD  of a namespace or a table                          whether it exists
    POST  …/tables/rides/metrics                             accepted and ignored

A client asks for the prefix once, when it connects, and uses it from then on. So all tables that it reads are
of one epoch, also while newer epochs are published. Everything else is refused: a client that writes to a
table of the lake would make it differ from Postgres.

The server reads the catalog of the lake and metadata files. Clients read the data files themselves, with
their own credentials. No path of a URL is used as a path of a file.

https://iceberg.apache.org/rest-catalog-spec/

    app.py     the answers; which requests are refused
    leases.py  the epochs that clients use
"""
