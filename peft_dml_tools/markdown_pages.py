# SPDX-License-Identifier: Apache-2.0
"""Sections of Markdown pages that scripts make, between two marks each."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table of cells, each written as it prints."""
    lines = [f"| {' | '.join(map(str, cells))} |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def fill_section(page: str, begin: str, text: str, end: str) -> str:
    """Return a page with what stands between two marks, HTML comments for example, replaced."""
    pattern = f"{re.escape(begin)}.*?{re.escape(end)}"
    return re.sub(pattern, lambda _: f"{begin}\n{text}\n{end}", page, flags=re.DOTALL)


def fill_page(path: Path, begin: str, text: str, end: str) -> None:
    """Replace a section of a page on disk, see `fill_section`."""
    path.write_text(fill_section(path.read_text(encoding="utf-8"), begin, text, end), encoding="utf-8")
