"""The commands of oltp, and the options that several of them have."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def seed_option(text: str, *, name: str = "seed") -> Callable[[Command], Command]:
    return click.option("--seed", name, type=click.IntRange(min=0), default=1, show_default=True, help=text)


json_option = click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
