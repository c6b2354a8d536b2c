# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest

from peft_dml_ros.core.measurements import CameraImage
from peft_dml_tools.sim.camera import Renderer, exposure, textures
from peft_dml_tools.sim.mesh import Material, box, merge
from peft_dml_tools.sim.raycast import Caster
from peft_dml_tools.sim.vehicle_rig import make_rig
from peft_dml_tools.sim.weather import Weather
from peft_dml_tools.sim.weather.camera import air_light
from peft_dml_tools.sim.weather.weather import camera_in_weather

RIG = make_rig(352)
AWAY = (-200.0, -200.0)
GREY = Material((0.5, 0.5, 0.5))


def _take(world, name="CAM_FRONT", time_s=1.0, seed=0):
    sensor = RIG[name]
    renderer = Renderer(Caster(world))
    return renderer.picture(sensor.base_SE3_sensor, sensor.camera, time_s, np.random.default_rng(seed))


def _pixels(sensor, base_points) -> np.ndarray:
    """(N, 2) where points in base_link project to."""
    pixels = sensor.base_SE3_sensor.inverse().transform(np.asarray(base_points, float)) @ sensor.camera.intrinsics.T
    return pixels[:, :2] / pixels[:, 2:]


@pytest.mark.parametrize("name", [s.name for s in RIG.of("camera")])
def test_camera_draws_a_car_where_its_box_projects(bare_world, name):
    sensor = RIG[name]
    ahead = sensor.base_SE3_sensor.rotation[:, 2]
    at = sensor.base_SE3_sensor.translation[:2] + 12.0 * ahead[:2]
    near, far = (_take(bare_world(at=where), name).range_m for where in (at, AWAY))
    rows, columns = np.nonzero(near < far - 0.05)
    corners = _pixels(sensor, bare_world(at=at).boxes(1.0).corners_m()[0])
    low, high = corners.min(axis=0), corners.max(axis=0)
    assert rows.min() == pytest.approx(low[1], abs=3)
    assert ((columns >= low[0] - 1) & (columns <= high[0] + 1) & (rows >= low[1] - 1) & (rows <= high[1] + 1)).all()
    assert len(rows) > 0.5 * np.prod(high - low)


@pytest.mark.parametrize("name", ["CAM_FRONT", "CAM_BACK_LEFT"])
def test_a_box_covers_just_the_pixels_that_its_corners_span(bare_world, name):
    sensor = RIG[name]
    ahead = sensor.base_SE3_sensor.rotation[:, 2]
    block = box((2.0, 3.0, 1.0), GREY).moved((*(sensor.base_SE3_sensor.translation[:2] + 9.0 * ahead[:2]), 1.0), 0.5)
    seen = np.isfinite(_take(replace(bare_world(at=AWAY), background=block), name).range_m)
    rows, columns = np.nonzero(seen)
    corners = _pixels(sensor, block.vertices)
    # A pixel is covered where its centre is: the outermost centres lie within one pixel inside the outline.
    np.testing.assert_allclose([columns.min(), rows.min()], corners.min(axis=0), atol=1.01)
    np.testing.assert_allclose([columns.max() + 1, rows.max() + 1], corners.max(axis=0), atol=1.01)
    runs = [np.ptp(np.flatnonzero(row)) + 1 for row in seen[rows.min() : rows.max() + 1]]
    assert sum(runs) == len(rows), "a convex outline has no hole"


@pytest.mark.parametrize("time_s", [0.2, 1.0])
def test_range_is_what_a_ray_meets(drive, time_s):
    rng = np.random.default_rng(1)
    agreed = []
    for sensor in RIG.of("camera"):
        model = sensor.camera
        range_m = drive.renderer.picture(sensor.base_SE3_sensor, model, time_s, rng).range_m
        rows, columns = rng.integers(model.height_px, size=1500), rng.integers(model.width_px, size=1500)
        rays = np.linalg.solve(model.intrinsics, np.stack([columns + 0.5, rows + 0.5, np.ones(1500)])).T
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        pose = drive.world.world_SE3_base(time_s) @ sensor.base_SE3_sensor
        met = drive.caster.at(time_s).cast(pose.translation, pose.rotate(rays), max_range_m=1000.0).range_m
        drawn = range_m[rows, columns]
        agreed.append(np.isclose(drawn, met, rtol=0, atol=0.01))
    assert np.mean(agreed) > 0.995


