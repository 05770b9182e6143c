"""`ridelake ask`: run a named question on several engines and compare their answers."""

import click

from olap.commands.options import EPILOG, answer_options, complete_questions
from ridelake.settings import Settings


@click.command(epilog=EPILOG)
@click.argument("question", required=False, shell_complete=complete_questions)
@answer_options(engine="all")
@click.pass_obj
def ask(
    settings: Settings,
    question: str | None,
    engines: tuple[str, ...],
    as_of: str | None,
    fresh: bool,
    parameters: tuple[str, ...],
    format_: str | None,
    file: str | None,
    limit: int | None,
    timeout_seconds: float | None,
    why: bool,
    as_json: bool,
) -> None:
    """Run a named QUESTION on every engine; without a name, list the questions and their parameters.

    The answers are compared before any time is shown; if two differ, the exit code is 1.

    \b
        ridelake ask driver_ranking -p alpha=0.3 -p beta=0.7
        ridelake ask ride_by_id -p ride_id=42 --engine postgres,duckdb
    """
    if question is None:
        from olap.catalogue import list_questions

        list_questions(settings, format_, file, limit, as_json=as_json)
        return
    from olap.parameters import parse
    from olap.question import find_question
    from olap.render import OutputOptions, ask_and_print

    ask_and_print(
        settings,
        find_question(question).given(parse(parameters)),
        engines,
        OutputOptions(format_, file, limit, as_json, why=why),
        repeat=True,
        as_of=as_of,
        fresh=fresh,
        timeout_seconds=timeout_seconds,
    )
