# SPDX-License-Identifier: Apache-2.0
"""One detector, two drivers: the live node over DDS and `peft-dml run` give the same boxes for the same input."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from peft_dml_ros.core.params import PaceParams, PerceptionParams
from peft_dml_tools.datasets.source import open_source
from peft_dml_tools.live.children import Child
from peft_dml_tools.live.environment import ros_environment
from peft_dml_tools.live.readback import PlayedDrive, read_session
from peft_dml_tools.live.session import BOXES
from peft_dml_tools.run.offline import OfflineDetector
from tests.tools.commands.conftest import DRIVE_S

pytestmark = pytest.mark.ros

RATE = 0.25
LIMIT_S = 60.0
# Before this, the live node may still lack a calibration or a message that came before it was listening.
SETTLED_NS = 1_100_000_000


def until(condition, *children: Child) -> None:
    limit = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < limit, [child.last_words for child in children]
        assert all(child.code in {None, 0} for child in children), [child.last_words for child in children]
        time.sleep(0.05)


def live(bag: Path, bundle: Path, folder: Path):
    """Frames of the node, with stamps as in the bag."""
    environment = ros_environment(int(os.environ["ROS_DOMAIN_ID"]), "LOCALHOST", folder)
    recording, nodes = folder / "live.mcap", "peft_dml_tools.nodes"
    # Which frames an encoder with a pace of its own skips depends on the first one, and on the load of the machine.
    every = ["-p", "pace.camera_hz:=0.0", "-p", "load.keep:=[cameras, radars, sweeps]"]
    parameters = ["-p", f"bundle:={bundle}", "-p", "use_sim_time:=true", *every]
    recorder = Child("recorder", f"{nodes}.recorder", ["--out", str(recording)], environment)
    perception = Child("perception", "peft_dml_ros.nodes.perception", ["--ros-args", *parameters], environment)
    listeners = [f"/{t}=2" for t in ("lidar_top/points", "cam_back_left/image/compressed", "imu/data", "gnss/fix")]
    arguments = [str(bag), "--json", "--rate", str(RATE), "--wait-s", str(LIMIT_S), "--wait-for", *listeners]
    replay = Child("replay", f"{nodes}.replay", arguments, environment)
    children = (recorder, perception, replay)
    try:
        until(lambda: replay.code == 0, *children)
        assert recorder.value("progress", "counts")[BOXES] > 0
        time.sleep(0.5)
    finally:
        for child in reversed(children):
            child.stop()
    shift_ns, begin_ns = replay.value("start", "shift_ns"), replay.value("start", "begin_ns")
    played = PlayedDrive("", begin_ns + shift_ns, begin_ns + shift_ns + int(DRIVE_S * 1e9), 0)
    return {frame.stamp_ns - shift_ns: frame for frame in read_session(recording, played).frames}


def offline(bag: Path, bundle: Path):
    source = open_source(bag)
    driver = OfflineDetector(
        PerceptionParams(bundle=str(bundle), pace=PaceParams(camera_hz=0.0)), source.rig, tuple(source.rig.sensors)
    )
    return {frame.stamp_ns: frame for frame in driver.stream(source.measurements())}


def test_node_and_run_give_the_same_boxes(bag, bundle, tmp_path):
    there, here = live(bag, bundle, tmp_path), offline(bag, bundle)
    begin_ns = min(here)
    expected = [stamp for stamp in here if stamp - begin_ns > SETTLED_NS]
    assert len(expected) >= 9
    # A busy machine may swap two messages on the way; only frames of the same input can be the same.
    same_input = [s for s in expected if s in there and np.allclose(there[s].age_s, here[s].age_s, atol=1.1e-3)]
    assert len(same_input) >= 0.6 * len(expected), (sorted(there), sorted(here))
    for stamp in same_input:
        own, theirs = here[stamp], there[stamp]
        assert own.reference == theirs.reference
        assert np.array_equal(own.mask, theirs.mask)
        assert np.allclose(own.gate, theirs.gate, atol=1.1e-3)
        assert len(own.boxes) == len(theirs.boxes) > 0
        for name in ("centers_m", "sizes_m", "yaws_rad", "labels", "scores", "attributes"):
            assert np.allclose(getattr(own.boxes, name), getattr(theirs.boxes, name), atol=1e-5), name
        assert np.allclose(own.boxes.velocities_mps, theirs.boxes.velocities_mps, atol=1e-4)
