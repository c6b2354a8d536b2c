# SPDX-License-Identifier: Apache-2.0
"""Engines of the models used last, so that going back to an adapter costs no load."""

import os
from collections.abc import Mapping
from typing import Final, TypeAlias

from peft_dml_ros.core.bundle import Bundle
from peft_dml_ros.core.engine import Engine
from peft_dml_ros.engines import load_engines

MOST: Final = 2  #: Models whose engines are kept: the one in use and the one before it
LEAST_FREE_BYTES: Final = 512 << 20  #: Where less memory is free, only the newest engines are kept
Key: TypeAlias = tuple[str, str, int, str]


class KeptEngines:
    """The engines of up to `MOST` models, the least recently used go first.

    A model is known by the content of its graphs and adapters, so that files that have changed are loaded again.
    """

    def __init__(self) -> None:
        self._kept: dict[Key, Mapping[str, Engine]] = {}

    def engines(
        self, bundle: Bundle, engine: str, threads: int, precision: str = "auto"
    ) -> tuple[Mapping[str, Engine], bool]:
        """Return one engine per graph, and True where they were loaded now; see `load_engines`.

        Raises EngineError: as `load_engines` does; what is kept stays.
        """
        key = (bundle.identity, engine, threads, precision)
        fresh = key not in self._kept
        found = load_engines(bundle, engine, threads, precision) if fresh else self._kept.pop(key)
        self._kept[key] = found
        while len(self._kept) > (MOST if _free_bytes() >= LEAST_FREE_BYTES else 1):
            del self._kept[next(iter(self._kept))]
        return found, fresh

    def clear(self) -> None:
        """Let all of them go."""
        self._kept.clear()


def _free_bytes() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