def test_what_reaches_behind_the_camera_is_drawn(bare_world):
    # The ground is two triangles of 600 m that the image plane cuts.
    range_m = _take(bare_world(at=AWAY)).range_m
    sensor = RIG["CAM_FRONT"]
    row = 190
    down = (row + 0.5 - sensor.camera.intrinsics[1, 2]) / sensor.camera.intrinsics[1, 1]
    column = round(sensor.camera.intrinsics[0, 2])
    wanted = sensor.base_SE3_sensor.translation[2] * np.hypot(down, 1.0) / down
    assert range_m[row, column] == pytest.approx(wanted, rel=1e-4)
    assert np.isinf(range_m[: int(sensor.camera.intrinsics[1, 2]) - 2]).all()


def test_shadows_fall_away_from_the_sun(bare_world):
    # The sun stands to the left, along +y: the shadow of a car ahead lies to its right.
    pictures = [_take(bare_world(at=at, yaw=0.0)).pixels.astype(float).mean(axis=2) for at in ((12.0, 0.0), AWAY)]
    left, right = np.round(_pixels(RIG["CAM_FRONT"], [(12.0, 1.5, 0.0), (12.0, -1.5, 0.0)])).astype(int)
    with_car, without = ([p[v - 1 : v + 2, u - 1 : u + 2].mean() for u, v in (left, right)] for p in pictures)
    assert with_car[0] == pytest.approx(without[0], rel=0.1)
    assert with_car[1] < 0.8 * without[1]


def test_shadows_of_what_moves_go_with_it(bare_world):
    world = bare_world(at=(12.0, 0.0), yaw=0.0, velocity=(0.0, 2.0))
    renderer, sensor = Renderer(Caster(world)), RIG["CAM_FRONT"]
    pictures = [
        renderer.picture(sensor.base_SE3_sensor, sensor.camera, t, np.random.default_rng(0)).pixels for t in (0, 2, 0)
    ]
    np.testing.assert_array_equal(pictures[0], pictures[2])
    ((u, v),) = np.round(_pixels(sensor, [(12.0, -1.5, 0.0)])).astype(int)
    first, later = (p[v - 1 : v + 2, u - 1 : u + 2].mean() for p in pictures[:2])
    assert first < 0.8 * later


def test_a_picture_depends_on_its_instant_alone(drive):
    sensor, fresh = RIG["CAM_BACK"], Renderer(drive.caster)
    drive.renderer.picture(RIG["CAM_FRONT"].base_SE3_sensor, RIG["CAM_FRONT"].camera, 0.1, np.random.default_rng(5))
    pictures = [
        r.picture(sensor.base_SE3_sensor, sensor.camera, 0.7, np.random.default_rng(2)) for r in (drive.renderer, fresh)
    ]
    np.testing.assert_array_equal(pictures[0].pixels, pictures[1].pixels)
    np.testing.assert_array_equal(pictures[0].range_m, pictures[1].range_m)


def test_exposure_follows_the_light_and_gain_makes_up_for_what_is_missing():
    exposures = [exposure.expose(np.full((64, 64, 3), light, np.float32), 0.8) for light in (0.8, 0.3, 0.01)]
    assert exposures[0].time_s < exposures[1].time_s <= exposures[2].time_s == exposure.LONGEST_S
    assert [e.gain for e in exposures[:2]] == [1.0, 1.0]
    assert exposures[2].gain > 4
    low_sun = exposure.expose(np.full((64, 64, 3), 0.3, np.float32), 0.5)
    assert low_sun.time_s * low_sun.gain > exposures[1].time_s


def test_the_sun_in_view_darkens_the_rest(bare_world):
    low = np.array([np.cos(0.12), 0.0, np.sin(0.12)])
    scales, tops = [], []
    for sun in (low, low * [-1, 1, 1]):
        taken = _take(replace(bare_world(at=AWAY), sun=sun))
        scales.append(taken.exposure.scale)
        tops.append(taken.pixels.min(axis=2).max())
    assert scales[0] < 0.97 * scales[1]
    assert tops[0] >= 250 > tops[1] - 15


