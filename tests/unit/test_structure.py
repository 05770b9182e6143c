"""The structure of the project: allowed imports, length of functions and files, names of modules."""

import ast
import gc
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {
    "ridelake": {"ridelake"},
    "oltp": {"ridelake", "oltp"},
    "lakehouse": {"ridelake", "oltp", "lakehouse"},
    "olap": {"ridelake", "lakehouse", "olap"},  # not oltp: questions are asked through engines
    "bench": {"ridelake", "oltp", "lakehouse", "olap", "bench"},
}
FUNCTION_LINES_MAX = 60
FILE_LINES_MAX = 400
SAYS_NOTHING = {"base", "common", "core", "helper", "helpers", "misc", "stuff", "types", "util", "utils"}
# Import every package: the command line and the Python API.
ROOTS = {ROOT / "ridelake" / name for name in ("__main__.py", "__init__.py", "api.py")}
SOURCES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
# Idioms that a reader might not understand.
DIALECT = re.compile(r"\b(told|nobody|whoever|somebody|gone|befall\w*|anew)\b", re.IGNORECASE)
LAKEHOUSE_PARTS_MAX = 8
LAKEHOUSE_LAYERS_MAX = 5


@cache
def trees() -> dict[Path, ast.Module]:
    """The parsed files. They are parsed at the first call, because every worker imports this module."""
    gc.disable()  # otherwise the garbage collector triples the time
    try:
        return {path: ast.parse(path.read_text()) for path in [*SOURCES, *TESTS]}
    finally:
        gc.enable()


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(trees()[path]))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def called(call: ast.Call) -> str | None:
    """The last part of the called function's name."""
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return None


def packages_imported_by(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The project's packages that are imported, including by `import_module`."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]
        elif isinstance(node, ast.Call) and called(node) == "import_module":
            text = ast.unparse(node.args[0])
            yield from (package for package in MAY_IMPORT if f"'{package}." in text)


def test_imports_go_one_way():
    offenders = {
        name_of(path): imported - allowed
        for path in SOURCES
        if path not in ROOTS
        for allowed in [MAY_IMPORT[path.relative_to(ROOT).parts[0]]]
        for imported in [set(packages_imported_by(nodes(path))) & set(MAY_IMPORT)]
        if imported - allowed
    }
    assert offenders == {}


def test_a_forbidden_import_is_found():
    text = "import olap.ask\nfrom bench import demo\nimport_module(f'lakehouse.engines.{name}')"
    assert set(packages_imported_by(ast.walk(ast.parse(text)))) == {"olap", "bench", "lakehouse"}


def test_functions_are_short():
    offenders = [
        f"{name_of(path)}: {node.name} has {lines} lines"
        for path in trees()
        for node in nodes(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for lines in [(node.end_lineno or node.lineno) - node.lineno + 1]
        if lines > FUNCTION_LINES_MAX
    ]
    assert offenders == []


def test_files_are_short_and_have_a_docstring_and_a_specific_name():
    offenders = []
    for path in SOURCES:
        lines = len(path.read_text().splitlines())
        if lines > FILE_LINES_MAX:
            offenders.append(f"{name_of(path)} has {lines} lines")
        if not ast.get_docstring(trees()[path]):
            offenders.append(f"{name_of(path)} has no docstring")
        if SAYS_NOTHING & {part.removesuffix(".py") for part in path.relative_to(ROOT).parts}:
            offenders.append(f"{name_of(path)} has a name that says nothing")
    assert offenders == []


def test_settings_are_read_at_the_edge_only():
    edge = (*ROOTS, ROOT / "bench" / "conftest.py")
    texts = {name_of(path): path.read_text() for path in SOURCES if path not in edge}
    assert [name for name, text in texts.items() if "os.environ" in text or "getenv" in text] == []


def test_one_function_opens_transactions():
    offenders = [
        f"{name_of(path)}:{node.lineno}"
        for path in SOURCES
        if path != ROOT / "oltp" / "store.py"
        for node in nodes(path)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if node.func.attr == "transaction" and ast.unparse(node.func.value) != "table"  # that of pyiceberg
    ]
    assert offenders == []


def test_sources_do_not_import_the_tests():
    assert [name_of(path) for path in SOURCES if "tests" in set(packages_imported_by(nodes(path)))] == []


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def import_graph() -> dict[str, set[str]]:
    """The modules that each module imports, anywhere in its text."""
    modules = {module_of(path) for path in SOURCES}
    graph = {}
    for path in SOURCES:
        imported = set()
        for node in nodes(path):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                imported |= names & modules or {node.module}
        graph[module_of(path)] = imported & modules - {module_of(path)}
    return graph


def parts_graph(package: str) -> dict[str, set[str]]:
    """The import graph between the direct parts of a package: its modules and folders."""
    graph: dict[str, set[str]] = defaultdict(set)
    for module, imported in import_graph().items():
        if module.startswith(f"{package}."):
            part = module.split(".")[1]
            graph[part] |= {name.split(".")[1] for name in imported if name.startswith(f"{package}.")} - {
                part
            }
    return graph


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_import_circle():
    assert circle_in(import_graph()) == []
    assert {package: circle for package in MAY_IMPORT if (circle := circle_in(parts_graph(package)))} == {}


def test_an_import_circle_is_found():
    assert set(circle_in({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}


def test_lakehouse_has_few_parts_in_few_layers():
    graph = parts_graph("lakehouse")
    layers: dict[str, int] = {}
    for part in TopologicalSorter(graph).static_order():
        layers[part] = 1 + max((layers[below] for below in graph.get(part, ())), default=0)
    assert len(layers) <= LAKEHOUSE_PARTS_MAX, sorted(layers)
    assert max(layers.values()) <= LAKEHOUSE_LAYERS_MAX, layers


def test_class_names_are_unique():
    homes = defaultdict(list)
    for path in SOURCES:
        for node in nodes(path):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(name_of(path))
    assert {name: paths for name, paths in homes.items() if len(paths) > 1} == {}


def test_texts_use_plain_words():
    texts = [(name_of(path), path.read_text()) for path in PAGES]
    for path in SOURCES:
        for node in nodes(path):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
                texts.append((f"{name_of(path)}:{node.lineno}", node.value))
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line.lstrip().startswith("#"):
                texts.append((f"{name_of(path)}:{number}", line))
    for package in MAY_IMPORT:
        for kind in ("sql", "js", "css", "html"):
            texts += [(name_of(path), path.read_text()) for path in (ROOT / package).rglob(f"*.{kind}")]
    offenders = {where: found.group() for where, text in texts if (found := DIALECT.search(text))}
    assert offenders == {}
