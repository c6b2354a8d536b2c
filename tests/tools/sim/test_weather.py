# SPDX-License-Identifier: Apache-2.0
"""The one scalar: its reading, the pictures, and frames that come out the same every time."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_ros.core.measurements import RADAR_DTYPE, CameraImage, ImuSample, LidarSweep, RadarSweep
from peft_dml_ros.core.rig import Sensor
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_tools.sim.weather import Weather, apply, apply_to_snapshot, weather_rng
from peft_dml_tools.sim.weather import camera as picture
from peft_dml_tools.sim.weather.camera import air_light
from peft_dml_tools.sim.weather.depth import SKY_M, depth_of
from peft_dml_tools.sim.weather.images import decode

WEATHERS = ("fog=50", "rain=25", "snow=5")


@pytest.fixture(scope="module")
def frame(drive) -> Snapshot:
    """One simulated frame."""
    lidar, radars, cameras = {}, {}, {}
    for name, measurement in drive.measurements():
        if isinstance(measurement, LidarSweep) and not lidar:
            lidar[name] = (measurement,)
        elif isinstance(measurement, RadarSweep):
            radars[name] = (measurement,)
        elif isinstance(measurement, CameraImage):
            cameras[name] = measurement
    return Snapshot(lidar["LIDAR_TOP"][0].stamp_ns, "LIDAR_TOP", lidar, radars, cameras)


def arrays(snapshot):
    """All content of a frame."""
    points = [s.points for sweeps in (*snapshot.lidar.values(), *snapshot.radars.values()) for s in sweeps]
    return [*points, *(decode(image) for image in snapshot.cameras.values())]


def same(first, second):
    return all(a.shape == b.shape and (a == b).all() for a, b in zip(arrays(first), arrays(second), strict=True))


# ---------------------------------------------------------------- the scalar
@pytest.mark.parametrize("text", [*WEATHERS, "clear", "rain=0.2"])
def test_weather_reads_and_writes_itself(text):
    assert str(Weather.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("dust=3", "choices: clear, fog, rain, snow"),
        ("rian=3", "did you mean 'rain'"),
        ("rain=much", "'much' is no number"),
        ("rain", "is no number"),
        ("fog=1", "greater than or equal to 5"),
        ("rain=-1", "greater than 0"),
        ("rain=nan", "rain=nan"),
    ],
)
def test_wrong_weather_is_named(text, named):
    with pytest.raises(ConfigError, match=named):
        Weather.parse(text)


def test_one_scalar_only():
    with pytest.raises(ValidationError, match="fog_visibility_m and rain_mmph"):
        Weather(fog_visibility_m=50, rain_mmph=3)
    with pytest.raises(ValidationError, match="hail"):
        Weather(hail=3)


def test_all_sensors_share_one_extinction():
    assert Weather.parse("fog=50").visibility_m == pytest.approx(50)
    # 3.65e-4 x 25^.63 = 2.77e-3 per metre: two-way LiDAR and one-way camera both follow from it.
    assert Weather.parse("rain=25").visibility_m == pytest.approx(np.log(20) / 2.77e-3, rel=0.01)
    assert Weather().visibility_m == np.inf


# ---------------------------------------------------------------- frames
@pytest.mark.parametrize("text", WEATHERS)
def test_frames_depend_on_seed_and_stamp_alone(frame, drive, text):
    weather = Weather.parse(text)
    first = apply_to_snapshot(frame, drive.rig, weather, seed=3)
    assert same(first, apply_to_snapshot(frame, drive.rig, weather, seed=3))
    alone = apply_to_snapshot(frame.without("camera", "radar"), drive.rig, weather, seed=3)
    assert (alone.lidar["LIDAR_TOP"][0].points == first.lidar["LIDAR_TOP"][0].points).all()
    assert not same(first, apply_to_snapshot(frame, drive.rig, weather, seed=4)) or text == "fog=50"
    later = replace(frame, lidar={"LIDAR_TOP": (replace(frame.lidar["LIDAR_TOP"][0], stamp_ns=5),)})
    moved = apply_to_snapshot(later.without("camera", "radar"), drive.rig, weather, seed=3)
    assert not np.array_equal(moved.lidar["LIDAR_TOP"][0].points, alone.lidar["LIDAR_TOP"][0].points)


def test_every_sensor_feels_the_rain(frame, drive):
    clear, wet = frame, apply_to_snapshot(frame, drive.rig, Weather.parse("rain=50"))
    assert len(wet.lidar["LIDAR_TOP"][0].points) < len(clear.lidar["LIDAR_TOP"][0].points)
    before, after = (np.concatenate([s[0].points for s in f.radars.values()]) for f in (clear, wet))
    assert after["rcs"][after["pdh0"] == 1].sum() < before["rcs"][before["pdh0"] == 1].sum()
    for name, image in wet.cameras.items():
        dry = decode(clear.cameras[name])
        assert np.abs(decode(image) - air_light(dry)).mean() < np.abs(dry - air_light(dry)).mean()


def test_clear_air_and_motion_sensors_stay_as_they_are(frame, drive):
    assert apply_to_snapshot(frame, drive.rig, Weather()) is frame
    sample = ImuSample(0, np.zeros(3), np.zeros(3))
    sensor = Sensor("IMU", "imu", drive.rig["LIDAR_TOP"].base_SE3_sensor)
    assert apply(sample, sensor, Weather.parse("rain=9"), weather_rng(0, "IMU", 0)) is sample


@pytest.mark.parametrize("text", WEATHERS)
def test_single_measurements_agree_with_frames(frame, drive, text):
    weather = Weather.parse(text)
    whole = apply_to_snapshot(frame, drive.rig, weather, seed=2)
    sweep = frame.lidar["LIDAR_TOP"][0]
    alone = apply(sweep, drive.rig["LIDAR_TOP"], weather, weather_rng(2, "LIDAR_TOP", sweep.stamp_ns))
    assert isinstance(alone, LidarSweep)
    assert (alone.points == whole.lidar["LIDAR_TOP"][0].points).all()
    image, sensor = frame.cameras["CAM_FRONT"], drive.rig["CAM_FRONT"]
    base = drive.rig["LIDAR_TOP"].base_SE3_sensor.transform(sweep.points[:, :3].astype(np.float64))
    seen = apply(image, sensor, weather, weather_rng(2, "CAM_FRONT", image.stamp_ns), base_points=base)
    assert isinstance(seen, CameraImage)
    assert seen.jpeg == whole.cameras["CAM_FRONT"].jpeg


# ---------------------------------------------------------------- pictures
def test_koschmieder_is_exact():
    pixels = np.full((4, 6, 3), 40, np.uint8)
    depth = np.repeat([[0.0, 10, 20, 50, 100, 1e4]], 4, axis=0).astype(np.float32)
    out = picture.koschmieder(pixels, depth, 0.06, np.full(3, 200, np.float32))
    clear = np.exp(-0.06 * depth)
    assert out[..., 0] == pytest.approx(40 * clear + 200 * (1 - clear), abs=0.51)
    # At the visibility, 5 % of the contrast are left: that is its definition.
    assert out[0, 3, 0] == pytest.approx(200 - 0.05 * 160, abs=1)


def test_depth_is_the_ground_below_and_the_sky_above(drive):
    sensor = drive.rig["CAM_FRONT"]
    depth = depth_of(sensor)
    height_m = sensor.base_SE3_sensor.translation[2]
    model = sensor.camera
    down = np.arctan2(model.height_px - 0.5 - model.intrinsics[1, 2], model.intrinsics[1, 1])
    assert depth[-1, depth.shape[1] // 2] == pytest.approx(height_m / np.sin(down), rel=0.03)
    assert (depth[0] == SKY_M).all()
    assert (np.diff(depth[:, depth.shape[1] // 2]) <= 1e-3).all()


def test_depth_takes_the_nearest_lidar_point(drive):
    sensor = drive.rig["CAM_FRONT"]
    yz = np.stack(np.meshgrid(np.linspace(-6, 6, 200), np.linspace(0, 4, 80)), axis=-1).reshape(-1, 2)
    walls = [np.column_stack([np.full(len(yz), x), yz]) for x in (25.0, 12.0)]
    depth = depth_of(sensor, np.concatenate(walls))
    middle = depth[:, depth.shape[1] // 2]
    ahead_m = 12.0 - sensor.base_SE3_sensor.translation[0]
    assert middle[depth.shape[0] // 2] == pytest.approx(ahead_m, rel=0.03)
    assert (depth_of(sensor) != depth).any()


def test_far_things_pale_more_than_near_ones(frame, drive):
    image = replace(frame.cameras["CAM_FRONT"], jpeg=None, pixels=np.zeros((54, 96, 3), np.uint8))
    bright = image.pixels.copy()
    bright[:20] = 220
    image = replace(image, pixels=bright)
    rng = weather_rng(0, "CAM_FRONT", 0)
    out = apply(image, drive.rig["CAM_FRONT"], Weather.parse("fog=50"), rng)
    assert isinstance(out, CameraImage)
    column = out.pixels[:, 48, 0].astype(int)
    assert column[32] > column[40] > column[53]
    assert (image.pixels == bright).all()


def test_fog_at_night_is_dark():
    dark = np.full((40, 60, 3), 8, np.uint8)
    assert picture.air_light(dark).max() < 12


@pytest.mark.parametrize("text", ["rain=25", "snow=5"])
def test_drops_show_more_the_harder_it_falls(text):
    weather = Weather.parse(text)
    fall = picture.RAIN if weather.rain_mmph else picture.SNOW
    heavy = Weather.parse(text.replace("25", "100").replace("=5", "=20")).particles
    covers = [picture.falling((180, 320), 250.0, p, fall, np.random.default_rng(0)) for p in (weather.particles, heavy)]
    assert covers[0].max() > 0.05
    assert all(c.min() >= 0 and c.max() <= 1 and c.mean() < 0.2 for c in covers)
    assert covers[1].mean() > covers[0].mean()


def test_pictures_keep_their_form(frame, drive):
    pixels = decode(frame.cameras["CAM_FRONT"])
    _, png = cv2.imencode(".png", pixels)
    sensor, weather = drive.rig["CAM_FRONT"], Weather.parse("fog=100")
    for image in (frame.cameras["CAM_FRONT"], CameraImage(1, jpeg=bytes(png)), CameraImage(1, pixels=pixels)):
        out = apply(image, sensor, weather, weather_rng(0, "CAM_FRONT", 1))
        assert isinstance(out, CameraImage)
        assert (out.pixels is None) == (image.pixels is None)
        assert (out.jpeg or b"")[:4] == (image.jpeg or b"")[:4]
        assert decode(out).shape == pixels.shape


def test_what_is_no_picture_is_named(drive):
    with pytest.raises(DataError, match="neither JPEG nor PNG"):
        apply(CameraImage(0, jpeg=b"no"), drive.rig["CAM_FRONT"], Weather.parse("fog=50"), weather_rng(0, "C", 0))


@pytest.mark.parametrize("text", WEATHERS)
def test_empty_measurements_stay_harmless(drive, text):
    weather, rng = Weather.parse(text), weather_rng(0, "LIDAR_TOP", 0)
    sweep = apply(LidarSweep(0, np.zeros((0, 5), np.float32)), drive.rig["LIDAR_TOP"], weather, rng)
    assert isinstance(sweep, LidarSweep)
    assert sweep.points.shape == (0, 5)
    cycle = apply(RadarSweep(0, np.zeros(0, RADAR_DTYPE)), drive.rig["RADAR_FRONT"], weather, rng)
    assert isinstance(cycle, RadarSweep)
    assert cycle.points.dtype == RADAR_DTYPE
