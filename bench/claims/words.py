"""What the lecture says, in the order in which the report tells it."""

from enum import IntEnum


class Saying(IntEnum):
    """The number of a claim; `words` are the claim."""

    words: str

    def __new__(cls, number: int, words: str) -> "Saying":
        saying = int.__new__(cls, number)
        saying._value_ = number
        saying.words = words
        return saying

    ROW_AND_COLUMN = 1, "Row-major formats are faster to write, column-major ones to read a few columns of."
    FOUR_OF_THOUSAND = (
        2,
        "Of a thousand columns of which four are wanted, column-major formats read four.",
    )
    DATA_FRAMES = (
        3,
        "pandas is column-major: by row it is far slower than by column; NumPy is row-major.",
    )
    TEXT_AND_BINARY = (
        4,
        "Text is larger than binary: 1000000 takes 7 bytes as text and 4 as an int32.",
    )
    FLOATS_AS_TEXT = 5, "Text loses the precision of floating-point numbers."
    PARQUET = 6, "Parquet is up to 2 times faster to unload and takes up to 6 times less storage than text."
    SINGLE_INSERT = (
        7,
        "Single inserts of low latency are what a transactional database is made for.",
    )
    AVERAGE_PRICE = 8, "AVG(Price) of a city and a month is a question for a column store."
    NORMALISED = 9, "Normalised tables are changed in one place, and pay for it with joins."
    DOCUMENT = 10, "The document model has better locality; joins and parts of documents are harder."
    GRAPH = 11, "What follows relationships is easy in the graph model and hard in SQL."
    SCHEMA = 12, "Schema on write costs when written, schema on read at every reading."
    ETL_AND_ELT = (
        13,
        "ELT stores first and is ready sooner; every question pays for the transformation.",
    )
    ATOMIC_ISOLATED = 14, "Without atomicity and isolation a driver is booked twice and a payment is lost."
    OUTDATED_TERMS = 15, "OLTP and OLAP are outdated terms: one system can serve both."
    DECOUPLED = 16, "Storage is decoupled from processing: several engines read the same files."

    @property
    def rides_min(self) -> int:
        """In the store, below which this claim has no verdict."""
        return RIDES_MIN.get(self, 0)


# With fewer, both tables of a join fit in the cache and the join costs nothing; an epoch of few rows is
# written and read in no time, and a question over few rows needs no column store.
RIDES_MIN = {Saying.NORMALISED: 200_000, Saying.OUTDATED_TERMS: 200_000}
