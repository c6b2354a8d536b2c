# SPDX-License-Identifier: Apache-2.0
"""Tables in Markdown."""

import math
from collections.abc import Sequence

from peft_dml_evidence.report.results import Figure, compare
from peft_dml_evidence.statistics import ratio
from peft_dml_tools.markdown_pages import markdown_table

MISSING = "not run"


def number(figure: Figure | float | None, digits: int = 3) -> str:
    """Return a figure, or that there is none."""
    if figure is None:
        return MISSING
    return figure.text(digits) if isinstance(figure, Figure) else f"{figure:.{digits}f}"


def percent(above: Figure | None, below: Figure | None) -> str:
    """Return one figure relative to another, on the seeds that both have."""
    found = compare(ratio, above, below)
    if found is None:
        return MISSING
    return f"{found.value:.1%}" if math.isfinite(found.value) else "-"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines, with an empty one behind."""
    return [*markdown_table(head, rows).splitlines(), ""]
