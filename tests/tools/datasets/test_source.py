# SPDX-License-Identifier: Apache-2.0
from collections import Counter

import numpy as np
import pytest

from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.datasets.source import NuScenesSource, last_stamp_ns, open_source


def test_scene_streams_every_measurement_in_stamp_order(mini):
    source = open_source(mini, scene="scene-0002")
    assert source.name == "scene-0002"
    rows = list(source.measurements())
    stamps = [m.stamp_ns for _, m in rows]
    assert stamps == sorted(stamps)
    counts = Counter(name for name, _ in rows)
    assert counts["LIDAR_TOP"] == counts["RADAR_FRONT"] == counts["RADAR_BACK_LEFT"] == 16
    assert counts["CAM_FRONT"] == 7
    assert (counts["IMU"], counts["GNSS"]) == (151, 16)
    assert counts["ODOM"] == 16 * 3 + 7
    assert set(counts) == set(source.rig.sensors)
    assert rows[0][1].stamp_ns == next(source.measurements())[1].stamp_ns


def test_pose_comes_before_the_sweep_of_the_same_stamp(mini):
    seen = set()
    for name, measurement in open_source(mini).measurements():
        if name == "ODOM":
            seen.add(measurement.stamp_ns)
        elif name == "LIDAR_TOP":
            assert measurement.stamp_ns in seen


def test_truth_stands_at_the_stamps_of_keyframes(mini):
    source = open_source(mini)
    reader = NuScenesReader(mini)
    assert list(source.truth) == [reader.stamp_ns(token) for token in reader.samples("scene-0001")]
    lidar = {m.stamp_ns for name, m in source.measurements() if name == "LIDAR_TOP"}
    assert set(source.truth) <= lidar
    assert all(np.isfinite(boxes.centers_m).all() and boxes.ids for boxes in source.truth.values())


def test_the_last_stamp_is_known_without_opening_files(mini):
    source = open_source(mini)
    last = max(m.stamp_ns for name, m in source.measurements() if name not in {"IMU", "GNSS", "ODOM"})
    assert source.last_stamp_ns == last_stamp_ns(source) == last


def test_version_folder_and_snapshots(mini):
    source = open_source(mini / "v1.0-test-rig")
    assert isinstance(source, NuScenesSource)
    snapshots = list(source.snapshots(ModelSpec()))
    assert [s.stamp_ns for s in snapshots] == list(source.truth)


def test_missing_files_are_told_before_the_first_measurement(mini_copy):
    for path in (mini_copy / "sweeps/LIDAR_TOP").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="lacks 13 files"):
        next(open_source(mini_copy).measurements())
    lenient = open_source(mini_copy, allow_missing=True)
    assert Counter(name for name, _ in lenient.measurements())["LIDAR_TOP"] == 3


def test_wrong_places_list_what_was_looked_for(mini, tmp_path):
    with pytest.raises(ConfigError, match="no scene"):
        open_source(mini, scene="scene-9999")
    with pytest.raises(DataError, match="does not exist"):
        open_source(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"scene\.json.*\.mcap.*metadata\.yaml.*notes\.txt"):
        open_source(tmp_path)
    with pytest.raises(DataError, match=r"found a \.txt file"):
        open_source(tmp_path / "notes.txt")


def test_real_keyframe_streams(real_keyframe):
    counts = Counter(name for name, _ in open_source(real_keyframe).measurements())
    assert counts["LIDAR_TOP"] == counts["RADAR_FRONT"] == counts["CAM_BACK"] == 1
    assert counts["IMU"] == 55
