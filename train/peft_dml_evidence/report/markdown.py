# SPDX-License-Identifier: Apache-2.0
"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from peft_dml_evidence.report.results import Figure

MISSING = "not run"


def number(figure: Figure | float | None, digits: int = 3) -> str:
    """A figure, or that there is none."""
    if figure is None:
        return MISSING
    return figure.text(digits) if isinstance(figure, Figure) else f"{figure:.{digits}f}"


def percent(above: Figure | None, below: Figure | None) -> str:
    """One figure relative to another."""
    if above is None or below is None:
        return MISSING
    return f"{above.value / below.value:.1%}" if below.value else "-"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines, with an empty one behind."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]
