# SPDX-License-Identifier: Apache-2.0
"""Snapshot to network inputs: the only such path, for training and for the vehicle alike."""
from __future__ import annotations

from dataclasses import dataclass

from peft_dml_ros.core.classes import Modality
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_ros.core.typing import AnyArray, Float32Array


@dataclass(frozen=True, slots=True)
class NetworkInputs:
    """Arrays for the graphs.

    Attributes:
        feeds: Per present modality, the inputs of its encoder (`graph_inputs`); an absent modality has no entry.
        mask: (5,) float32, 1 where a modality is present, in `MODALITIES` order.
        age_s: (5,) float32 mean age of the newest measurements, 0 where absent.
        completeness: (5,) float32 share of what a full modality would deliver (sweeps, cameras, samples), 0 where absent.
    """

    feeds: dict[Modality, dict[str, AnyArray]]
    mask: Float32Array
    age_s: Float32Array
    completeness: Float32Array


class InputAssembler:
    """Makes network inputs; keeps the camera look-up table between frames while calibration does not change."""

    def __init__(self, spec: ModelSpec, rig: Rig) -> None:
        self.spec, self.rig = spec, rig

    def __call__(self, snapshot: Snapshot) -> NetworkInputs:
        """All inputs of one frame. Corrupt images and NaN points are dropped and counted in `dropped`."""
        raise NotImplementedError
