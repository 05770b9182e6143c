"""Numbers, durations, sizes, plurals and line breaks as text."""

import pytest

from ridelake.text import (
    cells,
    counted,
    digits,
    duration,
    first_line,
    fitted,
    grouped,
    listed,
    padded,
    ratio_text,
    size,
    wrapped,
)


@pytest.mark.parametrize(
    ("value", "text", "in_a_column"),
    [
        (1234567.8, "1,234,568", "1,234,568"),
        (999.7, "1,000", "1,000"),
        (100.0, "100", "100"),
        (12.345, "12.3", "12.3"),
        (2.0, "2", "2.00"),
        (0.214, "0.214", "0.214"),
        (0.00012345, "0.000123", "0.000123"),
        (0.0000123, "1.23e-05", "0.0000123"),
        (0, "0", "0"),
        (-1.5, "-1.5", "-1.50"),
    ],
)
def test_a_number_has_three_significant_digits(value: float, text: str, in_a_column: str):
    assert (digits(value), digits(value, zeros=True)) == (text, in_a_column)


def test_a_quantity_has_a_unit():
    assert [duration(each) for each in (45, 1.0, 0.00123, 4.5e-6, 2e-10)] == [
        "45 s",
        "1 s",
        "1.23 ms",
        "4.5 µs",
        "0.2 ns",
    ]
    assert [size(each) for each in (1, 404, 32_768, 999_700, 47_712_345, 10**15)] == [
        "1 byte",
        "404 bytes",
        "32.8 kB",
        "1 MB",
        "47.7 MB",
        "1,000 TB",
    ]
    assert [ratio_text(each) for each in (0.5, 1.25, 7.34, 25.2, 1600)] == [
        "0.50×",
        "1.25×",
        "7.3×",
        "25×",
        "1,600×",
    ]


def test_a_count_agrees_with_its_noun():
    assert [counted(each, "row") for each in (0, 1, 2000)] == ["0 rows", "1 row", "2,000 rows"]
    assert counted(2, "page access", "page accesses") == "2 page accesses"
    assert [listed(each) for each in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


def test_a_cell_is_grouped():
    assert [grouped(each) for each in (1234567, 0.12345, 1234.5, True, None, "x")] == [
        "1,234,567",
        "0.123",
        "1,234",
        "yes",
        "",
        "x",
    ]


def test_an_error_is_one_line():
    assert first_line(ValueError("\nfirst\nsecond")) == "first"
    assert first_line(ValueError()) == "ValueError"


def test_a_wide_character_takes_two_cells_and_a_combining_accent_none():
    assert [cells(each) for each in ("abc", "東京", "e\u0301")] == [3, 4, 1]
    assert padded("東京都", 5) == "東京…"
    assert padded("東京都", 4) == "東… "
    assert padded("7", 3, to_right=True) == "  7"


def test_the_widest_columns_are_narrowed_to_their_minimum():
    assert fitted([10, 20], [1, 12], 40) == [10, 20]
    assert fitted([10, 20], [1, 12], 24) == [10, 14]
    assert fitted([10, 20], [10, 12], 1) == [10, 12]


def test_prose_keeps_its_words_and_hangs_below_its_text():
    text = "   ✓ Iceberg: 12 rows of stand_fleet are equal to those in Postgres, by their checksums"
    lines = wrapped(text, 40).split("\n")
    assert lines[1:] == ["     equal to those in Postgres, by", "     their checksums"]
    assert wrapped(text, None) == text
    assert wrapped("a\n\n  b c", 40) == "a\n\n  b c"
    assert wrapped("x" * 50 + " y", 40) == "x" * 50 + "\ny"
