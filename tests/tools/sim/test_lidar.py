# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest

from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.measurements import LidarSweep
from peft_dml_tools.datasets.lidar_timing import spin_offsets_s
from peft_dml_tools.sim import lidar
from peft_dml_tools.sim.drive import Drive, DriveSpec, render_event
from peft_dml_tools.sim.ego_body import ego_body
from peft_dml_tools.sim.mesh import Material, Mesh, merge
from peft_dml_tools.sim.raycast import Caster
from peft_dml_tools.sim.schedule import _PHASE_S
from peft_dml_tools.sim.vehicle_rig import make_rig
from peft_dml_tools.sim.weather import Weather, apply

POSE = make_rig(64)["LIDAR_TOP"].base_SE3_sensor
OWN_M = 2.6


def _sweep(world, time_s=1.0, seed=0, *, compensated=True):
    """All points (N, 5), and returns from each actor."""
    rng = np.random.default_rng(seed)
    sweep, counts = lidar.scan(Caster(world), POSE, time_s, 0, rng, compensated=compensated)
    return sweep.points, counts


def _scan(world, **options):
    """Points (N, 5) that are not the vehicle's own, the same in base_link (N, 3), and returns from each actor."""
    points, counts = _sweep(world, **options)
    far = points[np.linalg.norm(points[:, :3], axis=1) > OWN_M]
    return far, POSE.transform(far[:, :3].astype(np.float64)), counts


def _wall(x_m):
    """A wall across the way."""
    corners = np.array([[x_m, -25, 0], [x_m, 25, 0], [x_m, 25, 12], [x_m, -25, 12]], np.float32)
    return Mesh.make(corners, np.array([[0, 1, 2], [0, 2, 3]]), Material((0.5, 0.5, 0.5), 0.6))


@pytest.mark.parametrize("cls", CLASSES)
def test_points_lie_in_the_box_and_near_its_surface(bare_world, cls):
    world = bare_world(cls, at=(9.0, -4.0), yaw=0.7)
    _, points, counts = _scan(world)
    box = world.boxes(1.0)
    raised = points[points[:, 2] > 0.1]
    assert counts[0] > 5  # a cone; real ones give 7 within 10 m
    # Noise of 2 cm against 3 cm of air between object and box.
    assert box.contain(raised)[0].sum() >= 0.93 * len(raised)
    assert box.contain(raised, 0.05)[0].sum() >= 0.98 * len(raised)
    assert box.contain(points, 0.05)[0].sum() >= 0.99 * counts[0]


def test_axes_are_right_and_forward(bare_world):
    points, _, _ = _scan(bare_world("bus", at=(25.0, 0.0), yaw=0.0))
    raised = points[points[:, 2] > -1.0]
    assert np.median(raised[:, 1]) > 15.0
    assert abs(np.median(raised[:, 0])) < 2.0


def test_ground_is_where_it_should_be_with_two_centimetres_of_noise(bare_world):
    points, base, _ = _scan(bare_world(at=(80.0, 60.0)))
    ground = np.hypot(base[:, 0], base[:, 1]) < 10
    assert abs(base[ground, 2].mean()) < 0.005
    sine = np.sin(-np.deg2rad(np.array(lidar.HDL32E.elevations_deg)))[points[ground, 4].astype(int)]
    error = np.linalg.norm(points[ground, :3], axis=1) - POSE.translation[2] / sine
    assert error.std() == pytest.approx(0.02, rel=0.1)


def test_a_sweep_holds_every_firing_in_order(bare_world):
    points, _ = _sweep(bare_world("bus", at=(8.0, 0.0), yaw=1.57))
    assert len(points) == 1085 * 32
    np.testing.assert_array_equal(points[:, 4], np.tile(np.arange(32), 1085))
    far = np.linalg.norm(points[:, :3], axis=1) > OWN_M
    x, y, z = points[far, :3].T
    elevation = np.rad2deg(np.arctan2(z, np.hypot(x, y)))
    np.testing.assert_allclose(elevation, np.array(lidar.HDL32E.elevations_deg)[points[far, 4].astype(int)], atol=1e-3)
    turned = np.mod(np.pi - np.arctan2(y, x), 2 * np.pi)
    column = np.flatnonzero(far) // 32
    assert np.abs(turned / (2 * np.pi) * 1085 - column - 0.4).max() < 0.5
    idle = ~far & (np.linalg.norm(points[:, :3], axis=1) < 0.01)
    # Over an empty plane the upper rings return nothing.
    assert idle[points[:, 4] > 24].mean() > 0.8
    assert points[:, 3].min() >= 1
    assert points[:, 3].max() <= 255
    assert (points[:, 3] == np.floor(points[:, 3])).all()


