# SPDX-License-Identifier: Apache-2.0
"""The node's parameters and the commented YAML file of their defaults; needs no ROS.

python -m peft_dml_ros.nodes.parameter_file > config/perception.yaml
"""

from __future__ import annotations

import sys
from textwrap import wrap

import yaml
from pydantic import Field

from peft_dml_ros.core.params import ParamInfo, PerceptionParams, describe

WIDTH = 116


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


def parameter_file() -> str:
    """The text of `config/perception.yaml`: every parameter, its default, description and range."""
    lines = [
        "# SPDX-License-Identifier: Apache-2.0",
        "# Made by `python -m peft_dml_ros.nodes.parameter_file`; every value here is the default.",
        "perception:",
        "  ros__parameters:",
    ]
    group: list[str] = []
    for info in describe(NodeParams):
        *parents, name = info.name.split(".")
        if parents != group:
            lines += [f"{'  ' * (2 + depth)}{parent}:" for depth, parent in enumerate(parents)]
            group = parents
        indent = "  " * (2 + len(parents))
        lines += [f"{indent}# {line}" for line in wrap(_comment(info), WIDTH - len(indent))]
        lines += [f"{indent}{line}".rstrip() for line in _entry(name, info.default)]
    return "\n".join(lines) + "\n"


def _comment(info: ParamInfo) -> str:
    if info.minimum is None or info.maximum is None:
        return info.description
    return f"{info.description} ({info.minimum:g} to {info.maximum:g})"


def _entry(name: str, default: object) -> list[str]:
    value = list(default) if isinstance(default, tuple) else default
    text: str = yaml.safe_dump(value, default_flow_style=True, width=WIDTH - 20)
    return f"{name}: {text.removesuffix('...' + chr(10)).strip()}".splitlines()


if __name__ == "__main__":
    sys.stdout.write(parameter_file())
