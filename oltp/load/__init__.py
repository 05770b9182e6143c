"""oltp.load: real trip files become rows. The extract, transform and load of the journey.

    FILE ──> trip_file ──> tlc ───────> values ──> rules ──┬─> trips ──> oltp.history ──> Postgres
             Parquet or    which kind,  text and   is this │
             CSV, by its   which column numbers    a trip? └─> quarantine: the row as it came, and why
             first bytes   means what   typed

Every row that is read is either loaded or rejected for one named reason (`rules.Reason`).

Each file is read twice, a batch at a time. A refund and the trip it takes back, or two copies of one
trip, may stand a million rows apart, so whether a row counts is known only at the end of the file.
The first reading (`check_files`) keeps 22 bytes a row: its key, its sign, its month and what is wrong
with it alone. The second (`load_files`) streams what was found good into the store and the rest into
the quarantine. So memory hardly grows with the file, and no file is stored before all files of the call
have been read to their end.
"""

from oltp.load.checking import CheckedFile, check_files
from oltp.load.loading import FileReport, LoadReport, load_files
from oltp.load.rules import Reason

__all__ = ["CheckedFile", "FileReport", "LoadReport", "Reason", "check_files", "load_files"]
