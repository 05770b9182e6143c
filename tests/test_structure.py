"""The shape of the project: who may import whom, how long a function may be, which names say nothing."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "ridelake": {"ridelake"},
    "oltp": {"ridelake", "oltp"},
    "lakehouse": {"ridelake", "oltp", "lakehouse"},
    "olap": {"ridelake", "lakehouse", "olap"},  # not oltp: an answer comes from an engine
    "bench": {"ridelake", "oltp", "lakehouse", "olap", "bench"},
}
FUNCTION_LINES_MAX = 60
FILE_LINES_MAX = 400
SAYS_NOTHING = {"base", "common", "core", "helper", "helpers", "misc", "stuff", "types", "util", "utils"}
SOURCES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def packages_imported_by(path: Path) -> Iterator[str]:
    """Our own packages, also those imported by name, as the front door does."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            text = ast.unparse(node.args[0])
            yield from (package for package in MAY_IMPORT if f"'{package}." in text)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_go_one_way(path: Path):
    if path == ROOT / "ridelake" / "__main__.py":
        return  # the composition root knows all; it names its commands as text
    ours = set(packages_imported_by(path)) & set(MAY_IMPORT)
    assert ours <= MAY_IMPORT[path.relative_to(ROOT).parts[0]]


def test_the_law_is_seen_to_be_broken(tmp_path: Path):
    culprit = tmp_path / "culprit.py"
    culprit.write_text("import olap.ask\nfrom bench import demo\nimport_module(f'lakehouse.engines.{name}')")
    assert set(packages_imported_by(culprit)) == {"olap", "bench", "lakehouse"}


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=name_of)
def test_a_function_fits_a_screen(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= FUNCTION_LINES_MAX, f"{node.name} has {lines} lines"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_holds_one_noun_and_says_which(path: Path):
    text = path.read_text()
    assert len(text.splitlines()) <= FILE_LINES_MAX
    assert ast.get_docstring(ast.parse(text)), "no docstring"
    assert not SAYS_NOTHING & {part.removesuffix(".py") for part in path.relative_to(ROOT).parts}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_settings_are_read_at_the_edge_only(path: Path):
    if path in (ROOT / "ridelake" / "__main__.py", ROOT / "bench" / "conftest.py"):
        return
    text = path.read_text()
    assert "os.environ" not in text
    assert "getenv" not in text


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_one_function_opens_transactions(path: Path):
    if path == ROOT / "oltp" / "store.py":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr != "transaction" or ast.unparse(node.func.value) == "table", name_of(path)


def test_nobody_may_import_the_tests():
    for path in SOURCES:
        assert "tests" not in set(packages_imported_by(path))
