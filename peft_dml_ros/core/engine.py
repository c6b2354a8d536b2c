# SPDX-License-Identifier: Apache-2.0
"""The one interface of all inference engines."""

from typing import Protocol

from peft_dml_ros.core.typing import AnyArray


class Engine(Protocol):
    """One compiled graph."""

    @property
    def inputs(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and numpy dtype name of each input."""

    def __call__(self, feeds: dict[str, AnyArray]) -> dict[str, AnyArray]:
        """Run the graph.

        Args:
            feeds: One array per input, of the declared shape and dtype.

        Raises:
            EngineError: an input is missing, or has another shape or dtype.
        """
