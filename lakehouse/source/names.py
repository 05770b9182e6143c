"""The names of tables in the lake."""

from collections import Counter
from collections.abc import Mapping, Sequence

from lakehouse.table.epoch import split_identifier
from ridelake.errors import BadInput


class SameName(BadInput):
    """`tables`: the two tables, as SQL identifiers. The name is already used by the first one."""

    def __init__(self, first: str, second: str, name: str) -> None:
        self.tables, self.name = (first, second), name
        super().__init__(
            f"{first} and {second} would both be named {name} in the lake: "
            "publish one of them to another lake with --lake"
        )


def lake_names(tables: Sequence[str], known: Mapping[str, str]) -> dict[str, str]:
    """The names of tables, which are SQL identifiers, in the lake: the table's name, or with its schema if
    another table of the lake has it. A table keeps its name, which is in `known`; among new ones, only that
    of the ride store, or of the schema public, has no schema. Raises SameName, also for names that differ
    only in case, which engines ignore."""
    first = ("ridelake", "public")
    parts = {table: split_identifier(table) for table in tables}
    bare = Counter(name.lower() for schema, name in parts.values() if schema not in first)
    taken = {known[table].lower(): table for table in tables if table in known}
    named: dict[str, str] = {}
    for table in sorted(tables, key=lambda one: (parts[one][0] != "ridelake", parts[one][0] != "public")):
        schema, bare_name = parts[table]
        other = taken.get(bare_name.lower())
        if other is not None and parts[other][1] != bare_name:
            raise SameName(other, table, bare_name)
        name = known.get(table) or (
            f"{schema}.{bare_name}"
            if other is not None or (bare[bare_name.lower()] > 1 and schema not in first)
            else bare_name
        )
        if (other := taken.setdefault(name.lower(), table)) != table:
            raise SameName(other, table, name)
        named[table] = name
    return named


def without_same_names(
    tables: Sequence[str], known: Mapping[str, str], required: Sequence[str]
) -> tuple[list[str], dict[str, str]]:
    """The tables that can be in one lake, and why each other one is left out. Those that are `required` are
    not left out."""
    kept, left_out = list(tables), dict[str, str]()
    while True:
        try:
            lake_names(kept, known)
        except SameName as error:
            first, second = error.tables
            leaving = next((one for one in (second, first) if one not in required), None)
            if leaving is None:
                return kept, left_out  # reading the tables raises the error
            other = first if leaving == second else second
            left_out[leaving] = (
                f"it and {other} would both be named {error.name} in the lake, where names that differ only "
                "in case are the same: --exclude it"
            )
            kept.remove(leaving)
        else:
            return kept, left_out
