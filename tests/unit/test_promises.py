"""docs/promises.md names existing tests, and each promise has one that `make test` runs."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/promises.md").read_text("utf-8")
PROMISES = [
    *(f"O{n}" for n in range(1, 8)),
    *(f"L{n}" for n in range(1, 13)),
    *(f"E{n}" for n in range(1, 6)),
]
PROMISES += [*(f"P{n}" for n in range(1, 8)), "B1", "B2", "B3", "B4", "B5"]
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`( \*\(slow\)\*)?")


def promised() -> dict[str, list[tuple[str, str, bool]]]:
    """The tests of each promise: file, name, and whether the page marks it as slow."""
    rows = re.findall(r"^\| ([A-Z]\d+) \| [^|]+ \| (.+) \|$", PAGE, flags=re.MULTILINE)
    return {
        number: [(file, name, bool(slow)) for file, name, slow in TEST.findall(tests)]
        for number, tests in rows
    }


@cache
def tests_of(file: str) -> dict[str, bool]:
    """The tests of a file: name → whether it is slow."""
    body = ast.parse((ROOT / file).read_text("utf-8")).body if (ROOT / file).exists() else []
    marks = [ast.unparse(node) for node in body if isinstance(node, ast.Assign)]
    all_slow = any(mark.startswith("pytestmark = ") and "mark.slow" in mark for mark in marks)
    return {
        node.name: all_slow or any(ast.unparse(one).endswith("mark.slow") for one in node.decorator_list)
        for node in body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_every_promise_is_on_the_page_once():
    assert re.findall(r"^\| ([A-Z]\d+) \|", PAGE, flags=re.MULTILINE) == PROMISES


def test_the_tests_of_each_promise_exist():
    files = [str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py")]
    wrong = {
        f"{number}: {file}::{name}": [other for other in files if name in tests_of(other)]
        for number, tests in promised().items()
        for file, name, _ in tests
        if name not in tests_of(file)
    }
    assert not wrong, "these tests do not exist, or are now in another file"


def test_each_promise_has_a_test_that_make_test_runs():
    for number, tests in promised().items():
        assert not all(tests_of(file)[name] for file, name, _ in tests), number


def test_slow_tests_are_marked_on_the_page():
    for number, tests in promised().items():
        for file, name, slow in tests:
            assert slow == tests_of(file)[name], f"{number}: {name}"
