# SPDX-License-Identifier: Apache-2.0
"""Rules of the machine: Python and its packages, engines, bundle, parameters, ROS installation, transport."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import psutil

from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.errors import PeftDmlError
from peft_dml_ros.core.params import PerceptionParams
from peft_dml_ros.engines import load_engines
from peft_dml_tools.commands.doctor.rules import DoctorContext, Finding, rule
from peft_dml_tools.datasets.checks.severity import Severity
from peft_dml_tools.live.environment import PROFILE, require_ros, shared_file
from peft_dml_tools.parameter_files import load_params

OLDEST: Final = (3, 10)
PACKAGES: Final = ("numpy", "cv2", "numba", "onnxruntime", "pydantic", "yaml", "rosbags", "pymap3d")
INSTALL: Final = {"cv2": "opencv-python-headless"}
SEGMENT_BYTES: Final = 16 << 20
SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108  where Linux keeps it
FREE_BYTES: Final = 64 << 20
FREE_MEMORY_MB: Final = 1000


@rule("ENV001", Severity.ERROR, "Python is 3.10 or newer, of 64 bits")
def python_version(_: DoctorContext) -> Iterator[Finding]:
    """Check the interpreter."""
    if sys.version_info < OLDEST or sys.maxsize < 2**32:
        yield Finding(f"Python {platform.python_version()}", "use Python 3.10 to 3.14, as ROS 2 Humble and later bring")


@rule("ENV002", Severity.ERROR, "The packages of the runtime can be imported, and fit this numpy")
def packages(_: DoctorContext) -> Iterator[Finding]:
    """Import each: an extension that was built for another numpy fails then."""
    for name in PACKAGES:
        try:
            import_module(name)
        except Exception as error:  # noqa: BLE001, PERF203  an extension may raise anything
            package = INSTALL.get(name, name)
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            yield Finding(
                f"{name}: {reason}", f"pip install --force-reinstall '{package}' (numpy is {_version('numpy')})"
            )


@rule("ENV003", Severity.WARNING, "There is memory for the model, 1 GB")
def memory(_: DoctorContext) -> Iterator[Finding]:
    """Check the memory that is available without swapping."""
    free_mb = psutil.virtual_memory().available >> 20
    if free_mb < FREE_MEMORY_MB:
        yield Finding(f"{free_mb} MB are available", "stop what is not needed, or use a machine with more memory")


@rule("CFG001", Severity.ERROR, "The node's parameters are valid")
def parameters(context: DoctorContext) -> Iterator[Finding]:
    """Load the file, if one is given."""
    if context.params_file:
        try:
            load_params(Path(context.params_file), model=_node_params())
        except PeftDmlError as error:
            yield Finding(str(error), "correct the named values; config/perception.yaml is an example")


@rule("BUN001", Severity.ERROR, "The bundle is whole and signed by whom the parameters trust")
def bundle(context: DoctorContext) -> Iterator[Finding]:
    """Load the bundle that the node would load."""
    try:
        load_bundle(_bundle_of(context), _params_of(context).trusted_key)
    except PeftDmlError as error:
        yield Finding(str(error), "export it again or restore it; bundle:=demo is the one that comes with this package")


@rule("ENG001", Severity.ERROR, "The engine loads the bundle")
def engine(context: DoctorContext) -> Iterator[Finding]:
    """Load every graph as the node does."""
    params = _params_of(context)
    try:
        found = load_bundle(_bundle_of(context))
    except PeftDmlError:
        return  # BUN001 reports it
    try:
        load_engines(found, params.engine, params.threads, params.precision)
    except PeftDmlError as error:
        yield Finding(f"engine '{params.engine}': {error}", "set engine:=onnxruntime, which needs nothing but a CPU")


@rule("ROS001", Severity.ERROR, "ROS 2 for Python, its message packages and the chosen middleware are installed")
def ros(_: DoctorContext) -> Iterator[Finding]:
    """Check what every command that starts a node checks."""
    try:
        require_ros()
    except PeftDmlError as error:
        what, fix = ([*str(error).split("; ", 1), ""])[:2]
        yield Finding(what, fix.removeprefix("fix: ") or "install what is named")


@rule("ROS002", Severity.INFO, "Domain and range of discovery are the intended ones")
def discovery(_: DoctorContext) -> Iterator[Finding]:
    """Name domain and range: two robots in one domain hear each other."""
    domain = os.environ.get("ROS_DOMAIN_ID", "0")
    reach = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    yield Finding(f"domain {domain}, range {reach}", "ROS_DOMAIN_ID and ROS_AUTOMATIC_DISCOVERY_RANGE change it")


@rule("DDS001", Severity.WARNING, "Fast DDS has room for a LiDAR sweep in shared memory")
def segment(_: DoctorContext) -> Iterator[Finding]:
    """Check the segment: without room, best-effort sweeps of more than 0.5 MB are lost."""
    if os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp") != "rmw_fastrtps_cpp":
        return
    shipped = shared_file("config", PROFILE)
    fix = f"export FASTDDS_DEFAULT_PROFILES_FILE={shipped} in every process (the launch files and the demo do it)"
    names = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
    file = next((os.environ[name] for name in names if os.environ.get(name)), "")
    if not file:
        yield Finding("no transport profile is set here: the segment has 512 KiB, a sweep of nuScenes 694 kB", fix)
        return
    try:
        sizes = [int(e.text or 0) for e in ET.parse(file).iter() if e.tag.endswith("segment_size")]  # noqa: S314
    except (OSError, ET.ParseError, ValueError) as error:
        yield Finding(f"profile {file} cannot be read: {error}", fix)
        return
    if max(sizes, default=0) < SEGMENT_BYTES:
        yield Finding(f"profile {file} gives {max(sizes, default=0) >> 10} KiB of shared memory", fix)


@rule("DDS002", Severity.WARNING, "Shared memory is there and has room")
def shared_memory(_: DoctorContext) -> Iterator[Finding]:
    """Check its free space: killed processes leave segments, and containers have little."""
    if not SHARED_MEMORY.is_dir():
        return
    free = shutil.disk_usage(SHARED_MEMORY).free
    if free < FREE_BYTES:
        count = len(list(SHARED_MEMORY.glob("fastrtps_*")))
        fix = "remove fastrtps_* there while no node runs, or give a container more (docker run --shm-size=256m)"
        yield Finding(f"{SHARED_MEMORY} has {free >> 20} MB free, {count} files of Fast DDS", fix)


def _params_of(context: DoctorContext) -> PerceptionParams:
    try:
        return (
            load_params(Path(context.params_file), model=_node_params()) if context.params_file else PerceptionParams()
        )
    except PeftDmlError:
        return PerceptionParams()


def _node_params() -> type[PerceptionParams]:
    from peft_dml_ros.nodes.parameter_file import NodeParams

    return NodeParams


def _bundle_of(context: DoctorContext) -> str:
    return context.bundle or _params_of(context).bundle


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
