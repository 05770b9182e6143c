"""SQL text from the `.sql` files of a package.

A package keeps its short statements in `queries.sql`, each under a line `-- name: NAME`. A longer text, such
as a schema, has its own file.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import LiteralString

HEADING = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@cache
def load_script(package: str, file: str) -> LiteralString:
    """The text of a file of the package. It has the type LiteralString, because it is part of the program."""
    text: LiteralString = files(package).joinpath(file).read_text("utf-8")
    return text


@cache
def load_queries(package: str, file: str = "queries.sql") -> Mapping[str, LiteralString]:
    """The statements of a file by name, in the order of the file. Text before the first heading is ignored.

    Raises ValueError if two statements have the same name.
    """
    parts = HEADING.split(load_script(package, file))[1:]
    names = parts[0::2]
    if len({*names}) < len(names):
        raise ValueError(f"{package}/{file} has two statements of one name: {sorted(names)}")
    return MappingProxyType(dict(zip(names, (text.strip() for text in parts[1::2]), strict=True)))