def test_the_beam_passes_each_camera_when_it_fires():
    rig = make_rig(64)
    for sensor in rig.of("camera"):
        sight = POSE.inverse().rotate(sensor.base_SE3_sensor.rotation[:, 2:].T)
        # Real cameras fire 2 ms after the beam has passed their middle.
        assert spin_offsets_s(100 * sight, lidar.TURN_S)[0] == pytest.approx(_PHASE_S[sensor.name] - 0.002, abs=0.0015)


@pytest.mark.parametrize("yaw_rate", [0.0, 0.5])
def test_a_wall_is_bent_by_the_vehicles_motion_and_straight_once_each_column_is_corrected(bare_world, yaw_rate):
    world = bare_world(at=(-90.0, 60.0), ego_speed=20.0, yaw_rate=yaw_rate)
    world = replace(world, background=merge([world.background, _wall(45.0)]))
    end = world.world_SE3_base(1.0)
    for compensated in (True, False):
        points, base, _ = _scan(world, compensated=compensated)
        offsets = spin_offsets_s(points, lidar.TURN_S)
        ahead = (base[:, 2] > 0.3) & (np.abs(base[:, 1]) < 12)
        seen = end.transform(base)[ahead, 0]
        if compensated:
            assert abs(seen.mean() - 45.0) < 0.01
            assert seen.std() < 0.025
            continue
        assert abs(seen.mean() - 45.0) > 0.4
        then = [world.world_SE3_base(1.0 + t) for t in offsets[ahead]]
        corrected = [pose.transform(p[None])[0, 0] for pose, p in zip(then, base[ahead], strict=True)]
        assert abs(np.mean(corrected) - 45.0) < 0.02
        assert np.std(corrected) < 0.03


def test_a_mover_is_where_it_was_at_each_columns_time(bare_world):
    world = bare_world("bus", at=(20.0, 0.0), yaw=0.0, velocity=(15.0, 0.0))
    points, base, counts = _scan(world, time_s=0.5)
    raised = base[:, 2] > 0.1
    offsets = spin_offsets_s(points, lidar.TURN_S)[raised, None]
    box = world.boxes(0.5)
    assert raised.sum() > 120
    assert box.contain(base[raised], 0.03)[0].mean() < 0.2
    assert box.contain(base[raised] - offsets * [15.0, 0.0, 0.0], 0.03)[0].mean() > 0.98
    assert counts[0] >= raised.sum()


def test_what_passes_over_the_seam_loses_no_beam(bare_world):
    # On the left, where a turn begins and ends, a bus at 20 m/s is seen twice, a metre apart.
    fast = bare_world("bus", at=(-5.0, 5.0), yaw=0.0, velocity=(20.0, 0.0))
    rest = bare_world("bus", at=(5.0, 5.0), yaw=0.0)
    counts = [_sweep(world, time_s=0.5)[1][0] for world in (fast, rest)]
    assert counts[0] == pytest.approx(counts[1], rel=0.2)


