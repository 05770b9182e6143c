"""oltp.ingest.tlc: loads real trip files into the store (extract, transform, load).

    FILE ──> trip_file ──> layout ────> values ──> rules ──┬─> trips ──> oltp.ingest.history ──> Postgres
             Parquet or    which kind,  text and   is this │
             CSV, by its   which column numbers    a trip? └─> quarantine: the row as it came, and why
             first bytes   means what   typed

Every row that is read is either loaded or rejected for one named reason (`rules.RejectReason`).

Each file is read twice, in batches. A refund and its trip, or two copies of a trip, may be a million rows
apart, so a row can be judged only after the whole file was read. The first pass (`check_files`) keeps 22
bytes per row: its key, its sign, its month and the reasons that depend on the row alone. The second pass
(`load_files`) writes accepted rows into the store and the others into the quarantine. Memory hardly grows
with the size of the file, and nothing is stored before all files of the call were read to their end.
"""

from oltp.ingest.tlc.load import CheckedFile, FileReport, LoadReport, check_files, load_files
from oltp.ingest.tlc.rules import RejectReason

__all__ = ["CheckedFile", "FileReport", "LoadReport", "RejectReason", "check_files", "load_files"]
