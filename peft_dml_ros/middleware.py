# SPDX-License-Identifier: Apache-2.0
"""Checks the choice of ROS middleware before rclpy is imported: rcl ends the process at a wrong one, without a hint."""

import os
import sys
from pathlib import Path

from peft_dml_ros.core.errors import ConfigError

VARIABLE = "RMW_IMPLEMENTATION"
_CHOOSER = "rmw_implementation"


def require_middleware() -> None:
    """Check the chosen middleware and domain. Raises ConfigError: one is not there; names those that are."""
    domain = os.environ.get("ROS_DOMAIN_ID") or "0"
    if not domain.isdecimal() or int(domain) > 232:  # above it, the ports of DDS end
        raise ConfigError(f"ROS_DOMAIN_ID is '{domain}'; fix: export a whole number from 0 to 232, or unset it")
    wanted = os.environ.get(VARIABLE, "")
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    indices = [Path(prefix, "share", "ament_index", "resource_index") for prefix in prefixes if prefix]
    found = {path.name for index in indices for path in index.glob("rmw_typesupport_cpp/rmw_*")} - {_CHOOSER}
    # Without an index, rcl has to find out.
    if not wanted or not found or any((index / "packages" / wanted).is_file() for index in indices):
        return
    raise ConfigError(
        f"{VARIABLE} is '{wanted}', which is not installed; installed: {', '.join(sorted(found))}; "
        f"fix: choose one of these or none (unset {VARIABLE}), or install it "
        f"(apt install ros-$ROS_DISTRO-{wanted.replace('_', '-')})"
    )
