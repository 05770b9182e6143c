"""The list of the named questions: grouped in the table format, one row each in the other formats."""

from lakehouse.engines import has_ride_table
from olap.options import QueryOptions
from olap.output import choose_format, write_answer
from olap.query_epoch import last_epoch, missing_ride_tables_message
from olap.question import LOOK_UP, Question, questions
from ridelake.screen import note, say, say_json
from ridelake.settings import Settings

HEADS = {LOOK_UP: "Look-ups: a few rows, by an indexed key", "analysis": "Analyses: aggregates over all rows"}


def list_questions(settings: Settings, options: QueryOptions) -> None:
    """List the questions for the newest epoch, or for the ride store if there is no epoch yet."""
    format_, file = options.format_, options.file
    if format_ is not None or file is not None:
        format_ = choose_format(format_, file)
    epoch = last_epoch(settings, options.source)
    known = list(questions().values())
    if epoch is not None and not has_ride_table(epoch):
        note(f"note: {missing_ride_tables_message(epoch)}")
        known = []
    known.sort(key=lambda each: list(HEADS).index(each.group))
    known = known[: options.limit or None]
    if options.as_json:
        say_json([_report(each) for each in known])
    elif format_ in (None, "table") and file is None:
        _list(known)
    else:
        _write_list(known, str(format_), file)


def _list(known: list[Question]) -> None:
    for number, (group, head) in enumerate(HEADS.items()):
        members = [each for each in known if each.group == group]
        if members:
            say(f"{chr(10) if number else ''}{head}")
        for each in members:
            say(" ".join([f"  {each.name}", *(f"-p {text}" for text in _texts(each))]))
            say(f"      {each.summary}")
    if known:
        say("\nTo run one: ridelake ask NAME -p PARAMETER=VALUE. The values above are the defaults.")


def _texts(question: Question) -> list[str]:
    return [f"{name}={value}" for name, value in question.parameters.items()]


def _write_list(known: list[Question], format_: str, file: str | None) -> None:
    import pyarrow as pa

    rows = [
        {
            "name": each.name,
            "group": each.group,
            "purpose": each.summary,
            "parameters": " ".join(_texts(each)),
        }
        for each in known
    ]
    columns = ("name", "group", "purpose", "parameters")
    schema = pa.schema([(column, pa.string()) for column in columns])
    write_answer(pa.Table.from_pylist(rows, schema), format_, file)


def _report(question: Question) -> dict[str, object]:
    parameters = {
        name: {"value": value, "meaning": question.meanings[name]}
        for name, value in question.parameters.items()
    }
    described = {"question": question.name, "group": question.group, "purpose": question.purpose}
    return described | {"parameters": parameters}
