# SPDX-License-Identifier: Apache-2.0
"""What all tests share: an isolated ROS graph and the paths of optional real data.

The ROS wheels restart Python once to set the library path. They do so from a .pth file, when the interpreter starts and
before pytest does, so nothing is collected twice and no test has to care. The processes that a test starts with
`sys.executable` inherit the path and do not restart.
"""

import os
import tempfile
import zlib
from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parents[1]

# Before any rclpy import: discovery stays on this host, whatever the shell is set to, and every worker of every run has
# a domain of its own: twelve runs of four. Above 101 a domain's ports are those of outgoing connections.
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
DOMAIN_ID = int(os.environ.get("PEFT_DML_TEST_DOMAIN_ID", 52 + 4 * (zlib.crc32(RUN.encode()) % 12)))
os.environ["ROS_DOMAIN_ID"] = str(DOMAIN_ID + WORKER)
# The profile of every process that this project starts, so that two of them find each other within half a second.
for name in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"):
    os.environ.setdefault(name, str(REPOSITORY / "config" / "fastdds_large_messages.xml"))
os.environ.setdefault("ROS_LOG_DIR", str(Path(tempfile.gettempdir()) / "peft_dml_ros_log"))

# Workers fill the cores already; threads that wait for each other would spin.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# On a busy machine a single example may take any time.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


TRIES = 2
"""More tries of a test of real nodes: they share the processors with other tests, and what comes too late is lost."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order files by their slow tests, most first: a worker that begins with a long one leaves the others the rest."""
    for item in items:
        if item.get_closest_marker("ros") or item.get_closest_marker("alone"):
            item.add_marker(pytest.mark.flaky(reruns=TRIES))
    slow: dict[Path, int] = {}
    for item in items:
        slow[item.path] = slow.get(item.path, 0) + (item.get_closest_marker("slow") is not None)
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real sensor data; tests that ask for it are skipped where it is absent."""
    named = os.environ.get("PEFT_DML_REAL_DATA")
    places = [Path(named)] if named else [parent / "shared" / "real" for parent in REPOSITORY.parents[:2]]
    folder = next((place for place in places if place.is_dir()), None)
    if folder is None:
        pytest.skip("no real sensor data; set PEFT_DML_REAL_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def real_keyframe(request) -> Path:
    """Return the folder of a real nuScenes keyframe; tests that ask for it are skipped where it is absent."""
    named = os.environ.get("PEFT_DML_REAL_KEYFRAME")
    folder = Path(named) if named else request.getfixturevalue("real_data") / "nuscenes_keyframe"
    if not folder.is_dir():
        pytest.skip("no real nuScenes keyframe; set PEFT_DML_REAL_KEYFRAME to its folder")
    return folder


@pytest.fixture(scope="session")
def miniature(tmp_path_factory) -> Path:
    """A small simulated nuScenes folder, made once; tests that change files copy it."""
    pytest.importorskip("embreex")
    from tests.support.miniature import make_miniature

    return make_miniature(tmp_path_factory.mktemp("miniature"))
