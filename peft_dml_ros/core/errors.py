# SPDX-License-Identifier: Apache-2.0
"""Errors of this library. Each message says what is wrong, where, what would be right, and the fix."""

from collections.abc import Iterable
from difflib import get_close_matches


class PeftDmlError(Exception):
    """Base of every error that this library raises on purpose."""


class BundleError(PeftDmlError):
    """A model bundle is missing, altered, or does not fit this software."""


class ConfigError(PeftDmlError):
    """A parameter, class or sensor name is unknown, or a value is outside its range."""


class DataError(PeftDmlError):
    """A file or message does not hold what its format promises."""


class EngineError(PeftDmlError):
    """An inference engine cannot be built or refuses its inputs."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return the text that names the choice most like `name`, or all choices when none is near."""
    choices = sorted(choices)
    if not choices:
        return "there is none to choose from"
    near = get_close_matches(name, choices, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"choices: {', '.join(choices)}"


def one_line(error: OSError | ValueError) -> str:
    """Return what the file system or pydantic complains of, without error numbers and addresses of web pages."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    # Of a ValidationError; the class is not imported, because the command line's help does without pydantic.
    said = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in getattr(error, "errors", list[dict[str, str]])())
    return "; ".join(text.removeprefix(": ") for text in said)
