"""The form of an epoch's tokens and tables in the catalog and in the manifests."""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from lakehouse.table.epoch import (
    DataFile,
    DeleteFile,
    Epoch,
    SkippedTable,
    SnapshotToken,
    TableState,
    ValueForms,
    tokens_to_json,
)
from ridelake.settings import LakeAddress


def token_column(epoch: Epoch) -> str:
    """The column `token` of the catalog: the token, or the tokens of all stores."""
    tokens = tokens_to_json(epoch)
    return json.dumps(tokens if epoch.stores else tokens["token"])


def tokens_from_column(value: Mapping[str, Any]) -> tuple[dict[str, SnapshotToken], str]:
    """The tokens, and the store that published the epoch."""
    if "tokens" not in value:
        return {"": SnapshotToken(**value)}, ""
    return {name: SnapshotToken(**token) for name, token in value["tokens"].items()}, value["source"]


def tables_to_json(address: LakeAddress, epoch: Epoch) -> dict[str, Any]:
    """Locations are stored relative to the lake, so that it can be moved or mounted elsewhere. A table that
    is left out has a reason and no files."""
    report = {name: asdict(table) for name, table in epoch.tables.items()}
    left_out = {name: asdict(table) for name, table in epoch.left_out.items()}
    for table in (*report.values(), *left_out.values()):
        # The defaults are omitted: older versions of ridelake cannot read it.
        table |= ValueForms(**table.pop("forms")).chosen()
        if not table["store"]:
            del table["store"]
    for table in report.values():
        table["metadata"] = address.relative(table["metadata"])
        table["gone"] = table.pop("deleted")  # the JSON name in lake format 2
        for name in ("without", "partitions"):
            if not table[name]:  # omitted if empty: older versions of ridelake cannot read it
                del table[name]
        for file in (*table["files"], *table["deletes"]):
            file["location"] = address.relative(file["location"])
    return report | left_out


def tables_from_json(
    address: LakeAddress, report: Mapping[str, Any]
) -> tuple[dict[str, TableState], dict[str, SkippedTable]]:
    """The tables of an epoch from the JSON document of `tables_to_json`."""
    tables: dict[str, TableState] = {}
    left_out: dict[str, SkippedTable] = {}
    for name, table in report.items():
        values = dict(table) | {"without": tuple(table.get("without", ())), "forms": _forms(table)}
        for choice in FORM_NAMES:
            values.pop(choice, None)
        if "reason" in values:
            left_out[name] = SkippedTable(**values)
        else:
            tables[name] = _table(address, values)
    return tables, left_out


FORM_NAMES = tuple(one.name for one in fields(ValueForms))


def _forms(table: Mapping[str, Any]) -> ValueForms:
    chosen = {name: table[name] for name in FORM_NAMES if name in table}
    if "numeric" in chosen:
        chosen["numeric"] = tuple(chosen["numeric"])
    return ValueForms(**chosen)


def _table(address: LakeAddress, table: dict[str, Any]) -> TableState:
    files = tuple(DataFile(**_joined(address, file)) for file in table["files"])
    deletes = tuple(DeleteFile(**_joined(address, file)) for file in table.get("deletes", ()))
    table["deleted"] = table.pop("gone", 0)
    metadata = address.join(table["metadata"])
    lists = {name: tuple(table.get(name, ())) for name in ("key", "partitions")}
    return TableState(**table | lists | {"files": files, "deletes": deletes, "metadata": metadata})


def _joined(address: LakeAddress, file: dict[str, Any]) -> dict[str, Any]:
    return file | {"location": address.join(file["location"])}
