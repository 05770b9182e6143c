"""Each question consists of two files with its name."""

from importlib import import_module
from importlib.resources import files

import pytest

from olap.question import ad_hoc_question, find_question, is_ordered, questions
from ridelake.errors import UsageError

NAMES = sorted(questions())


def test_the_average_price_has_the_text_of_the_textbook_query():
    sql = find_question("average_price").sql.splitlines()[1]
    assert sql == "SELECT AVG(Price) FROM RideTable WHERE City = 'Stanford' AND Month = 'July'"


def test_there_are_at_least_seven_questions():
    assert len(NAMES) >= 7


@pytest.mark.parametrize("name", NAMES)
def test_each_question_has_a_purpose_and_frames(name):
    question = find_question(name)
    assert len(question.purpose) > 20
    assert question.purpose[-1] in ".?"
    assert question.sql.startswith(f"-- {question.purpose}\n")
    assert callable(import_module(f"olap.questions.{name}").answer)


@pytest.mark.parametrize("name", NAMES)
def test_each_question_has_an_order_by(name):
    assert name == "average_price" or find_question(name).ordered  # average_price returns one row


def test_each_frames_file_has_its_sql():
    stems = {file.name[:-3] for file in files("olap.questions").iterdir() if file.name.endswith(".py")}
    assert stems - {"__init__"} == set(NAMES)


def test_an_unknown_name_is_refused_with_similar_names():
    with pytest.raises(UsageError, match=r"did you mean average_price.*run `ridelake ask` for the list"):
        find_question("Average-Prise")
    with pytest.raises(UsageError, match="no question 'zzz': run `ridelake ask`"):
        find_question("zzz")


@pytest.mark.parametrize(
    ("sql", "ordered"),
    [
        ("SELECT a FROM t ORDER BY a", True),
        ("select a from t order\n  by a limit 3", True),
        ("SELECT a FROM t UNION SELECT b FROM u ORDER BY 1", True),
        ("SELECT (SELECT 1), f(x) FROM t ORDER BY a", True),
        ("SELECT a FROM t", False),
        ("SELECT a FROM (SELECT a FROM t ORDER BY a) AS s", False),
        ("SELECT ROW_NUMBER() OVER (ORDER BY a) FROM t", False),
        ("SELECT STRING_AGG(a, ',' ORDER BY a) FROM t", False),
        ("SELECT 'it''s ORDER BY (' FROM t", False),
        ("SELECT a FROM t -- ORDER BY a", False),
        ("SELECT a /* ( ORDER BY a */ FROM t ORDER BY a", True),
        ('SELECT a AS "ORDER BY" FROM t', False),
        ("SELECT $x$ ) ORDER BY $x$ FROM t", False),
        ("SELECT a AS border BY FROM t", False),
    ],
)
def test_only_a_top_level_order_by_counts(sql, ordered):
    assert is_ordered(sql) is ordered
    assert ad_hoc_question(sql).ordered is ordered
