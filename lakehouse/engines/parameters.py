"""Parameters of a query: `$name` in the text, with a separate value. A value is never inserted into the text.

Engines that support it bind the values; for others, a value becomes a literal in the query's syntax tree.
"""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING

from ridelake.errors import UsageError

if TYPE_CHECKING:  # sqlglot takes 0.1 s to import; engines that bind do not need it
    from sqlglot import exp

Value = int | float | str | bool | Decimal | date | datetime | None
Parameters = Mapping[str, Value]
NO_PARAMETERS: Parameters = MappingProxyType({})

# A parameter, or a token in which $ is not one: comments, strings, quoted names, dollar quotes.
_TOKEN = re.compile(
    r"""--[^\n]* | /\*.*?\*/ | \b[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*"
        | \$(?P<tag>(?:[A-Za-z_]\w*)?)\$.*?\$(?P=tag)\$ | \$(?P<name>[A-Za-z_]\w*)""",
    re.VERBOSE | re.DOTALL,
)


def placeholders(query: str) -> list[str]:
    """The names of the query's parameters, in the order of their first use."""
    return list(dict.fromkeys(m["name"] for m in _TOKEN.finditer(query) if m["name"]))


def check_parameters(query: str, parameters: Parameters) -> None:
    """Compare the query's placeholders with the given values. Raises UsageError unless the query's
    placeholders and the given values have the same names."""
    if not parameters and "$" not in query:
        return
    wanted = placeholders(query)
    for name in wanted:
        if name not in parameters:
            raise UsageError(f"parameter ${name} of the query has no value: pass it with -p {name}=VALUE")
    for name in parameters:
        if name not in wanted:
            known = " and ".join(f"${one}" for one in wanted) or "no parameters"
            raise UsageError(
                f"the query has no parameter ${name} (it has {known}): remove -p {name}, or use it"
            )


def numbered(query: str) -> str:
    """The same query with $1, $2, … instead of names, in the order of `placeholders`."""
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
    """A literal of the SQL type of the Python value: a float becomes DOUBLE, a time with zone is in UTC."""
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
