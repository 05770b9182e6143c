# /// script
# dependencies = ["dlt[filesystem]==1.31.0", "SQLAlchemy==2.1.9", "psycopg[binary]==3.3.9", "pyarrow==26.0.1"]
# ///
"""dlt: the source `sql_database` with the backend pyarrow, the destination `filesystem` with Parquet files.

A copy has the write disposition `replace`. A poll is `incremental("updated_now")` with `append`; dlt keeps
the cursor in the folder of the pipeline. The telemetry is off.
"""

import json
import os
import sys
from pathlib import Path

import dlt
from dlt.destinations import filesystem
from dlt.sources.sql_database import sql_database

if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    folder = Path(job["folder"])
    settings = folder / ".dlt/config.toml"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text("[runtime]\ndlthub_telemetry = false\n")
    os.chdir(folder)
    pipeline = dlt.pipeline(
        "mover",
        pipelines_dir=str(folder / "pipeline"),
        destination=filesystem(bucket_url=folder.as_uri()),
        dataset_name="data",
    )
    schema = job["tables"][0].split(".")[0]
    source = sql_database(
        job["url"].replace("postgresql://", "postgresql+psycopg://"),
        schema=schema,
        table_names=[table.split(".")[1] for table in job["tables"]],
        backend="pyarrow",
    )
    if job["poll"]:
        for resource in source.resources.values():
            resource.apply_hints(incremental=dlt.sources.incremental("updated_now", primary_key="id"))
    disposition = "append" if job["poll"] else "replace"
    pipeline.run(source, write_disposition=disposition, loader_file_format="parquet")
