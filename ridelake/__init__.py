"""ridelake: rides booked in Postgres, published as Parquet, queried by several engines.

    ride request ──> Postgres row ──> epoch ──> Parquet files ──> engines ──> answer ──> figure
       oltp/            oltp/       lakehouse/    lakehouse/     lakehouse/    olap/      bench/

This package holds what the four stages share (`ride`, `settings`, `errors`, `text`, `screen`) and the command
line (`__main__`). Start reading at `oltp/schema.sql`.
"""

__version__ = "0.1.0"
