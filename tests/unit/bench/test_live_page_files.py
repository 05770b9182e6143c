"""The files of the page of `ridelake live`: size, references between them, content security policy, tour."""

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest

from oltp.acid.strategies import STRATEGIES

PAGE = Path(str(files("bench").joinpath("live", "page")))
HTML = (PAGE / "index.html").read_text("utf-8")
SCRIPTS = {path.name: path.read_text("utf-8") for path in sorted(PAGE.glob("*.js"))}
TOUR = json.loads((PAGE / "tour.json").read_text("utf-8"))["steps"]
FILE_LINES_MAX = 400
LINE_CHARACTERS_MAX = 130
STEP_WORDS_MAX = 60
LIBRARY = {"base.css"}  # the style of all pages; it is in bench/pages


def test_files_are_short():
    lines = {path.name: path.read_text("utf-8").splitlines() for path in PAGE.iterdir()}
    assert {name: len(text) for name, text in lines.items() if len(text) > FILE_LINES_MAX} == {}
    too_long = [name for name, text in lines.items() if max(map(len, text)) > LINE_CHARACTERS_MAX]
    assert [name for name in too_long if not name.endswith((".json", ".svg"))] == []


def test_the_page_has_no_inline_script_or_style():
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\bsrc=)", HTML)


@pytest.mark.parametrize("pattern", [r'(?:href|src)="assets/([\w.-]+)"', r"https?://"])
def test_the_page_loads_its_own_files_only(pattern: str):
    assert set(re.findall(pattern, HTML)) <= {path.name for path in PAGE.iterdir()} | LIBRARY


def test_scripts_import_existing_names():
    for name, text in SCRIPTS.items():
        for names, source in re.findall(r'import \{([^}]*)\} from "\./([\w.]+)"', text):
            exported = set(re.findall(r"export (?:async )?(?:function|const) (\w+)", SCRIPTS[source]))
            missing = {one.strip() for one in names.split(",")} - exported
            assert not missing, f"{name} imports {missing} from {source}"


def test_scripts_use_existing_elements():
    ids = set(re.findall(r'\bid="([\w-]+)"', HTML))
    used = {one for text in SCRIPTS.values() for one in re.findall(r'\bby\("([\w-]+)"\)', text)}
    assert used - ids == set()


def test_every_strategy_of_the_store_can_be_chosen():
    named = re.findall(r'^  \["(.+?)", ', SCRIPTS["breaking.js"], flags=re.MULTILINE)
    assert named == ["all", *(strategy.name for strategy in STRATEGIES)]


def test_the_tour_has_seven_short_steps_that_show_existing_panels():
    ids = set(re.findall(r'\bid="([\w-]+)"', HTML))
    assert len(TOUR) == 7
    for step in TOUR:
        assert set(step) == {"title", "look", "panel", "setup"}
        assert len(step["look"].split()) <= STEP_WORDS_MAX, step["title"]
        assert set(step["panel"]) <= ids
        assert set(step["setup"]) == {"load", "sync", "question"}
