# SPDX-License-Identifier: Apache-2.0
"""A map moved by the ego motion is the map of the moved input, and an encoder that is not due is not run."""

from dataclasses import replace

import numpy as np
import pytest

from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.detector import Detector
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.latents import moved
from peft_dml_ros.core.load import Effort
from peft_dml_ros.core.pillars import lidar_pillars
from peft_dml_ros.core.spec import GridSpec
from peft_dml_ros.engines import load_engines
from tests.core.test_detector import Counting
from tests.core.test_inputs import full_snapshot
from tests.support import scenes
from tests.support.random_bundle import make_random_bundle
from tests.support.scenes import MS, START_NS

INNER = slice(10, -10)


@pytest.fixture(scope="module")
def sweep():
    """A simulated sweep in `base_link`: (N, 4) float32 x, y, z, intensity 0-1."""
    pytest.importorskip("embreex")
    from peft_dml_tools.bench.growth import simulated_frames

    scene = simulated_frames(1.3)
    points = scene.snapshots[-1].lidar["LIDAR_TOP"][0].points
    xyz = scene.rig["LIDAR_TOP"].base_SE3_sensor.transform(points[:, :3])
    return np.concatenate([xyz, points[:, 3:4] / 255], axis=1)


@pytest.fixture(scope="module")
def encode():
    """The demo bundle's LiDAR encoder on points in `base_link`."""
    bundle = load_bundle("demo")
    engine, spec = load_engines(bundle, threads=1)["lidar"], bundle.spec

    def run(points):
        cloud = np.concatenate([points, np.zeros((len(points), 1))], axis=1).astype(np.float32)
        pillars, index_map = lidar_pillars(cloud, spec.grid, spec.lidar)
        return engine({"pillars": pillars, "index_map": index_map})["latent"], spec.grid

    return run


@pytest.mark.parametrize(
    ("forward_m", "yaw_rad", "mean", "low"),
    [(0.8, 0.0, 0.995, 0.98), (3.2, 0.0, 0.995, 0.98), (1.0, 0.0, 0.99, 0.96), (1.3, 0.03, 0.985, 0.95)],
)
def test_a_moved_map_is_the_map_of_the_moved_points(sweep, encode, forward_m, yaw_rad, mean, low):
    now_SE3_then = SE3.from_yaw(yaw_rad, (forward_m, 0.05, 0.0)).inverse()
    then, grid = encode(sweep)
    here = np.concatenate([now_SE3_then.transform(sweep[:, :3]), sweep[:, 3:]], axis=1)
    now, _ = encode(here)
    like = (moved(then, now_SE3_then, grid) * now).sum(axis=1)[0, INNER, INNER]
    unmoved = (then * now).sum(axis=1)[0, INNER, INNER]
    assert like.mean() > mean
    assert np.percentile(like, 5) > low
    assert 1 - like.mean() < (1 - unmoved.mean()) / 2


def test_whole_cells_move_exactly_and_what_was_outside_is_empty():
    grid = GridSpec(size=16)
    latent = np.random.default_rng(0).normal(size=(1, 4, 16, 16)).astype(np.float32)
    latent /= np.linalg.norm(latent, axis=1, keepdims=True)
    np.testing.assert_allclose(moved(latent, SE3.identity(), grid), latent, atol=1e-6)
    two_ahead = moved(latent, SE3(np.eye(3), np.array([-2 * grid.cell_m, 0.0, 0.0])), grid)
    np.testing.assert_allclose(two_ahead[..., :-2], latent[..., 2:], atol=1e-6)
    assert not two_ahead[..., -2:].any()
    turned = moved(latent, SE3.from_yaw(np.pi / 2), grid)
    np.testing.assert_allclose(turned, np.rot90(latent, -1, axes=(2, 3)), atol=1e-5)


@pytest.fixture
def detector(tmp_path):
    bundle = load_bundle(make_random_bundle(tmp_path / "random"))
    engines = {name: Counting(engine) for name, engine in load_engines(bundle, threads=1).items()}
    return Detector(bundle, scenes.rig(), engines, threads=1, effort=Effort(camera_hz=5.0))


def later(time_ms, **changes):
    """A frame with new images of its own, `time_ms` after the first."""
    frame = full_snapshot(**changes)
    shift = time_ms * MS
    odometry = tuple(replace(o, stamp_ns=o.stamp_ns + shift) for o in frame.odometry)
    lidar = {n: tuple(replace(s, stamp_ns=s.stamp_ns + shift) for s in sweeps) for n, sweeps in frame.lidar.items()}
    return replace(frame, stamp_ns=START_NS + shift, odometry=odometry, lidar=lidar)


def test_cameras_keep_their_own_pace_and_tell_their_age(detector):
    ages, runs = [], []
    for time_ms in range(0, 1000, 100):
        found = detector(later(time_ms))
        ages.append(round(float(found.age_s[1]), 3))
        runs.append(detector._engines["camera"].calls)
        assert found.mask[1] == 1
        assert ("moved" in found.stages_ms) is not ("camera" in found.stages_ms)
    assert runs == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert ages == [0.02, 0.12] * 5
    assert detector._engines["lidar"].calls == 10


def test_every_image_counts_where_a_map_cannot_stand_in(detector):
    detector(later(0))
    camera = detector._engines["camera"]
    fewer = {name: image for name, image in full_snapshot().cameras.items() if name != "CAM_FRONT"}
    for calls, change in ((2, {"cameras": fewer}), (3, {"lidar": {}}), (4, {"odometry": (), "imu": ()})):
        frame = later(50 * calls)
        detector(replace(frame, **change))
        assert camera.calls == calls
    # Other images of the same instant are no later ones.
    detector(later(0))
    assert camera.calls == 5


def test_a_loaded_machine_keeps_the_pace_without_lidar_as_well(detector):
    detector.effort = Effort(camera_hz=2.5, radar_hz=5.0, sweeps=1, given_up=("cameras",))
    frames = [detector(replace(later(t), lidar={})) for t in range(0, 1200, 100)]
    assert detector._engines["camera"].calls == 3
    assert detector._engines["radar"].calls == 6
    assert all(frame.mask[1] and frame.mask[2] for frame in frames)
