"""Values of query parameters: `-p alpha=0.3` for `$alpha`. The engine binds them, so a value cannot inject
SQL.

7, -7            an integer              2026-07-01             a date
0.3              a decimal, exact        2026-07-01T12:00:00    a timestamp; with Z or an offset, in UTC
3e-1             a double                null                   NULL
true, false      a boolean               anything else          text
'7', '', 'null'  text: a quoted value is always text; a quote inside it is doubled
"""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal

from lakehouse.engines.parameters import Value
from ridelake.errors import UsageError, did_you_mean

INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1  # the range of bigint; larger integers become decimals
DECIMAL_DIGITS_MAX = 38  # supported by every engine

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.[0-9]*|\.[0-9]+)")
_DOUBLE = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][+-]?[0-9]{1,4}")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIMESTAMP = re.compile(
    r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:?\d{2})?", re.ASCII
)
_ALSO = {"a number": ("an integer", "a number beyond bigint"), "text": ("a UUID",)}
_UUID = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_WORDS: dict[str, Value] = {"true": True, "false": False, "null": None}


def parse(given: Sequence[str]) -> dict[str, Value]:
    """The values of `-p name=value`, by name. Raises UsageError for a malformed or repeated parameter."""
    values: dict[str, Value] = {}
    for text in given:
        if not text.isascii() and re.search("[\ud800-\udfff]", text):
            raise UsageError(f"-p {text!a} is not UTF-8; set the terminal to UTF-8")
        name, equals, value = text.partition("=")
        name = name.strip().removeprefix("$")
        if not equals or not _NAME.fullmatch(name):
            raise UsageError(f"-p takes name=value, as in -p alpha=0.3, not {text!r}")
        if name in values:
            raise UsageError(f"-p {name} is given twice; remove one of them")
        try:
            values[name] = typed(value)
        except UsageError as error:
            raise UsageError(f"-p {name}: {error}") from error
    return values


def typed(text: str) -> Value:
    """The value of the text, with the type described in the module docstring."""
    if len(text) >= 2 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INTEGER.fullmatch(text) and len(text) <= DECIMAL_DIGITS_MAX:
        number = int(text)
        return number if INTEGER_MIN <= number <= INTEGER_MAX else Decimal(number)
    if _DECIMAL.fullmatch(text) and len(text) <= DECIMAL_DIGITS_MAX:
        return Decimal(text)
    if _DOUBLE.fullmatch(text):
        double = float(text)
        if math.isinf(double):
            raise UsageError(f"{text} is out of range for a double (±1.8e308); quote it to pass it as text")
        return double
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
        if _TIMESTAMP.fullmatch(text):
            timestamp = datetime.fromisoformat(text)
            return timestamp if timestamp.tzinfo is None else timestamp.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{text!r} is not a valid date or time ({error}); quote it to pass it as text"
        ) from error
    return text


def merge_parameters(
    declared: Mapping[str, Value], given: Mapping[str, Value], question: str
) -> dict[str, Value]:
    """The declared defaults, overridden by the given values. Raises UsageError for an unknown name or a value
    of the wrong type."""
    for name in given:
        if name not in declared:
            its = f"it has {', '.join(declared)}" if declared else "it has none"
            meant = did_you_mean(name, declared)
            raise UsageError(f"question {question} has no parameter {name}: {meant}{its}")
        _refuse_wrong_type(name, given[name], declared[name], question)
    return {**declared, **given}


def _refuse_wrong_type(name: str, value: Value, default: Value, question: str) -> None:
    """Check the type of a parameter's value. Raises UsageError unless the value has the type of the
    default."""
    expected = _kind(default)
    if _kind(value) in (expected, *_ALSO.get(expected, ())):
        return
    example = f"{name}={default}"
    if expected == "text" and value is not None:  # 7 or true, which is text if quoted
        example = f"\"{name}='{value}'\""
    raise UsageError(
        f"question {question}: parameter {name} takes {expected}, not {_shown(value)}; "
        f"for example -p {example}"
    )


def _kind(value: Value) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case Decimal() if value == value.to_integral_value() and abs(value) > INTEGER_MAX:
            return "a number beyond bigint"
        case Decimal() | float():
            return "a number"
        case str():
            return "a UUID" if _UUID.fullmatch(value) else "text"
    return "a timestamp" if isinstance(value, datetime) else "a date"


def _shown(value: Value) -> str:
    if isinstance(value, str):
        return repr(value)
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return f"{value:f}" if isinstance(value, Decimal) else str(value)
