# SPDX-License-Identifier: Apache-2.0
"""What processes of the tools take from their command line and tell whoever started them."""

import argparse
import json
import os
import re
import sys
from typing import Any


def pattern(text: str) -> re.Pattern[str]:
    """Return a regular expression given on a command line. Raises argparse.ArgumentTypeError: it is none."""
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"'{text}' is no regular expression: {error}") from None


def emit(event: str, **values: Any) -> None:
    """Write one JSON line to stdout for the process that watches this one; a reader that has gone is no error."""
    try:
        sys.stdout.write(json.dumps({"event": event, **values}) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # What else is written, also by the interpreter at its end, goes nowhere instead of raising again.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
