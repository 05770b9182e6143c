"""The commands of each tool, one script a tool.

A script runs in the environment of its tool and imports nothing of this project. The comment at its top
names the packages (PEP 723). Its argument is a JSON object, see `bench.movers.mover.Job`. It writes the rows
of each table to `.parquet` files in a folder that has the name of the table. It exits with another code than
0 if a table fails.
"""
