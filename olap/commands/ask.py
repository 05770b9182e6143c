"""`ridelake ask`: a named question, asked of several engines, their answers compared."""

import click

from olap.commands.options import answer_options
from ridelake.screen import say_json
from ridelake.settings import Settings


@click.command()
@click.argument("question", required=False)
@answer_options(engine="all")
@click.pass_obj
def ask(
    settings: Settings,
    question: str | None,
    engines: tuple[str, ...],
    format_: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Ask a named QUESTION of every engine; without a name, list the questions.

    The answers are compared before any time is shown; if two differ, the exit code is 1.
    """
    from olap.question import find, questions

    if question is None:
        if as_json:
            say_json([{"question": known.name, "purpose": known.purpose} for known in questions().values()])
        else:
            _list()
        return
    from olap.telling import ask_and_tell

    ask_and_tell(
        settings, find(question), engines, format_=format_, limit=limit, as_json=as_json, repeat=True
    )


def _list() -> None:
    from olap.question import questions
    from ridelake.screen import say_table

    say_table(("question", "purpose"), [(known.name, known.purpose) for known in questions().values()])
