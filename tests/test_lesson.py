"""The lesson shows what its commands print."""

import re
from difflib import SequenceMatcher
from pathlib import Path

import pytest
from played import BLOCK, PROMPT, pages, played, shape

from ridelake.__main__ import COMMANDS

# Of the words of a page: how fast a machine is, and what it has in memory, changes a sentence here and there.
ALIKE = 0.95


@pytest.mark.slow
def test_each_page_shows_what_its_commands_print(tmp_path: Path):
    for page, text in played(tmp_path):
        shown, printed = shape(page.read_text()), shape(text)
        alike = SequenceMatcher(None, shown, printed, autojunk=False).ratio()
        assert alike > ALIKE, (page.name, alike, sorted(set(shown) ^ set(printed)))


def test_each_page_begins_with_a_question_then_a_command_then_why():
    assert len(pages()) == 10
    for page in pages():
        title, _, rest = page.read_text().partition("\n")
        assert re.fullmatch(r"# \d+\. .+\?", title), page.name
        question, *_ = BLOCK.findall(rest)
        assert question.startswith(PROMPT), page.name
        assert "\n## Why\n" in rest, page.name
        assert len(rest.splitlines()) < 120, f"{page.name} is not short"


def test_the_pages_name_only_commands_that_are_there():
    for page in pages():
        assert set(re.findall(r"ridelake (\w+)", page.read_text())) <= set(COMMANDS), page.name
