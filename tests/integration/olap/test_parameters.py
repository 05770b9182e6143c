"""Values of -p have the documented types, are bound, and are never parsed as SQL."""

import shlex
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lakehouse.engines.parameters import Value, placeholders
from olap.ask import answer_of
from olap.parameters import parse, typed
from olap.question import ad_hoc_question, find_question, questions
from ridelake.errors import UsageError

TYPED = {
    "7": 7,
    "-7": -7,
    "007": 7,
    "9223372036854775807": 2**63 - 1,
    "9223372036854775808": Decimal(2**63),
    "0.3": Decimal("0.3"),
    "-.50": Decimal("-0.50"),
    "3e-1": 0.3,
    "true": True,
    "False": False,
    "null": None,
    "2026-07-01": date(2026, 7, 1),
    "2026-07-01T12:00:00": datetime(2026, 7, 1, 12),
    "2026-07-01 12:00": datetime(2026, 7, 1, 12),
    "2026-07-01T12:00:00.25Z": datetime(2026, 7, 1, 12, 0, 0, 250_000, UTC),
    "2026-07-01T12:00:00+02:00": datetime(2026, 7, 1, 10, tzinfo=UTC),
    "'7'": "7",
    "''": "",
    "'it''s'": "it's",
    "'null'": "null",
    "": "",
    "Stanford": "Stanford",
    "O'Hare": "O'Hare",
    "a=b": "a=b",
    "nan": "nan",
    "1_000": "1_000",
    "٣": "٣",
    "2026-7-1": "2026-7-1",
}


@pytest.mark.parametrize("text", TYPED, ids=repr)
def test_a_value_has_the_documented_type(text: str):
    value = typed(text)
    assert (value, type(value)) == (TYPED[text], type(TYPED[text]))


@pytest.mark.slow
@hypothesis_settings(deadline=None)
@given(st.text(max_size=40))
def test_a_quoted_value_is_text(text: str):
    assert typed("'" + text.replace("'", "''") + "'") == text


@hypothesis_settings(deadline=None)
@given(st.text(max_size=40) | st.from_regex(r"[-0-9T:.eZ+]{1,30}", fullmatch=True))
def test_any_text_is_a_value_or_a_usage_error(text: str):
    with suppress(UsageError):  # for example an invalid date
        assert typed(text) is None or isinstance(typed(text), Value)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        (["alpha"], "takes name=value"),
        (["=3"], "takes name=value"),
        (["a b=3"], "takes name=value"),
        (["a=1", "$a=2"], "-p a is given twice"),
        (["day=2026-02-30"], "'2026-02-30' is not a valid date or time"),
        (["day=2026-07-01T25:00"], "-p day: .* is not a valid date or time"),
        (["alpha=1e999"], "-p alpha: 1e999 is out of range for a double"),
    ],
)
def test_an_invalid_parameter_is_refused(given_: list[str], message: str):
    with pytest.raises(UsageError, match=message):
        parse(given_)


@pytest.mark.parametrize("question", questions().values(), ids=lambda q: q.name)
def test_a_question_declares_all_its_parameters(question):
    assert sorted(question.parameters) == sorted(placeholders(question.sql))
    assert sorted(question.meanings) == sorted(question.parameters)


def test_a_question_refuses_an_unknown_parameter():
    with pytest.raises(UsageError, match="driver_ranking has no parameter gamma: it has alpha, beta"):
        find_question("driver_ranking").given({"gamma": 1})
    with pytest.raises(UsageError, match="average_price has no parameter x: it has none"):
        find_question("average_price").given({"x": 1})


@pytest.mark.slow
def test_a_value_cannot_inject_sql(settings_once, engines_over):
    """Any text is returned unchanged, and matches no user name."""
    echo = "SELECT CAST($x AS VARCHAR) FROM cities WHERE city_id = 1"
    search = "SELECT COUNT(*) FROM riders WHERE username = $x"
    attacks = st.sampled_from(
        ["' OR '1'='1", "'; DROP TABLE rides; --", "$x", "$1", "$$ OR true --", "\\' OR 1=1 --", "/*", '"']
    )
    texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
    with engines_over(settings_once) as (engines, _):

        @hypothesis_settings(max_examples=60, deadline=None)
        @given(attacks | texts)
        def check(text: str) -> None:
            for engine in engines:
                for sql, expected in ((echo, text), (search, 0)):
                    answer = answer_of(engine, ad_hoc_question(sql, {"x": text}))
                    assert [row[0].as_py() for row in answer.columns] == [expected], engine.name

        check()


WHOLE, NUMBER, UUID, TEXT = "takes an integer", "takes a number", "takes a UUID", "takes text"
REFUSED = {  # by the type of the default value
    WHOLE: ["abc", "", "1.5", "1e3", "null", "true", "2026-07-01", "9223372036854775808", "inf", "'7'"],
    NUMBER: ["abc", "", "null", "true", "inf", "nan", "2026-07-01", "2026-07-01T12:00:00Z", "0,5", "'1'"],
    UUID: ["abc", "", "7", "null", "true", "2026-07-01", "00000000-0000-0000-0000"],
    TEXT: ["7", "null", "true", "1.5", "2026-07-01"],
}
ACCEPTED = {
    WHOLE: ["0", "-7", "9223372036854775807"],
    NUMBER: ["0", "-1", "0.25", "1e-3", "9223372036854775808"],
    UUID: ["00000000-0000-0000-0000-000000000001", "ABCDEF00-0000-0000-0000-000000000001"],
    TEXT: ["memelord", "'7'", "O'Hare", "", "00000000-0000-0000-0000-000000000001"],
}


def kind_of(value: Value) -> str:
    if isinstance(value, str):
        return UUID if value.startswith("00000000-") else TEXT
    return WHOLE if isinstance(value, int) else NUMBER


ALL_PARAMETERS = [
    (question.name, name, kind_of(value))
    for question in questions().values()
    for name, value in question.parameters.items()
]


@pytest.mark.parametrize(("question", "name", "expected"), ALL_PARAMETERS)
def test_a_value_of_the_wrong_type_is_refused_with_the_expected_type(question: str, name: str, expected: str):
    for text in REFUSED[expected]:
        with pytest.raises(UsageError) as refused:
            find_question(question).given(parse([f"{name}={text}"]))
        assert f"parameter {name} {expected}, not " in str(refused.value)
        _, example = str(refused.value).split("for example -p ")
        # The example in the message must be accepted.
        find_question(question).given(parse(shlex.split(example)))
    for text in ACCEPTED[expected]:
        assert find_question(question).given(parse([f"{name}={text}"])).parameters[name] == typed(text)
