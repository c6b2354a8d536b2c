# SPDX-License-Identifier: Apache-2.0
"""Settings of fleet jobs in tests."""

from peft_dml_ros.nodes.parameter_file import NodeParams
from peft_dml_tools.fleet.detection import DetectionSettings
from peft_dml_tools.fleet.settings import fleet_settings


def settings(out: str, bundle: str, segment_s: float) -> DetectionSettings:
    """Return settings with a bundle and otherwise the node's defaults."""
    return fleet_settings(out, NodeParams(bundle=bundle), segment_s)
