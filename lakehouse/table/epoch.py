"""The data classes of an epoch: a published, immutable, numbered state of the whole lake.

`published.py` reads epochs, `catalog.py` publishes them, `epoch_json.py` has their form in the catalog.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from ridelake.errors import UsageError, did_you_mean

# A part of a qualified name, as quote_ident() writes it.
IDENTIFIER = re.compile(r'"((?:[^"]|"")+)"|([^".]+)')

Kind = Literal["full", "changes", "maintenance"]

# What the lake has instead of a value without an exact form, such as an infinite date: NULL, or nothing,
# because its table is left out.
Infinity = Literal["null", "refuse"]

# The precision and scale of a numeric that is declared without them, or Postgres' text.
Numeric = tuple[int, int] | Literal["text"]

DECIMAL_DIGITS_MAX = 38  # the limit of decimal128 and of Iceberg

# Arrays and composites: lists and structs, or Postgres' text.
Nested = Literal["typed", "text"]


@dataclass(frozen=True, slots=True)
class ValueForms:
    """The forms that a user has chosen for values with several possible forms, for the whole lake."""

    infinity: Infinity = "refuse"
    numeric: Numeric = "text"
    nested: Nested = "text"

    def chosen(self) -> dict[str, Any]:
        """Those that are not the default."""
        default = asdict(ValueForms())
        return {name: value for name, value in asdict(self).items() if value != default[name]}

    def changed(self, **given: Any) -> "ValueForms":
        """With the given forms; None: unchanged. Raises UsageError for a form that does not exist."""
        forms = replace(self, **{name: value for name, value in given.items() if value is not None})
        for name, choices in (("infinity", get_args(Infinity)), ("nested", get_args(Nested))):
            if (value := getattr(forms, name)) not in choices:
                raise UsageError(f"{name} must be {' or '.join(choices)}, not {value!r}")
        match forms.numeric:
            case "text":
                return forms
            case (int(precision), int(scale)) if 0 <= scale <= precision <= DECIMAL_DIGITS_MAX and precision:
                return replace(forms, numeric=(precision, scale))
        raise UsageError(
            f"numeric must be text, or a precision of 1 to {DECIMAL_DIGITS_MAX} and a scale of 0 to the "
            "precision, such as 38,9"
        )


DEFAULT_FORMS = ValueForms()


@dataclass(frozen=True, slots=True)
class SnapshotToken:
    """The state of Postgres that an epoch equals. `snapshot`: pg_current_snapshot(), the visible
    transactions. `taken_at`: the server's clock, ISO 8601. `lsn`: the WAL insert position. The other fields
    identify the server; None if the role may not read them."""

    snapshot: str
    taken_at: str
    lsn: str
    system_identifier: str | None
    timeline: int | None
    database: int | None = None  # its oid; older epochs do not have it

    @property
    def xmax(self) -> int:
        """The first transaction that had not started."""
        return int(self.snapshot.split(":")[1])

    @property
    def xip(self) -> tuple[int, ...]:
        """Transactions below `xmax` that were in progress."""
        return tuple(int(number) for number in self.snapshot.split(":")[2].split(",") if number)

    @property
    def xmin(self) -> int:
        """All transactions below this one had ended."""
        return int(self.snapshot.split(":")[0])

    def has_seen(self, tx: int) -> bool:
        return tx < self.xmax and tx not in self.xip


@dataclass(frozen=True, slots=True)
class Selection:
    """The tables that a lake follows, including tables that are created later. `schemas`: all tables of these
    schemas. `exclude`: patterns of tables to exclude, with the wildcards * and ?; a pattern matches the name,
    or SCHEMA.NAME if it has a dot. `tables`: in addition, the tables with these qualified names. `without`:
    columns of tables that have left the lake, which stay excluded if the tables join again."""

    all_tables: bool = False
    schemas: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises UsageError for a string, whose letters would be taken for names."""
        given: tuple[object, ...] = (self.schemas, self.exclude)
        if strings := [one for one in given if isinstance(one, str)]:
            raise UsageError(f"expected a tuple of names, not {strings[0]!r}: pass ({strings[0]!r},)")

    def has(self, schema: str, name: str) -> bool:
        """Whether the table is selected by its schema."""
        excluded = any(
            fnmatchcase(f"{schema}.{name}" if "." in pattern else name, pattern) for pattern in self.exclude
        )
        return (self.all_tables or schema in self.schemas) and not excluded


