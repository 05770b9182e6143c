"""The answers of several engines to one question: are they one answer, and if not, who stands alone?"""

from typing import TYPE_CHECKING

from ridelake.errors import ProofFailed

if TYPE_CHECKING:
    import pyarrow as pa

    from olap.question import Question


class AnswersDiffer(ProofFailed):
    """An answer is wrong somewhere. `rows` of each engine's; `trusted`: those on whose answer most
    agree, none if it is one against one."""

    def __init__(self, message: str, rows: "dict[str, int]", trusted: frozenset[str]) -> None:
        super().__init__(message)
        self.rows = rows
        self.trusted = trusted


def compare(question: "Question", answers: "dict[str, pa.Table]") -> None:
    """Raises AnswersDiffer unless all engines gave the same."""
    reference, *others = answers
    if not others:
        return
    from olap.answer import difference  # who asks one engine need not load it

    found = {
        name: difference(answers[reference], answers[name], ordered=question.ordered, names=(reference, name))
        for name in others
    }
    if not any(found.values()):
        return
    differing = "; ".join(told for told in found.values() if told)
    equal = [name for name, told in found.items() if told is None]
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
    """The engines on whose answer more than half agree."""
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