def _developed(gain):
    shape, motion = (60, 80), np.zeros((1, 3, 4))
    pixels = np.empty((*shape, 3), np.uint8)
    exposure.develop(
        np.full((*shape, 3), 0.2, np.float32),
        np.zeros(shape, np.float32),
        np.zeros(1, np.int32),
        np.full(shape, -1, np.int32),
        motion,
        np.zeros(1, np.bool_),
        (50.0, 50.0, 40.0, 30.0),
        (1.0, gain, 0.0),
        exposure.tone_curve(),
        np.uint64(7),
        pixels,
    )
    return pixels.astype(float)


def test_noise_grows_with_the_gain():
    calm, wild = _developed(1.0), _developed(8.0)
    assert calm.mean() == pytest.approx(255 * 0.2 ** (1 / 2.2), abs=1.5)
    assert 0.5 < calm.std() < 3.0
    assert 2.0 < wild.std() / calm.std() < 5.0


def _edges(pixels) -> float:
    """The sharpest step along a row."""
    return float(np.quantile(np.abs(np.diff(pixels.astype(float).mean(axis=2), axis=1)), 0.999))


def test_what_passes_is_blurred_and_only_when_it_moves(bare_world):
    sensor = RIG["CAM_FRONT_LEFT"]
    at = sensor.base_SE3_sensor.translation[:2] + 6.0 * sensor.base_SE3_sensor.rotation[:2, 2]
    still, driving = (_take(bare_world(at=at, ego_speed=v), sensor.name, 0.0) for v in (0.0, 25.0))
    np.testing.assert_allclose(still.range_m, driving.range_m)
    assert still.exposure == driving.exposure
    assert _edges(driving.pixels) < 0.6 * _edges(still.pixels)


def test_a_mover_is_blurred_and_the_street_is_not(bare_world):
    still, passing = (
        _take(bare_world(at=(10.0, 0.0), yaw=1.57, velocity=(0.0, v)), "CAM_FRONT", 0.0) for v in (1e-6, 25.0)
    )
    differs = np.abs(still.pixels.astype(int) - passing.pixels.astype(int)).max(axis=2) > 12
    u, v = _pixels(RIG["CAM_FRONT"], bare_world(at=(10.0, 0.0), yaw=1.57).boxes(0.0).corners_m()[0]).T
    inside = np.zeros_like(differs)
    inside[int(v.min()) - 2 : int(v.max()) + 3, int(u.min()) - 2 : int(u.max()) + 3] = True
    assert differs[inside].sum() > 20
    assert differs[~inside].sum() == 0


def test_fog_follows_koschmieder_at_a_wall_of_known_distance(bare_world):
    world = bare_world(at=AWAY)
    wall_x = 31.7
    world = replace(world, background=merge([world.background, box((1.0, 80.0, 30.0), GREY, (wall_x + 0.5, 0, 0))]))
    sensor, taken = RIG["CAM_FRONT"], _take(world)
    weather = Weather.parse("fog=60")
    image = CameraImage(0, pixels=taken.pixels)
    foggy = camera_in_weather(image, sensor, weather, np.random.default_rng(0), taken.range_m).pixels
    rows, columns = slice(20, 100), slice(100, 250)
    v, u = np.mgrid[rows, columns] + 0.5
    k = sensor.camera.intrinsics
    slant = np.sqrt(((u - k[0, 2]) / k[0, 0]) ** 2 + ((v - k[1, 2]) / k[1, 1]) ** 2 + 1)
    range_m = (wall_x - sensor.base_SE3_sensor.translation[0]) * slant
    np.testing.assert_allclose(taken.range_m[rows, columns], range_m, atol=0.01)
    clear = np.exp(-np.log(20.0) / 60.0 * range_m)[..., None]
    wanted = taken.pixels[rows, columns] * clear + air_light(taken.pixels) * (1 - clear)
    assert np.abs(foggy[rows, columns] - wanted).max() <= 1.01, "whole grey levels"


def test_fog_hides_the_sky(bare_world):
    taken = _take(bare_world(at=AWAY))
    image = CameraImage(0, pixels=taken.pixels)
    weather = Weather.parse("fog=5000")
    foggy = camera_in_weather(image, RIG["CAM_FRONT"], weather, np.random.default_rng(0), taken.range_m).pixels
    assert np.ptp(foggy[np.isinf(taken.range_m)], axis=0).max() == 0


def test_names_in_numba_caches_of_earlier_versions_are_still_read():
    """Numba reads a cached signature, its classes included, before it compares the age of the source."""
    assert textures.Paint is textures.RoadPaint
