# SPDX-License-Identifier: Apache-2.0
"""On what a benchmark ran: processor, memory, versions, commit."""

import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import psutil

from peft_dml_ros import __version__

PACKAGES: Final = ("numpy", "opencv-python-headless", "embreex", "numba", "rosbags", "onnxruntime")


def machine() -> dict[str, object]:
    """Return the description for a report."""
    return {
        "processor": _processor(),
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "load_at_start": round(psutil.getloadavg()[0], 2),
    }


def software(repository: Path) -> dict[str, object]:
    """Return versions, and the commit of the checkout where there is one."""
    return {
        "peft_dml_ros": __version__,
        "commit": commit(repository),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        **{name: found for name in PACKAGES if (found := _version(name))},
    }


def commit(repository: Path) -> str | None:
    """Return the short hash of the package's last commit, `-dirty` where files differ from it; None without git."""
    last = _git(repository, "log", "-1", "--format=%h", "--abbrev=10", "--", "peft_dml_ros")
    altered = _git(repository, "status", "--porcelain", "--", "peft_dml_ros")
    return f"{last}-dirty" if last and altered else last or None


def _git(repository: Path, *arguments: str) -> str:
    command = ("git", *arguments)
    try:
        return subprocess.run(  # noqa: S603
            command, cwd=repository, capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
