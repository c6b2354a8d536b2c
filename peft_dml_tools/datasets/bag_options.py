# SPDX-License-Identifier: Apache-2.0
"""What the node's parameter file says of a recording: so that offline commands read it as the node would."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from peft_dml_ros.conversions import topics
from peft_dml_ros.core.calibration import load_calibration
from peft_dml_ros.core.params import InputParams, numbers_by_sensor
from peft_dml_ros.core.rig import Rig

if TYPE_CHECKING:
    from peft_dml_ros.nodes.parameter_file import NodeParams


@dataclass(frozen=True, slots=True)
class BagOptions:
    """What the node's parameters say of a bag."""

    inputs: InputParams = field(default_factory=InputParams)  #: Topics, intensity, rectified cameras
    base_frame: str = topics.BASE_FRAME  #: Frame of the vehicle
    #: Sensors whose mounting, and projection, are known beforehand; these count, whatever the bag says
    calibration: Rig = field(default_factory=Rig)
    described_by: str = ""  #: File that the options are from, for messages
    #: What is added to a sensor's stamps, in ns: `sync.offsets`, which must not count again in the synchroniser
    offsets_ns: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, params: NodeParams, described_by: str = "") -> BagOptions:
        """Return the options that the node's parameters give. Raises ConfigError: the calibration cannot be read."""
        given = load_calibration(Path(params.calibration)) if params.calibration else Rig()
        offsets = {name: round(s * 1e9) for name, s in numbers_by_sensor(params.sync.offsets).items()}
        return cls(params.inputs, params.base_frame, given, described_by, offsets)


def without_offsets(params: NodeParams) -> NodeParams:
    """Return the parameters for a synchroniser that reads a bag, whose stamps are corrected as it is read."""
    return params.model_copy(update={"sync": params.sync.model_copy(update={"offsets": ()})})
