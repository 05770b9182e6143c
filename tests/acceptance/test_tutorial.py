"""The tutorial shows the output of its commands, and each page has the same parts in the same order."""

import re
from difflib import SequenceMatcher
from pathlib import Path

import pytest
from tutorial_runner import BLOCK, COMMAND_SECONDS_MAX, PROMPT, TUTORIAL, large, pages, played, shape

from ridelake.__main__ import COMMANDS

# The minimum share of equal words. Some sentences depend on the speed of the machine and on caches.
ALIKE = 0.95
ROOT = TUTORIAL.parents[1]


@pytest.mark.slow
@pytest.mark.timeout(2 * COMMAND_SECONDS_MAX)
@pytest.mark.parametrize("is_large", [False, True], ids=["20,000 rides", "1,000,000 rides"])
def test_each_page_shows_the_output_of_its_commands(tmp_path: Path, is_large: bool):
    for page, text in played(tmp_path, [page for page in pages() if large(page) == is_large]):
        shown, printed = shape(page.read_text()), shape(text)
        alike = SequenceMatcher(None, shown, printed, autojunk=False).ratio()
        assert alike > ALIKE, (page.name, alike, sorted(set(shown) ^ set(printed)))


def test_each_page_has_a_question_a_guess_commands_a_reason_and_an_exercise_with_its_answer():
    assert len(pages()) == 10
    for page in pages():
        title, _, rest = page.read_text().partition("\n")
        assert re.fullmatch(r"# \d+\. .+\?", title), page.name
        assert re.match(r"\n\*\d+ minutes\b.*\*\n", rest), page.name
        assert all(block.startswith(PROMPT) for block in BLOCK.findall(rest)), page.name
        parts = ["**Before you run it:**", "```console", "## Why", "## Exercise", "<details>", "</details>"]
        places = [rest.find(parts[0])]
        for part in parts[1:]:
            places.append(rest.find(part, places[-1] + 1))
        assert -1 not in places, (page.name, parts[places.index(-1)])
        assert rest[places[0] : places[1]].count("?") >= 1, f"{page.name} has no question before the commands"
        assert len(rest.splitlines()) < 140, f"{page.name} is too long"


def test_pages_4_to_6_use_the_store_of_1_000_000_rides():
    assert [page.name[:2] for page in pages() if large(page)] == ["04", "05", "06"]


def test_the_contents_name_each_page_with_its_question_and_minutes():
    contents = (TUTORIAL / "README.md").read_text()
    for number, page in enumerate(pages(), start=1):
        title, _, minutes, *_ = page.read_text().splitlines()
        question, needed = title.split(". ", 1)[1], re.findall(r"\d+", minutes)[0]
        assert f"| [{number}]({page.name}) | {question} | {needed} |" in contents, page.name


def test_the_pages_name_existing_commands_only():
    for page in [*pages(), TUTORIAL / "README.md"]:
        assert set(re.findall(r"(?:\$ |`)ridelake (\w+)", page.read_text())) <= set(COMMANDS), page.name


def test_the_guides_link_and_name_existing_files_only():
    for guide in [*pages(), TUTORIAL / "README.md", ROOT / "docs" / "README.md", ROOT / "CONTRIBUTING.md"]:
        text = guide.read_text()
        for link in re.findall(r"\]\((?!https?://)([^)#]+)[^)]*\)", text):
            assert (guide.parent / link).exists(), (guide.name, link)
        for path in re.findall(r"`((?:ridelake|oltp|lakehouse|olap|bench|tests|docs)/[\w/.]+)`", text):
            assert "NAME" in path or (ROOT / path).exists(), (guide.name, path)


def test_the_glossary_has_at_most_15_terms_in_alphabetical_order():
    _, glossary = (ROOT / "docs" / "README.md").read_text().split("## Glossary")
    terms = re.findall(r"^\| (?!term\b)(\w+) \|", glossary, re.MULTILINE)
    assert 0 < len(terms) <= 15
    assert terms == sorted(terms)
