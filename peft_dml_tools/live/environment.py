# SPDX-License-Identifier: Apache-2.0
"""Environment variables of a session's processes: discovery range and the transport profile for large clouds."""

from __future__ import annotations

import os
import socket
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.middleware import require_middleware

PROFILE: Final = "fastdds_large_messages.xml"


def require_ros() -> None:
    """Check that the nodes can start at all, before anything slow starts.

    Raises ConfigError: ROS 2 or a message package is missing, or the chosen middleware is not installed.
    """
    if find_spec("rclpy") is None:
        raise ConfigError(
            "ROS 2 for Python is missing; fix: source a ROS installation (source /opt/ros/$ROS_DISTRO/setup.bash), "
            "or install it from the package index: pip install 'peft_dml_ros[ros]'"
        )
    if missing := [name for name in ("vision_msgs", "tf2_msgs") if find_spec(name) is None]:
        packages = " ".join(f"ros-$ROS_DISTRO-{name.replace('_', '-')}" for name in missing)
        raise ConfigError(
            f"message packages are missing: {', '.join(missing)}; fix: install them (apt install {packages}), "
            "or build them in the repository: python interfaces/build.py"
        )
    require_middleware()


@contextmanager
def alone_in(domain_id: int, out: Path | None = None) -> Iterator[None]:
    """Hold a ROS domain, and a folder of results, against other sessions on this host.

    They would hear, and record, each other's sensors, and remove each other's recording. Raises ConfigError: another
    session is in that domain, or writes to that folder.
    """
    claims = {f"domain_{domain_id}": (f"another demo runs in ROS domain {domain_id}", "--domain-id NUMBER")}
    if out is not None:
        digest = blake2b(str(out.resolve()).encode(), digest_size=16).hexdigest()
        claims[f"out_{digest}"] = f"another demo writes to {out}", "--out FOLDER"
    with ExitStack() as stack:
        for name, (problem, option) in claims.items():
            claim = stack.enter_context(socket.socket(socket.AF_UNIX))
            try:
                # A name without a file: the kernel releases it with the process, however that ends.
                claim.bind(f"\0peft_dml_{name}")
            except OSError:
                raise ConfigError(f"{problem}; fix: wait, or {option}") from None
        yield


def shared_file(*parts: str) -> Path | None:
    """Return a file below config/ and the like, in the repository or an installed share folder; None when absent."""
    shares = [Path(prefix) / "share" for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(":") if prefix]
    shares.append(Path(sysconfig.get_path("data")) / "share")
    folders = [Path(__file__).resolve().parents[2], *(share / "peft_dml_ros" for share in shares)]
    return next((path for folder in folders if (path := folder.joinpath(*parts)).is_file()), None)


def ros_environment(domain_id: int, discovery: str, logs: Path) -> dict[str, str]:
    """Return the variables for the nodes of one session.

    Args:
        domain_id: ROS domain.
        discovery: Value of ROS_AUTOMATIC_DISCOVERY_RANGE; SYSTEM_DEFAULT leaves the user's own.
        logs: Folder for the nodes' log files.
    """
    variables = {
        "ROS_DOMAIN_ID": str(domain_id),
        "ROS_LOG_DIR": str(logs),
        "RCUTILS_LOGGING_BUFFERED_STREAM": "0",
        # The engine has its own threads; more would only compete.
        "OMP_NUM_THREADS": "1",
    }
    if discovery != "SYSTEM_DEFAULT":
        variables["ROS_AUTOMATIC_DISCOVERY_RANGE"] = discovery
    profile = shared_file("config", PROFILE)
    if profile is not None:
        for name in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"):
            variables[name] = os.environ.get(name, str(profile))
    return variables
