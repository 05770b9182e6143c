"""The tables of a lake: epochs, files, Iceberg metadata, the catalog and its commit, in a folder or in S3."""
