"""A lake of several stores: one Postgres for each city, for example.

Each store publishes on its own. A new epoch has its tables and its token; the other stores keep theirs from
the previous epoch. In the lake a table of the store `berlin` is named `berlin_rides`. `Epoch.of` is the
reverse: an epoch as if the lake had only that store, with ordinary names. Publishers work on that.

    berlin  ──> token B1 ───────────────── token B2 ─────────────────────>
    paris   ───────────────── token P1 ───────────────── token P2 ──────>
    epoch          1: B1       2: B1 P1      3: B2 P1      4: B2 P2

The tables of two stores are disjoint, so two publishers do not conflict: if another store has published in
between, the commit is repeated on the newest epoch.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import permutations

from lakehouse.table.epoch import Epoch, SnapshotToken
from ridelake.errors import UsageError

STORE_NAME = re.compile("[a-z][a-z0-9_]{0,31}")

# Other texts are not shown: a DSN without a name can have a password.
SHOWN_NAME = re.compile(r"[\w-]{1,64}")


def check_store_names(names: Collection[str]) -> None:
    """Check the names of the stores of one lake. Raises UsageError for a name that is not STORE_NAME, or that
    begins with another one and `_`: the tables of both could have the same name in the lake."""
    for name in names:
        if not STORE_NAME.fullmatch(name):
            shown = name if SHOWN_NAME.fullmatch(name) else "the text before ="
            raise UsageError(
                f"{shown} cannot be the name of a store: use at most 32 characters of a-z, 0-9 and _, the "
                "first one a letter"
            )
    for name, other in permutations(names, 2):
        if other == name:
            raise UsageError(f"the store {name} is given twice: a name is for one database")
        if other.startswith(f"{name}_"):
            raise UsageError(
                f"the stores {name} and {other} could have tables of the same name in the lake, because "
                f"{other} begins with {name}_: rename one"
            )


def check_has_no_dsn(source: str) -> None:
    """Check that the name of a store is given alone, where only its name is expected. Raises UsageError; its
    message does not have the text, because a DSN can have a password."""
    if not SHOWN_NAME.fullmatch(source):
        raise UsageError("--source must be the name of a store here, without its DSN: write --source NAME")


def check_one_name_per_store(tokens: Mapping[str, SnapshotToken], store: str, token: SnapshotToken) -> None:
    """Check that no other store of the lake is the same database. Raises UsageError."""
    for name, other in tokens.items():
        same = (other.system_identifier, other.database) == (token.system_identifier, token.database)
        if name != store and same and token.system_identifier is not None:
            raise UsageError(
                f"the stores {name} and {store} are the same database (system identifier "
                f"{token.system_identifier}, oid {token.database}): use one name for it"
            )


def check_kind_of_lake(epoch: Epoch, store: str) -> None:
    """Check that a lake of stores is used with the name of one, and another lake without. Raises
    UsageError."""
    if epoch.stores and not store:
        raise UsageError(
            f"the lake has the stores {', '.join(epoch.stores)}: name each with --source NAME=DSN, or "
            "choose another folder with --lake"
        )
    if store and not epoch.stores:
        raise UsageError(
            "the lake has one store without a name: leave out --source, or choose another folder with --lake"
        )


def seen_by(store: str, epoch: Epoch) -> Epoch | None:
    """The epoch as a publisher of the store sees it; None if it has nothing of the store. Raises UsageError
    as `check_kind_of_lake` does."""
    check_kind_of_lake(epoch, store)
    if not store:
        return epoch
    return epoch.of(store) if store in epoch.stores else None


def is_unchanged(store: str, before: Epoch | None, newest: Epoch | None) -> bool:
    """Whether the tables of the store are the same in the newest epoch and in `before`, its epoch when its
    draft was begun. None: it has no epoch."""
    now = seen_by(store, newest) if newest is not None else None
    if before is None or now is None:
        return before is now
    return before.tokens == now.tokens and _metadata(before) == _metadata(now)


def _metadata(epoch: Epoch) -> dict[str, str]:
    return {name: table.metadata for name, table in epoch.tables.items()}


def with_others(store: str, part: Epoch, newest: Epoch | None) -> Epoch:
    """The epoch after `newest` with the tables and the token of `part`, an epoch of the store alone."""
    tables = {f"{store}_{name}": replace(table, store=store) for name, table in part.tables.items()}
    left_out = {f"{store}_{name}": replace(table, store=store) for name, table in part.left_out.items()}
    tokens = {store: part.token}
    if newest is None:
        return replace(part, number=1, tokens=tokens, tables=tables, left_out=left_out, moved=store)
    others = {n: replace(t, changed=0, deleted=0) for n, t in newest.tables.items() if t.store != store}
    return replace(
        part,
        number=newest.number + 1,
        published_at=max(part.published_at, newest.published_at),
        tokens={**newest.tokens, **tokens},
        tables=others | tables,
        left_out={n: t for n, t in newest.left_out.items() if t.store != store} | left_out,
        moved=store,
    )