@dataclass(frozen=True, slots=True)
class DataFile:
    """A finished Parquet file. `location`: an absolute path, or s3://…. `rows`: the rows stored in it.
    `deleted`: how many of them the table's delete files mark as deleted. `sealed`: its rows are not expected
    to change soon. A table has at most one file that is not sealed; the next epoch rewrites it."""

    location: str
    rows: int
    bytes: int
    sha256: str
    sealed: bool = True
    deleted: int = 0

    @property
    def name(self) -> str:
        return self.location.rsplit("/", 1)[1]


@dataclass(frozen=True, slots=True)
class DeleteFile:
    """A Parquet file with positions of deleted rows in data files (Iceberg position deletes). `rows`: the
    number of positions."""

    location: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class TableState:
    """One table of an epoch: the files with its rows, and the Iceberg metadata that lists the same files.

    `source`: its schema-qualified name in Postgres. `relation`: its oid. `shape`: a hash of its columns and
    their types. `changed`, `deleted`: rows and keys since the previous epoch. `without`: columns that are
    excluded from the lake. `deletes`: the positions of rows in `files` that are not rows of the table.
    `key`: the columns of its primary key. `forms`: the chosen forms of its values. `partitions`: the states
    of its leaf partitions. `store`: the name of its store; empty in a lake of one store."""

    source: str
    relation: int
    shape: str
    files: tuple[DataFile, ...]
    snapshot_id: int
    metadata: str
    changed: int = 0
    deleted: int = 0
    without: tuple[str, ...] = ()
    deletes: tuple[DeleteFile, ...] = ()
    key: tuple[str, ...] = ()
    forms: ValueForms = DEFAULT_FORMS
    partitions: tuple[str, ...] = ()
    store: str = ""

    @property
    def identifier(self) -> tuple[str, str]:
        """Its schema and name in Postgres, without quotes."""
        return split_identifier(self.source)

    @property
    def rows(self) -> int:
        return sum(file.rows - file.deleted for file in self.files)

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files) + sum(file.bytes for file in self.deletes)

    @property
    def locations(self) -> list[str]:
        """The locations of its data files."""
        return [file.location for file in self.files]


