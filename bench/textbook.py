"""The textbook claims, in the order of the report. They are from a university lecture on data systems."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

# A symbol and a CSS class for each verdict.
VERDICTS = {
    "holds": ("✓", "holds"),
    "holds in part": ("◐", "part"),
    "does not hold": ("✗", "not"),
    "too few rows": ("?", "part"),
}


def title_of(claim: Mapping[str, Any]) -> str:
    """The short title of a claim in a record; the whole text of an unknown one."""
    known = {int(one): one.title for one in ClaimId}
    return known.get(claim["number"]) or str(claim["text"])


def sign_of(verdict: str) -> tuple[str, str]:
    """The symbol and the CSS class of a verdict in a record."""
    return VERDICTS.get(verdict, ("?", "part"))


class ClaimId(IntEnum):
    """The number of a claim; `text` is the claim."""

    text: str

    def __new__(cls, number: int, text: str) -> "ClaimId":
        claim = int.__new__(cls, number)
        claim._value_ = number
        claim.text = text
        return claim

    ROW_AND_COLUMN = 1, "Row formats are faster to write, column formats are faster to read a few columns of."
    FOUR_OF_THOUSAND = 2, "To read 4 of 1,000 columns, a column format reads only these four."
    DATA_FRAMES = 3, "pandas is column-major: a row is much slower to read than a column. NumPy is row-major."
    TEXT_AND_BINARY = 4, "Text is larger than binary: 1000000 takes 7 bytes as text and 4 as an int32."
    FLOATS_AS_TEXT = 5, "Floating-point numbers lose precision in text formats."
    PARQUET = 6, "Parquet is up to 2× faster to unload and up to 6× smaller than text."
    SINGLE_INSERT = 7, "Transactional databases are made for single inserts with low latency."
    AVERAGE_PRICE = 8, "A column store is faster at the average price of a city and a month."
    NORMALISED = 9, "Normalised tables are updated in one place; queries pay with joins."
    DOCUMENT = 10, "Documents have better locality; joins and partial updates are harder."
    GRAPH = 11, "Relationships are easy to follow in a graph database and hard to follow in SQL."
    SCHEMA = 12, "A schema on write costs at the write; a schema on read costs at every read."
    ETL_AND_ELT = 13, "ELT answers the first query earlier than ETL; every query pays for the transformation."
    ATOMIC_ISOLATED = 14, "Without atomicity and isolation, drivers are booked twice and payments are lost."
    OUTDATED_TERMS = 15, "OLTP and OLAP are outdated terms: one system can serve both."
    DECOUPLED = 16, "Storage is separate from compute: several engines read the same files."

    @property
    def title(self) -> str:
        """The claim in a few words, for the README and its picture."""
        return TITLES[self]

    @property
    def rides_min(self) -> int:
        """The number of rides in the store below which this claim has no verdict."""
        return RIDES_MIN.get(self, 0)


# With fewer rides, both tables of a join fit in the cache and the join costs nothing; a small epoch takes
# almost no time to write and to read, and a query over few rows is fast on any store.
RIDES_MIN = {ClaimId.NORMALISED: 200_000, ClaimId.OUTDATED_TERMS: 200_000}

TITLES = {
    ClaimId.ROW_AND_COLUMN: "Column files: 4 of 16 columns",
    ClaimId.FOUR_OF_THOUSAND: "Column files: 4 of 1,000 columns",
    ClaimId.DATA_FRAMES: "pandas is column-major",
    ClaimId.TEXT_AND_BINARY: "Text is larger than binary",
    ClaimId.FLOATS_AS_TEXT: "Text changes floats",
    ClaimId.PARQUET: "Parquet is smaller than text",
    ClaimId.SINGLE_INSERT: "OLTP stores: single inserts",
    ClaimId.AVERAGE_PRICE: "Column stores: an average",
    ClaimId.NORMALISED: "Normalised tables: updates",
    ClaimId.DOCUMENT: "Documents: one whole record",
    ClaimId.GRAPH: "Graph databases: relationships",
    ClaimId.SCHEMA: "Schema on write: queries",
    ClaimId.ETL_AND_ELT: "ELT: the first answer",
    ClaimId.ATOMIC_ISOLATED: "Without ACID, data breaks",
    ClaimId.OUTDATED_TERMS: "One system for OLTP and OLAP",
    ClaimId.DECOUPLED: "Many engines, same files",
}
