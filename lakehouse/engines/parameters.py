"""Parameters of a query: `$name` in its text, a value beside it. A value is never pasted into text.

An engine that can bind does it; for one that cannot, the value becomes a literal in the query's syntax tree.
"""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from ridelake.errors import UsageError

if TYPE_CHECKING:  # sqlglot takes a tenth of a second, and an engine that binds does without
    from sqlglot import exp

Value = int | float | str | bool | Decimal | date | datetime | None
Parameters = Mapping[str, Value]

# Where a $ is none of ours: comments, strings, quoted names, dollar quotes.
_TOKEN = re.compile(
    r"""--[^\n]* | /\*.*?\*/ | \b[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*"
        | \$(?P<tag>(?:[A-Za-z_]\w*)?)\$.*?\$(?P=tag)\$ | \$(?P<name>[A-Za-z_]\w*)""",
    re.VERBOSE | re.DOTALL,
)


def placeholders(query: str) -> list[str]:
    """The names that a query asks for, in the order of their first use."""
    return list(dict.fromkeys(m["name"] for m in _TOKEN.finditer(query) if m["name"]))


def refuse_wrong_parameters(query: str, parameters: Parameters) -> None:
    """Raises UsageError unless the query's placeholders and the given values have the same names."""
    if not parameters and "$" not in query:
        return
    wanted = placeholders(query)
    for name in wanted:
        if name not in parameters:
            raise UsageError(f"the query asks for ${name}, which has no value: give one with -p {name}=VALUE")
    for name in parameters:
        if name not in wanted:
            has = " and ".join(f"${known}" for known in wanted) or "no parameter"
            raise UsageError(f"the query has no ${name}, it has {has}: leave out -p {name}, or use it")


def numbered(query: str) -> str:
    """The same query with $1, $2, … for the names, in the order of `placeholders`."""
    numbers = {name: f"${number}" for number, name in enumerate(placeholders(query), 1)}
    return _TOKEN.sub(lambda m: numbers[m["name"]] if m["name"] else m[0], query)


def with_literals(tree: "exp.Expr", parameters: Parameters) -> "exp.Expr":
    """The same tree with a literal for each placeholder."""
    from sqlglot import exp

    def replaced(node: "exp.Expr") -> "exp.Expr":
        if isinstance(node, exp.Placeholder) and node.name in parameters:
            return literal(parameters[node.name])
        return node

    return tree.transform(replaced)


def literal(value: Value) -> "exp.Expr":
    """Of the type that the value has in Python: a float is no decimal, a moment is in UTC."""
    from sqlglot import exp

    if value is None or isinstance(value, bool | str):
        return exp.convert(value)
    if isinstance(value, int):
        return exp.Literal.number(value)
    if isinstance(value, float):
        return exp.cast(exp.Literal.string(repr(value)), "DOUBLE")
    if isinstance(value, Decimal):
        _, digits, exponent = value.as_tuple()
        scale = max(-exponent, 0) if isinstance(exponent, int) else 0
        precision = max(len(digits) + max(-scale - exponent if isinstance(exponent, int) else 0, 0), scale)
        return exp.cast(exp.Literal.string(f"{value:f}"), f"DECIMAL({max(precision, 1)}, {scale})")
    if isinstance(value, datetime):
        if value.tzinfo is None:
            return exp.cast(exp.Literal.string(value.isoformat(" ")), "TIMESTAMP")
        utc = value.astimezone(UTC).isoformat(" ")
        return exp.cast(exp.Literal.string(utc), "TIMESTAMPTZ")
    return exp.cast(exp.Literal.string(value.isoformat()), "DATE")
