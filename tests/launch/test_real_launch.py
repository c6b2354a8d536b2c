# SPDX-License-Identifier: Apache-2.0
"""The launch files under the real `launch` and `launch_ros`, with real nodes, where ROS brings them."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.drive_bag import make_drive_bag

pytest.importorskip("launch", reason="launch comes with a ROS distribution only")
pytest.importorskip("launch_ros.actions", reason="launch_ros comes with a ROS distribution only")
pytestmark = [pytest.mark.ros, pytest.mark.slow]

START = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
service = LaunchService()
given = [argument.split(":=", 1) for argument in sys.argv[2:]]
source = PythonLaunchDescriptionSource(sys.argv[1])
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(source, launch_arguments=given)]))
sys.exit(service.run())
"""


@pytest.fixture
def prefix(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ament prefix with this package: share tree, marker, and executables that run this interpreter."""
    root = tmp_path / "prefix"
    marker = root / "share" / "ament_index" / "resource_index" / "packages" / "peft_dml_ros"
    marker.parent.mkdir(parents=True)
    marker.touch()
    for folder in ("launch", "config"):
        shutil.copytree(repository / folder, root / "share" / "peft_dml_ros" / folder)
    executables = root / "lib" / "peft_dml_ros"
    executables.mkdir(parents=True)
    for name, module in (("perception", "peft_dml_ros.nodes.perception"), ("replay", "peft_dml_tools.nodes.replay")):
        script = executables / name
        script.write_text(f'#!/bin/sh\necho "started {name}"\nexec {sys.executable} -m {module} "$@"\n')
        script.chmod(0o755)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{root}:{os.environ.get('AMENT_PREFIX_PATH', '')}")
    monkeypatch.setenv("PYTHONPATH", f"{repository}:{os.environ.get('PYTHONPATH', '')}")
    return root


def launched(prefix: Path, file: str, *arguments: str, until: str, log: Path) -> tuple[str, int]:
    """Launch a file until a text is seen, or 60 s are over; then SIGINT. Returns what was said, and the exit code."""
    path = prefix / "share" / "peft_dml_ros" / "launch" / f"{file}.launch.py"
    with log.open("w") as out:
        command = [sys.executable, "-c", START, str(path), *arguments]
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            deadline = time.monotonic() + 60
            while process.poll() is None and until not in log.read_text() and time.monotonic() < deadline:
                time.sleep(0.1)
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            code = process.wait(timeout=20)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(timeout=10)
    return log.read_text(), code


def test_a_bag_is_played_once_the_node_listens(prefix: Path, tmp_path: Path) -> None:
    bag = make_drive_bag(tmp_path / "drive.mcap", 2000)
    said, code = launched(prefix, "perception", f"bag:={bag}", until="played to the end", log=tmp_path / "log")
    assert code == 0, said
    assert said.index("started perception") < said.index("perception active") < said.index(f"plays {bag}")
    assert "playing without it" not in said


def test_without_rviz2_no_detector_is_left_over(prefix: Path, tmp_path: Path) -> None:
    said, code = launched(prefix, "perception", "rviz:=true", until="never", log=tmp_path / "log")
    assert code == 1
    assert "apt install" in said
    assert "started perception" not in said


def test_a_refused_parameter_is_not_tried_again(prefix: Path, tmp_path: Path) -> None:
    said, _ = launched(prefix, "perception", "bundle:=nosuch", until="not started again", log=tmp_path / "log")
    assert "refuses to start" in said
    assert said.count("started perception") == 1


def test_a_crash_is(prefix: Path, tmp_path: Path) -> None:
    script = prefix / "lib" / "peft_dml_ros" / "perception"
    script.write_text('#!/bin/sh\necho "started perception"\nexit 139\n')
    said, _ = launched(prefix, "perception", until="it is not started again", log=tmp_path / "log")
    assert said.count("started perception") == 6, said


def test_the_stand_in_for_centerpoint_runs_under_its_name(prefix: Path, tmp_path: Path) -> None:
    given = ("input/pointcloud:=/cloud", "output/objects:=/objects")
    said, code = launched(prefix, "lidar_centerpoint", *given, until="perception active", log=tmp_path / "log")
    assert code == 0, said
    assert "[lidar_centerpoint]: perception active" in said
