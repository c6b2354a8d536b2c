# SPDX-License-Identifier: Apache-2.0
"""Read a cell's JSON file leniently."""

import json
from pathlib import Path
from typing import Any


def read(path: Path) -> dict[str, Any] | None:
    """Return a result; none where there is no file or a damaged one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
