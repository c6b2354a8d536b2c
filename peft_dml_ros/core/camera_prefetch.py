# SPDX-License-Identifier: Apache-2.0
"""Cameras in a thread of their own: pictures are awaited and encoded while the inputs of the other sensors are made.

Pictures are there before the LiDAR sweep that sets the time of a frame, and decoded by then; pillars are not.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from peft_dml_ros.core.engine import Engine, EngineArray
    from peft_dml_ros.core.inputs import InputAssembler, Made
    from peft_dml_ros.core.snapshot import Snapshot
    from peft_dml_ros.core.typing import AnyArray


@dataclass(frozen=True, slots=True)
class Encoded:
    """What the camera encoder made.

    Attributes:
        feeds: Of these inputs.
        latent: Its output.
        spent_ms: Wall time that it took.
    """

    feeds: dict[str, AnyArray]
    latent: EngineArray
    spent_ms: float


@dataclass(frozen=True, slots=True)
class Begun:
    """One frame's cameras, under way; both results raise what went wrong.

    Attributes:
        pictures: Inputs of the encoder, and what was dropped.
        encoded: None when there is nothing new to encode.
    """

    pictures: Future[tuple[Made, Counter[str]]]
    encoded: Future[Encoded | None]


class CamerasBeside:
    """One thread that takes the frames' cameras one after the other.

    Args:
        assemble: Makes the inputs; its cameras belong to this thread from now on.
        engine: The camera encoder.
    """

    def __init__(self, assemble: InputAssembler, engine: Engine) -> None:
        self._assemble, self._engine = assemble, engine
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cameras")

    def begin(self, snapshot: Snapshot, before: dict[str, AnyArray] | None, latent_before: EngineArray | None) -> Begun:
        """Begin a frame's cameras; returns at once.

        Args:
            snapshot: The frame.
            before: Inputs of the encoder's last run: the same again are not encoded again.
            latent_before: What it gave. An encoder that leaves it on an accelerator returns at once anyway, and is
                left to the caller, like one that has not run yet.
        """
        pictures = self._thread.submit(self._assemble.pictures, snapshot)
        here = isinstance(latent_before, np.ndarray)
        return Begun(pictures, self._thread.submit(self._encode, pictures, before, here))

    def _encode(
        self, pictures: Future[tuple[Made, Counter[str]]], before: dict[str, AnyArray] | None, here: object
    ) -> Encoded | None:
        made, _ = pictures.result()
        if made is None or made[0] is before or not here:
            return None
        start = perf_counter()
        latent = self._engine.start(made[0])["latent"]
        return Encoded(made[0], latent, (perf_counter() - start) * 1e3)
