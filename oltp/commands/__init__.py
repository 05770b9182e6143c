"""The commands of oltp, and the options that several of them have."""

import click

seed_option = click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="The same seed gives the same requests.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