@dataclass(frozen=True, slots=True)
class SkippedTable:
    """A table that could not be copied to the epoch, and the reason. The next sync retries it. `relation`:
    its oid; 0 if unknown. `store`: as in TableState."""

    source: str
    reason: str
    without: tuple[str, ...] = ()
    forms: ValueForms = DEFAULT_FORMS
    relation: int = 0
    store: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class Epoch:
    """An epoch: its tokens, tables and files. `tokens`: by the name of the store, which is empty in a lake
    of one store. `verified`: it was compared with Postgres at its token and is equal; None: it was not
    compared. `left_out`: tables of the lake that are not in this epoch. `moved`: with several stores, the one
    that published it; the others have the tables of the previous epoch. `kind`, `seconds` and `verified`
    concern the tables of that store."""

    number: int
    kind: Kind
    published_at: datetime
    tokens: Mapping[str, SnapshotToken]
    tables: Mapping[str, TableState]
    seconds: float
    verified: bool | None = None
    left_out: Mapping[str, SkippedTable] = field(default_factory=dict)
    moved: str = ""

    def __repr__(self) -> str:
        left_out = f", without {', '.join(sorted(self.left_out))}" if self.left_out else ""
        return (
            f"<Epoch {self.number} as of {self.taken_at}: {self.rows:,} rows in {len(self.tables)} "
            f"tables, {self.bytes / 1e6:,.1f} MB{left_out}>"
        )

    @property
    def stores(self) -> list[str]:
        """The names of its stores (`--source`); empty for a lake of one store without a name."""
        return sorted(name for name in self.tokens if name)

    @property
    def token(self) -> SnapshotToken:
        """The token of the only store. Raises UsageError if the lake has stores with names."""
        if self.stores:
            raise UsageError(
                f"epoch {self.number} has the stores {', '.join(self.stores)}: choose one with --source"
            )
        return self.tokens[""]

    @property
    def taken_at(self) -> str:
        """When its newest snapshot was taken."""
        return max(token.taken_at for token in self.tokens.values())

    def of(self, store: str) -> "Epoch":
        """The tables of one store, by the names that they have in a lake of that store alone. Raises
        UsageError for a store that it does not have."""
        if store not in self.stores:
            has = f"its stores are {', '.join(self.stores)}" if self.stores else "its lake has one store"
            if not store:
                raise UsageError(f"epoch {self.number} has several stores: choose one with --source")
            raise UsageError(f"epoch {self.number} has no store {store}: {has}")
        prefix = f"{store}_"
        return replace(
            self,
            tokens={"": self.tokens[store]},
            tables={
                name.removeprefix(prefix): replace(table, store="")
                for name, table in self.tables.items()
                if table.store == store
            },
            left_out={
                name.removeprefix(prefix): replace(table, store="")
                for name, table in self.left_out.items()
                if table.store == store
            },
            verified=self.verified if self.moved == store else None,
            moved="",
        )

    @property
    def sources(self) -> list[str]:
        """The lake's tables as SQL identifiers, including the tables left out of this epoch."""
        left_out = [table.source for table in self.left_out.values()]
        return [table.source for table in self.tables.values()] + left_out

    @property
    def names(self) -> dict[str, str]:
        """The names of the tables in the lake, by their qualified names in Postgres."""
        return {table.source: name for name, table in self.all_tables.items()}

    @property
    def all_tables(self) -> "dict[str, TableState | SkippedTable]":
        """The tables, including the tables left out of this epoch."""
        return {**self.tables, **self.left_out}

    @property
    def without(self) -> list[str]:
        """The columns that are excluded from the lake, as TABLE.COLUMN."""
        tables: list[TableState | SkippedTable] = [*self.tables.values(), *self.left_out.values()]
        return [f"{table.source}.{quote_identifier(name)}" for table in tables for name in table.without]

    @property
    def forms(self) -> ValueForms:
        """The chosen forms of values. They are the same for all tables."""
        tables: list[TableState | SkippedTable] = [*self.tables.values(), *self.left_out.values()]
        return next((table.forms for table in tables if table.forms != DEFAULT_FORMS), DEFAULT_FORMS)

    def find_table(self, name: str) -> str:
        """The name in the lake of a table that is named as there, or as in Postgres. Raises UsageError."""
        for known, table in self.tables.items():
            if name in (known, table.source):
                return known
        meant = did_you_mean(name, self.tables)
        raise UsageError(
            f"epoch {self.number} has no table {name}: {meant}it has {', '.join(sorted(self.tables))}"
        )

    def missing(self) -> list[str]:
        """A sentence for each table that is left out."""
        return [
            f"{f'{table.store}: ' if table.store else ''}{table.source} is not in epoch {self.number}: "
            f"{table.reason}"
            for table in self.left_out.values()
        ]

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables.values())

    @property
    def bytes(self) -> int:
        return sum(table.bytes for table in self.tables.values())

    @property
    def files(self) -> tuple[DataFile, ...]:
        return tuple(file for table in self.tables.values() for file in table.files)

    @property
    def stored_files(self) -> tuple[DataFile | DeleteFile, ...]:
        """The data files and the delete files."""
        return (*self.files, *(file for table in self.tables.values() for file in table.deletes))

    @property
    def changed(self) -> int:
        return sum(table.changed for table in self.tables.values())

    @property
    def deleted(self) -> int:
        return sum(table.deleted for table in self.tables.values())

    def report(self) -> dict[str, Any]:
        """The document of `--json` and of the manifest."""
        return {
            "epoch": self.number,
            "kind": self.kind,
            "published_at": self.published_at.isoformat(),
            "rows": self.rows,
            "files": len(self.files),
            "bytes": self.bytes,
            "rows_changed": self.changed,
            "rows_deleted": self.deleted,
            "seconds": round(self.seconds, 3),
            "verified": self.verified,
            **tokens_to_json(self),
            "tables": {
                name: {"rows": table.rows, "bytes": table.bytes} | _reported(table)
                for name, table in self.tables.items()
            },
            "left_out": {name: _reported(table) for name, table in self.left_out.items()},
        }


def _reported(table: TableState | SkippedTable) -> dict[str, Any]:
    report = asdict(table)
    return report if table.store else {name: report[name] for name in report if name != "store"}


def tokens_to_json(epoch: Epoch) -> dict[str, Any]:
    """Its tokens in a report and in the manifest."""
    if not epoch.stores:
        return {"token": asdict(epoch.token)}
    return {"source": epoch.moved, "tokens": {name: asdict(token) for name, token in epoch.tokens.items()}}


def quote_identifier(name: str) -> str:
    """A name as a SQL identifier, quoted if necessary."""
    return name if re.fullmatch("[a-z_][a-z0-9_]*", name) else '"{}"'.format(name.replace('"', '""'))


def split_identifier(qualified: str) -> tuple[str, str]:
    """The schema and the name, without quotes, of SCHEMA.NAME as quote_ident() writes it."""
    parts = [quoted.replace('""', '"') or plain for quoted, plain in IDENTIFIER.findall(qualified)]
    return (parts[0], parts[1]) if len(parts) == 2 else ("", qualified)
