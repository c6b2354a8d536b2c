# SPDX-License-Identifier: Apache-2.0
"""The node's parameters; needs no ROS. `docs/make_config.py` writes the commented file of their defaults."""

from typing import Final

from pydantic import Field

from peft_dml_ros.core.params import PerceptionParams

#: Parameters whose change loads another model while the node runs
MODEL_PARAMETERS: Final = ("bundle", "adapter", "engine", "precision", "threads")
READ_ONLY: Final = frozenset({"trusted_key"})  #: Who may set parameters of a running node may not choose whom it trusts


class NodeParams(PerceptionParams):
    """What the node takes beyond the parameters that every driver of the detector shares."""

    autostart: bool = Field(default=True, description="Configure and activate at once, without a lifecycle manager")
    autodetect: bool = Field(
        default=False, description="Find the topics of sensors by name, type and frame where nobody publishes the usual"
    )
    startup_timeout_s: float = Field(
        5.0, ge=0.5, le=600.0, description="After this long the log says which sensors are missing, and the fix"
    )
    autoware: bool = Field(
        default=False, description="Publish ~/objects, ~/tracked_objects and ~/predicted_objects of Autoware as well"
    )
    calibration: str = Field("", description="Calibration file for sensors without /tf_static or CameraInfo")
