# SPDX-License-Identifier: Apache-2.0
"""Short names for what a result or a file was made from."""

import hashlib
import json
from typing import Any


def digest(content: Any, digits: int = 12) -> str:
    """Return the hexadecimal digits of the hash of anything that JSON can hold."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:digits]
