"""The commands of the page: checks the body of a POST and sends it to the worker that does it."""

from collections.abc import Callable, Mapping
from typing import Any

from ridelake.errors import UsageError

Body = Mapping[str, Any]
Check = Callable[[Any], Any]

CLIENTS_MAX = 64
RATE_MIN, RATE_MAX = 1.0, 1000.0
EVERY_SECONDS_MIN, EVERY_SECONDS_MAX = 0.1, 3600.0
SQL_CHARACTERS_MAX = 20_000
TARGETS = ("both", "rows", "columns", "off")


class WrongValue(Exception):
    """The value is not of the form that the message names."""


def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise WrongValue("true or false")
    return value


def whole(low: int, high: int) -> Check:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise WrongValue(f"a whole number from {low} to {high}")
        return value

    return check


def number(low: float, high: float, *, or_null: bool = False) -> Check:
    def check(value: Any) -> float | None:
        if value is None and or_null:
            return None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not low <= value <= high:  # also true for NaN
            raise WrongValue(f"a number from {low:g} to {high:g}{' or null' if or_null else ''}")
        return float(value)

    return check


def one_of(*names: str) -> Check:
    def check(value: Any) -> str:
        if value not in names:
            raise WrongValue(f"one of {', '.join(names)}")
        return str(value)

    return check


def text(characters_max: int) -> Check:
    def check(value: Any) -> str:
        is_text = isinstance(value, str) and 0 < len(value) <= characters_max
        if not is_text or "\0" in value or any("\ud800" <= one <= "\udfff" for one in value):
            raise WrongValue(f"a text of at most {characters_max:,} characters")
        return str(value)

    return check


def read_fields(command: str, body: Body, checks: Mapping[str, Check]) -> dict[str, Any]:
    """The fields of the body, checked. Raises UsageError for an unknown field or a wrong value."""
    found = {}
    for name, value in body.items():
        if name not in checks:
            fields = ", ".join(checks) or "no field"
            raise UsageError(f"{command} has no field {name[:40]!r}: use {fields}")
        try:
            found[name] = checks[name](value)
        except WrongValue as error:
            raise UsageError(f"{command}: {name} must be {error}") from None
    return found


LOAD = {
    "clients": whole(0, CLIENTS_MAX),
    "rate": number(RATE_MIN, RATE_MAX, or_null=True),
    "batch": boolean,
    "paused": boolean,
}
SYNC = {"paused": boolean, "every_seconds": number(EVERY_SECONDS_MIN, EVERY_SECONDS_MAX)}
