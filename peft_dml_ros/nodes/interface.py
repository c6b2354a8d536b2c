# SPDX-License-Identifier: Apache-2.0
"""Names in the interface of the perception node; needs no ROS. `peft_dml_tools.node_interface` lists all of it."""

from collections.abc import Iterable
from typing import Final

from peft_dml_ros.core.classes import MODALITIES
from peft_dml_ros.core.rig import modality_of_channel

NODE: Final = "perception"
_ENCODED: Final = ("inputs", "pictures", "moved", *MODALITIES)
#: From the stamp to the boxes' publication; `total` is all of it. Stages of several threads overlap. Tracks, and what
#: Autoware takes, are made after that: `objects`.
STAGES: Final = ("arrival", "wait", *_ENCODED, "fusion", "decode", "publish", "total", "objects")


def overlay_topic(camera: str) -> str:
    """Return the topic of a camera's picture with boxes; without its ending it is a base topic of image_transport."""
    return f"~/overlay/{camera.lower()}/compressed"


def cameras_of(sensors: Iterable[str]) -> list[str]:
    """Return those of the sensors that are cameras."""
    return [name for name in sensors if modality_of_channel(name) == "camera"]
