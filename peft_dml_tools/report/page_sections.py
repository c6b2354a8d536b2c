# SPDX-License-Identifier: Apache-2.0
"""Sections of Markdown pages that scripts make, between two marks each."""

import re


def fill_section(page: str, begin: str, text: str, end: str) -> str:
    """Return a page with what stands between two marks replaced.

    Args:
        page: The page.
        begin: Mark before the section, e.g. an HTML comment.
        text: What to put on the lines between the marks.
        end: Mark behind it.
    """
    pattern = f"{re.escape(begin)}.*?{re.escape(end)}"
    return re.sub(pattern, lambda _: f"{begin}\n{text}\n{end}", page, flags=re.DOTALL)
