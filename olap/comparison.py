"""Compare the answers of several engines to one question."""

from typing import TYPE_CHECKING

from ridelake.errors import ProofFailed

if TYPE_CHECKING:
    import pyarrow as pa

    from olap.question import Question


class AnswersDiffer(ProofFailed):
    """The engines gave different answers. `rows`: number of rows by engine; `trusted`: the engines that share
    the answer of the majority, empty without a majority."""

    def __init__(self, message: str, rows: "dict[str, int]", trusted: frozenset[str]) -> None:
        super().__init__(message)
        self.rows = rows
        self.trusted = trusted


def compare(question: "Question", answers: "dict[str, pa.Table]") -> None:
    """Raises AnswersDiffer unless all answers are equal."""
    reference, *others = answers
    if not others:
        return
    from olap.answer import difference  # imported late: one engine needs no comparison

    found = {
        name: difference(answers[reference], answers[name], ordered=question.ordered, names=(reference, name))
        for name in others
    }
    if not any(found.values()):
        return
    differing = "; ".join(message for message in found.values() if message)
    equal = [name for name, message in found.items() if message is None]
    agreeing = (
        f"; {' and '.join(equal)} {'agrees' if len(equal) == 1 else 'agree'} with {reference}"
        if equal
        else ""
    )
    raise AnswersDiffer(
        f"✗ the answers differ, so no times are shown: {differing}{agreeing}",
        {name: answer.num_rows for name, answer in answers.items()},
        _trusted(question, answers),
    )


def _trusted(question: "Question", answers: "dict[str, pa.Table]") -> frozenset[str]:
    """The engines that share the answer of more than half of all."""
    from olap.answer import difference

    groups: list[list[str]] = []
    for name, answer in answers.items():
        alike = (g for g in groups if difference(answers[g[0]], answer, ordered=question.ordered) is None)
        group = next(alike, None)
        if group is None:
            groups.append(group := [])
        group.append(name)
    largest = max(groups, key=len)
    return frozenset(largest if 2 * len(largest) > len(answers) else ())