def test_the_same_seed_gives_the_same_sweep(bare_world):
    world = bare_world()
    first, again, other = (_sweep(world, seed=seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_vehicle_sees_itself_as_a_real_one_does(bare_world):
    points, counts = _sweep(bare_world(at=(80.0, 60.0)))
    distance = np.linalg.norm(points[:, :3], axis=1)
    own = (distance > 0.4) & (distance < OWN_M)
    share = np.bincount(points[own, 4].astype(int), minlength=32) / 1085
    # Of a real keyframe, without firings that returned nothing.
    np.testing.assert_allclose(share[:8], [0.69, 0.62, 0.58, 0.52, 0.47, 0.38, 0.31, 0.15], atol=0.14)
    assert share[11:].max() < 0.02
    assert own.mean() == pytest.approx(0.119, rel=0.3)
    high = ego_body().vertices.max(axis=0)
    assert (high < [4.0, 0.8, 1.7]).all()
    assert counts.sum() < 20


def test_retro_reflectors_are_bright_and_glass_hardly_returns(bare_world):
    far, base, _ = _scan(replace(bare_world(at=(80.0, 60.0)), background=_wall(20.0)))
    plain = far[base[:, 0] > 19, 3]
    bright = replace(_wall(20.0), reflectance=np.ones(2, np.float32))
    far, base, _ = _scan(replace(bare_world(at=(80.0, 60.0)), background=bright))
    assert np.quantile(plain, 0.99) < 200
    assert far[base[:, 0] > 19, 3].min() >= 100
    assert far[:, 3].max() == 255
    glass = replace(_wall(20.0), surface=np.full(2, 6, np.uint8))
    _, base, _ = _scan(replace(bare_world(at=(80.0, 60.0)), background=glass))
    assert (base[:, 0] > 19).sum() == pytest.approx(0.3 * len(plain), rel=0.1)


def test_dark_things_fade_with_range(bare_world):
    share = []
    for x_m in (15.0, 60.0):
        dark = replace(_wall(x_m), reflectance=np.full(2, 0.04, np.float32))
        _, base, _ = _scan(replace(bare_world(at=(-80.0, 60.0)), background=dark))
        bright = replace(_wall(x_m), reflectance=np.full(2, 0.8, np.float32))
        _, full, _ = _scan(replace(bare_world(at=(-80.0, 60.0)), background=bright))
        share.append(len(base) / len(full))
    assert share[0] > 0.97
    assert 0.2 < share[1] < 0.8


@pytest.mark.parametrize(
    ("cls", "real"),
    [("car", (466, 49, 9)), ("pedestrian", (45, 11, 4)), ("truck", (956, 322, 56)), ("motorcycle", (53, 15, 4))],
)
def test_an_object_in_full_view_has_no_fewer_points_than_real_medians_which_hold_hidden_ones(bare_world, cls, real):
    for distance_m, median in zip((8.0, 15.0, 25.0), real, strict=True):
        counts = [_sweep(bare_world(cls, at=(distance_m, 2.0), yaw=yaw))[1][0] for yaw in (0.2, 1.0, 2.2)]
        assert median / 1.5 <= np.median(counts) <= median * 8


def test_sweeps_of_streets_resemble_real_ones():
    ranges, intensity, near = [], [], []
    for seed in (3, 5, 8, 11, 21, 22):
        drive = Drive(seed, 2.0, DriveSpec(lidar_hz=2.0, camera_hz=0, radar_hz=0))
        for event in [e for e in drive.events if e.sensor == "LIDAR_TOP"][2:3]:
            points = render_event(drive, event)[0].points
            distance = np.linalg.norm(points[:, :3], axis=1)
            ranges.append(distance)
            intensity.append(points[:, 3])
            near.append((distance < 2.5).mean())
    low, middle, high = (np.median([np.percentile(r, p) for r in ranges]) for p in (5, 50, 95))
    # Real: 0.0-0.2, 4.6-7.5, 31-44 m; intensity 2-3, 9-16, 45-76; 22-42 % of points within 2.5 m.
    assert low < 0.3
    assert 4.4 / 1.5 < middle < 6.7 * 1.5
    assert 36 / 1.5 < high < 36 * 1.5
    assert 0.2 < np.median(near) < 0.45
    low, middle, high = (np.median([np.percentile(i, p) for i in intensity]) for p in (5, 50, 95))
    assert 1 <= low <= 4
    assert 10.5 / 1.5 < middle < 10.5 * 1.5
    assert 59 / 1.5 < high < 59 * 1.5
    assert max(i.max() for i in intensity) == 255


@pytest.mark.parametrize("weather", ["fog=50", "rain=25", "snow=5"])
def test_weather_leaves_firings_without_return_alone(bare_world, weather):
    points, _ = _sweep(bare_world(ego_speed=15.0))
    sweep = apply(LidarSweep(0, points), make_rig(64)["LIDAR_TOP"], Weather.parse(weather), np.random.default_rng(0))
    idle = np.linalg.norm(points[:, :3], axis=1) < 0.8
    after = np.linalg.norm(sweep.points[:, :3], axis=1) < 0.8
    assert np.isfinite(sweep.points).all()
    assert idle.sum() > 5000
    np.testing.assert_array_equal(sweep.points[after, :3], points[idle, :3])


def test_a_cars_paint_is_a_mirror_to_flat_beams(bare_world):
    # A rear seen head on, then two sides at 45 degrees.
    world = bare_world("car", at=(12.0, 0.0), yaw=0.0)
    caster = Caster(world)
    assert caster.clear_coated[caster.owner == 0].all()
    assert not caster.clear_coated[caster.owner < 0].any()
    shares = []
    for yaw in (0.0, 0.8):
        coated = bare_world("car", at=(12.0, 0.0), yaw=yaw)
        matt = replace(coated, actors=tuple(replace(a, label=CLASSES.index("trailer")) for a in coated.actors))
        shares.append(_sweep(coated)[1][0] / _sweep(matt)[1][0])
    assert 0.75 < shares[0] <= 1.0
    assert shares[1] < shares[0] - 0.05


def test_intensity_is_smooth_on_a_face_and_differs_between_faces(bare_world):
    walls = merge([_wall(20.0).moved((0.0, shift, 0.0)) for shift in (-100.0, -50.0, 0.0, 50.0, 100.0)])
    caster = Caster(replace(bare_world(at=(-80.0, 60.0)), background=walls))
    levels = np.log(caster.laser_reflectance[caster.owner < 0])
    assert 0.15 < levels.std() < 0.8
    far, base, _ = _scan(replace(bare_world(at=(-80.0, 60.0)), background=_wall(20.0)))
    # One ring, to the left of the wall's diagonal: a single triangle.
    row = far[(far[:, 4] == 24) & (base[:, 1] > 8) & (base[:, 1] < 12), 3]
    assert len(row) > 15
    assert row.std() / row.mean() < 0.1
