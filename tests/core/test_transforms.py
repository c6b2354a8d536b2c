# SPDX-License-Identifier: Apache-2.0
"""Mounting over several hops, and a rig that holds what is complete and says why the rest is not in it."""

import numpy as np
import pytest

from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.rig import CameraModel, Rig
from peft_dml_ros.core.transforms import MAX_FRAMES, RigBuilder, StaticTree

OPTICAL = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])


def test_lookup_chains_over_hops_in_both_directions():
    base_SE3_mast = SE3.from_yaw(0.3, (1.0, 0.0, 1.5))
    mast_SE3_lidar = SE3.from_yaw(-1.2, (0.1, 0.2, 0.3))
    base_SE3_imu = SE3.from_yaw(0.0, (-1.0, 0.0, 0.0))
    tree = StaticTree()
    assert tree.update([("base_link", "mast", base_SE3_mast), ("mast", "lidar_top", mast_SE3_lidar)])
    assert tree.update([("base_link", "imu", base_SE3_imu)])
    assert not tree.update([("base_link", "mast", base_SE3_mast)])
    point = np.array([[3.0, -2.0, 0.5]])
    there = tree.lookup("base_link", "lidar_top").transform(point)
    np.testing.assert_allclose(there, base_SE3_mast.transform(mast_SE3_lidar.transform(point)))
    np.testing.assert_allclose(tree.lookup("lidar_top", "base_link").transform(there), point, atol=1e-12)
    across = tree.lookup("imu", "lidar_top").transform(point)
    np.testing.assert_allclose(base_SE3_imu.transform(across), there, atol=1e-12)


def test_what_is_not_connected_is_none_and_a_loop_ends():
    tree = StaticTree()
    tree.update([("a", "b", SE3.identity()), ("b", "a", SE3.identity()), ("c", "d", SE3.identity())])
    assert tree.lookup("a", "d") is None
    assert tree.lookup("a", "b") is not None


def test_invented_frames_do_not_fill_the_memory_and_known_ones_still_change():
    tree = StaticTree()
    tree.update([("base_link", "lidar_top", SE3.identity())])
    tree.update([("base_link", f"frame_{i}", SE3.identity()) for i in range(MAX_FRAMES + 50)])
    assert (tree.refused, tree.last_refused) == (51, f"frame_{MAX_FRAMES + 49}")
    assert tree.lookup("base_link", f"frame_{MAX_FRAMES - 2}") is not None
    assert not tree.update([("base_link", "late", SE3.identity())])
    assert tree.update([("base_link", "lidar_top", SE3.from_yaw(0.1, (0.0, 0.0, 1.0)))])
    assert not tree.update([("base_link", "x" * 1000, SE3.identity())])
    assert tree.refused == 53


@pytest.fixture
def builder():
    frames = {"LIDAR_TOP": "lidar_top", "CAM_FRONT": "cam_front", "ODOM": "odom"}
    return RigBuilder(frames, "base_link")


def test_incomplete_sensors_stay_out_with_a_reason(builder):
    assert set(builder.rig().sensors) == {"ODOM"}
    assert "'base_link' to 'lidar_top'" in builder.missing()["LIDAR_TOP"]
    builder.tree.update([("base_link", "lidar_top", SE3.identity()), ("base_link", "cam_front", SE3.identity())])
    assert set(builder.rig().sensors) == {"LIDAR_TOP", "ODOM"}
    assert builder.missing() == {"CAM_FRONT": "no CameraInfo yet"}
    builder.set_camera("CAM_FRONT", CameraModel(np.diag([500.0, 500.0, 1.0]), 1600, 900))
    assert list(builder.rig().sensors) == ["LIDAR_TOP", "CAM_FRONT", "ODOM"]
    assert builder.rig()["CAM_FRONT"].camera.width_px == 1600


def test_a_sensor_may_measure_in_another_frame_than_expected(builder):
    builder.tree.update([("base_link", "velodyne", SE3.from_yaw(0.0, (0.0, 0.0, 1.9)))])
    assert builder.name_frame("LIDAR_TOP", "velodyne")
    assert not builder.name_frame("LIDAR_TOP", "velodyne")
    assert not builder.name_frame("LIDAR_TOP", "")
    assert builder.rig()["LIDAR_TOP"].base_SE3_sensor.translation[2] == 1.9


def test_a_frame_that_leads_nowhere_does_not_replace_one_that_is_mounted():
    builder = RigBuilder({"RADAR_FRONT": "radar_front", "ODOM": "odom"}, "base_link")
    assert not builder.unconnected("RADAR_FRONT", "radar_fr\x00nt")
    builder.tree.update([("base_link", "radar_front", SE3.identity()), ("base_link", "other", SE3.identity())])
    assert builder.unconnected("RADAR_FRONT", "radar_fr\x00nt")
    assert not any(builder.unconnected("RADAR_FRONT", frame) for frame in ("", "radar_front", "/radar_front", "other"))
    assert not builder.unconnected("ODOM", "map")


def test_a_camera_measures_in_its_optical_frame(builder):
    """A driver after REP-103 mounts `cam_front` and hangs `cam_front_optical` on it, which its images name."""
    base_SE3_camera, camera_SE3_optical = SE3.from_yaw(0.1, (1.5, 0.0, 1.6)), SE3(OPTICAL, np.zeros(3))
    builder.set_camera("CAM_FRONT", CameraModel(np.diag([500.0, 500.0, 1.0]), 1600, 900))
    builder.tree.update([("base_link", "cam_front", base_SE3_camera)])
    builder.tree.update([("cam_front", "cam_front_optical", camera_SE3_optical)])
    assert not builder.unconnected("CAM_FRONT", "cam_front_optical")
    assert builder.name_frame("CAM_FRONT", "cam_front_optical")
    ahead = builder.rig()["CAM_FRONT"].base_SE3_sensor.transform(np.array([[0.0, 0.0, 10.0]]))
    np.testing.assert_allclose(ahead, base_SE3_camera.transform(np.array([[10.0, 0.0, 0.0]])), atol=1e-12)


def test_no_two_rigs_share_a_version(builder):
    other = RigBuilder({"ODOM": "odom"}, "base_link")
    assert len({rig.version for rig in (builder.rig(), builder.rig(), other.rig(), Rig())}) == 4
